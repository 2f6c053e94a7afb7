"""`catalog.yaml`: the table of contents of a lab's archive, as strict Intake v1 YAML.

Nothing in a catalog is imported or executed: the one driver is ``zarr`` and the one template is
``{{ CATALOG_DIR }}``.
"""

import difflib
import io
import os
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

import pydantic
from ruamel.yaml import YAML

from .errors import InputError, MissingFileError, UnknownNameError
from .location import Location
from .yaml import describe, read_mapping

if TYPE_CHECKING:
    import xarray as xr

_TEMPLATE = "{{ CATALOG_DIR }}"


class _Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


class Recipe(_Strict):
    """How an entry is built again: a command, or the paradigm and the model to record."""

    command: str | None = None
    paradigm: str | None = None
    model: str | None = None


class Metadata(_Strict):
    """What a lab wants to know before it opens an entry."""

    recipe: Recipe | None = None
    shape: dict[str, int] | None = None
    licence: str | None = None
    digest: str | None = None
    tags: tuple[str, ...] = ()
    citation: str | None = None
    derived_from: tuple[str, ...] = ()


class _Args(_Strict):
    urlpath: str


class Entry(_Strict):
    """One recording or result of the catalog."""

    driver: Literal["zarr"]
    args: _Args
    description: str = ""
    metadata: Metadata = Metadata()


class _Document(_Strict):
    version: Literal[1]
    sources: dict[str, Entry]
    metadata: dict[str, str] = {}


class Catalog(Mapping[str, Entry]):
    """The entries of a catalog, by name.

    Parameters
    ----------
    path
        The YAML file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        content, _ = read_mapping(self.path, "catalog")
        self._entries = self._check(content)

    def _check(self, content: Mapping[str, Any]) -> dict[str, Entry]:
        try:
            entries = _Document.model_validate(content).sources
        except pydantic.ValidationError as error:
            raise InputError(f"catalog {self.path}: {describe(error)}") from error
        for name, entry in entries.items():
            if not name or _is_path(name):
                raise InputError(f"catalog {self.path}: a name must not be a path, got {name!r}")
            self._locate(name, entry)
        return entries

    def _locate(self, name: str, entry: Entry) -> str:
        url = entry.args.urlpath
        if "://" in url and "{{" not in url:
            return url
        if url.startswith(_TEMPLATE):
            url = url.removeprefix(_TEMPLATE).lstrip("/")
        if "{{" in url or "{%" in url:
            raise InputError(
                f"catalog {self.path}: entry {name!r}: the one template is {_TEMPLATE!r} at the start, "
                f"got {url!r}"
            )
        if ".." in PurePosixPath(url).parts:
            raise InputError(
                f"catalog {self.path}: entry {name!r} leads out of the catalog's folder: {url!r}"
            )
        return str(self.path.absolute().parent / url)

    def __getitem__(self, name: str) -> Entry:
        """Return an entry; an unknown name raises UnknownNameError with the close matches."""
        if name not in self._entries:
            close = difflib.get_close_matches(name, self._entries, n=3)
            hint = f"did you mean {' or '.join(close)}?" if close else f"it has {sorted(self._entries)}"
            raise UnknownNameError(f"catalog {self.path} has no entry {name!r}; {hint}")
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        """Go through the names, in the order of the file."""
        return iter(self._entries)

    def __len__(self) -> int:
        """Count the entries."""
        return len(self._entries)

    def location(self, name: str) -> str:
        """Return the path or URL of an entry."""
        return self._locate(name, self[name])

    def is_built(self, name: str) -> bool:
        """Say whether there is something at the entry's location."""
        url = self.location(name)
        try:
            return Location.of(url).exists()
        except MissingFileError:  # a ZIP file, which is looked into here
            return False

    def open(self, name: str, **options: Any) -> "xr.Dataset":
        """Open an entry; `options` as for `actome.open`."""
        from .archive import open as open_archive

        self[name]  # a name that it lacks is an error even where a file has that name
        return open_archive(name, catalog=self, **options)

    def add(self, name: str, urlpath: str, *, description: str = "", **metadata: Any) -> None:
        """Enter a recording or a result; `save` writes it down.

        Parameters
        ----------
        name
            A name that is not taken.
        urlpath
            Its location: a path relative to the catalog, an absolute path, or a URL.
        description
            One line.
        **metadata
            Fields of `Metadata`.

        Raises
        ------
        InputError
            The name is taken or is a path, the location leads out of the folder, or a field is unknown.
        """
        if name in self._entries:
            raise InputError(f"catalog {self.path} has an entry {name!r} already; choose another name")
        relative = "://" not in urlpath and not os.path.isabs(urlpath) and not urlpath.startswith("{{")
        source = {
            "driver": "zarr",
            "description": description,
            "args": {"urlpath": f"{_TEMPLATE}/{urlpath}" if relative else urlpath},
            "metadata": metadata,
        }
        entry = self._check({"version": 1, "sources": {name: source}})[name]
        self._entries[name] = entry

    def save(self) -> None:
        """Write the new entries into the file, keeping its comments and its order."""
        round_trip = YAML()
        round_trip.preserve_quotes = True
        round_trip.width = 2**16  # never fold a long line
        document = round_trip.load(self.path.read_text(encoding="utf-8"))
        for name, entry in self._entries.items():
            if name not in document["sources"]:
                document["sources"][name] = entry.model_dump(mode="json", exclude_defaults=True)
        text = io.StringIO()
        round_trip.dump(document, text)
        Location.of(self.path.absolute().parent).write(self.path.name, text.getvalue().encode())


def open_catalog(path: str | os.PathLike[str] = "catalog.yaml") -> Catalog:
    """Read a catalog.

    Parameters
    ----------
    path
        The YAML file.

    Raises
    ------
    MissingFileError, InputError
        There is no such file, or it is not a strict Intake v1 catalog.
    """
    return Catalog(path)


def resolve(
    name_or_path: str | os.PathLike[str], catalog: str | os.PathLike[str] | Catalog | None = None
) -> str:
    """Return the location that a name of the catalog, a path or a URL stands for.

    A text without a separator is a name of the catalog that is given. Where none is given, something
    of that name in the current folder comes before ``catalog.yaml``.

    Raises
    ------
    MissingFileError
        There is no such path, or an entry that is not built yet; the message says how to build it.
    UnknownNameError
        The catalog has no such name.
    """
    text = os.fspath(name_or_path)
    if not isinstance(name_or_path, str) or _is_path(text):
        return text
    here = Path(text).exists()
    if catalog is None:
        if here:
            return text
        if not Path("catalog.yaml").is_file():
            raise MissingFileError(
                f"there is nothing at {text!r}, and no catalog.yaml here to look the name up in"
            )
    if not isinstance(catalog, Catalog):
        catalog = open_catalog(catalog or "catalog.yaml")
    if here and text not in catalog:
        return text
    if not catalog.is_built(text):
        raise MissingFileError(
            f"entry {text!r} of {catalog.path} is not built yet{_how_to_build(catalog[text])}"
        )
    return catalog.location(text)


def _is_path(text: str) -> bool:
    return "/" in text or os.sep in text


def _how_to_build(entry: Entry) -> str:
    recipe = entry.metadata.recipe or Recipe()
    if recipe.command:
        return f"; build it with `{recipe.command}`"
    if recipe.paradigm and recipe.model:
        return f"; record the paradigm {recipe.paradigm} with the model {recipe.model}"
    return ""
