"""The entries of a catalog: listed, searched, changed and saved, without opening a store."""

import difflib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..errors import InputError, MissingFileError, StorageError, UnknownNameError
from .edit import write_changes
from .entry import Entry, read_entry
from .listed import Listed, merge, read_listed
from .origin import TEMPLATE, Origin
from .search import ancestors, matches

if TYPE_CHECKING:
    import xarray as xr

State = Literal["built", "not built", "remote"]


class Catalog(Mapping[str, Entry]):
    """The entries of one or several catalogs, by name.

    Parameters
    ----------
    path
        The YAML file, or its URL.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        origin = Origin.of(path)
        self._origins: tuple[Origin, ...] = (origin,)
        self._fixed = ""  # why nothing can be entered, if it cannot
        self._listed = read_listed(origin)
        self._before: dict[str, Entry | None] = {}  # of the entries that were changed

    def _with(self, listed: Mapping[str, Listed], origins: Iterable[Origin], fixed: str) -> "Catalog":
        other = object.__new__(Catalog)
        other._listed, other._origins = dict(listed), tuple(dict.fromkeys(origins))
        other._fixed, other._before = fixed, {}
        return other

    def merged(self, others: Iterable["Catalog"]) -> "Catalog":
        """Return this and others as one, which can be read.

        Raises
        ------
        InputError
            Two list different entries under one name.
        """
        several = [self, *others]
        origins = [origin for catalog in several for origin in catalog._origins]
        return self._with(merge(c._listed for c in several), origins, "it is several files")

    def __str__(self) -> str:
        """Return the paths or URLs of its files."""
        return " and ".join(map(str, self._origins))

    @property
    def path(self) -> Path:
        """The file of a catalog on this machine.

        Raises
        ------
        InputError
            It is remote, or several.
        """
        if len(self._origins) > 1 or not self._origins[0].is_local:
            raise InputError(
                f"catalog {self} is not one file of this machine; open the one that is to change"
            )
        return Path(self._origins[0].file)

    def __getitem__(self, name: str) -> Entry:
        """Return an entry; an unknown name raises UnknownNameError with the close matches."""
        return self._find(name).entry

    def _find(self, name: str) -> Listed:
        if name not in self._listed:
            close = difflib.get_close_matches(str(name), self._listed, n=3)
            known = sorted(self._listed)
            more = f" and {len(known) - 10} more" if len(known) > 10 else ""
            hint = f"did you mean {' or '.join(close)}?" if close else f"it has {known[:10]}{more}"
            raise UnknownNameError(f"catalog {self} has no entry {name!r}; {hint}")
        return self._listed[name]

    def _entry(self, name: str) -> Entry | None:
        listed = self._listed.get(name)
        return None if listed is None else listed.entry

    def __contains__(self, name: object) -> bool:
        """Say whether there is an entry of a name, without looking for close matches."""
        return name in self._listed

    def __iter__(self) -> Iterator[str]:
        """Go through the names, in the order of the files."""
        return iter(self._listed)

    def __len__(self) -> int:
        """Count the entries."""
        return len(self._listed)

    def address(self, name: str) -> str:
        """Return the path or URL that an entry names; nothing is looked at."""
        return self._find(name).address

    def location(self, name: str) -> str:
        """Return the path or URL of an entry, to be opened.

        Raises
        ------
        UnknownNameError, InputError
            There is no such entry; a symbolic link leads out of the catalog's folder.
        """
        listed = self._find(name)
        path = listed.address
        listed.origin.check_links(listed.entry.args.urlpath, path, name)
        return path

    def is_built(self, name: str) -> bool:
        """Say whether there is something at the entry's location; a remote one is asked."""
        from ..location import Location

        try:
            return Location.of(self.location(name)).exists()
        except MissingFileError:  # a ZIP file, which is looked into here
            return False

    def state(self, name: str) -> State:
        """Say whether an entry is built without opening it; a remote one is not asked."""
        path = self.address(name).removeprefix("file://")
        if "://" in path:
            return "remote"
        if os.path.exists(path if path.endswith(".zip") else f"{path}/zarr.json"):
            return "built"
        if "@" not in path and not path.endswith(".icechunk"):
            return "not built"
        try:
            return "built" if self.is_built(name) else "not built"
        except UnknownNameError:  # there is no such version
            return "not built"

    def open(self, name: str, **options: Any) -> "xr.Dataset":
        """Open an entry; `options` as for `actome.open`."""
        from ..archive import open as open_archive

        self[name.partition("@")[0]]  # a name that it lacks is an error even where a file has that name
        return open_archive(name, catalog=self, **options)

    def search(
        self,
        *,
        tag: str | Iterable[str] | None = None,
        condition: str | None = None,
        model: str | None = None,
        site: str | None = None,
        licence: str | None = None,
        kind: str | None = None,
        text: str | None = None,
    ) -> "Catalog":
        """Return the entries that fit all that is given, as a catalog that can be read.

        Nothing is opened: what an entry does not say of itself is not found.

        Parameters
        ----------
        tag
            A tag, or several that an entry must have all.
        condition, model, site, licence, kind
            A value of the entry's metadata; ``*`` and ``?`` stand for any letters and any one.
        text
            Part of the name, the description, the tags, the model or the citation, in any case.
        """
        tags = [tag] if isinstance(tag, str) else list(tag or ())
        values = {"model": model, "licence": licence, "kind": kind, "sites": site, "conditions": condition}
        asked = {field: value for field, value in values.items() if value is not None}
        found = {n: x for n, x in self._listed.items() if matches(n, x.entry, tags, asked, text)}
        return self._with(found, self._origins, "it is what a search found")

    def lineage(self, name: str) -> list[str]:
        """Return what an entry was derived from, and what that was, the nearest first.

        Entries of the catalog, by name or digest, stand under their names; what it does not hold
        stands as it was written.

        Raises
        ------
        UnknownNameError
            There is no such entry.
        """
        self._find(name)
        return ancestors(name, self)

    def add(
        self, name: str, urlpath: str, *, description: str = "", look: bool = True, **metadata: Any
    ) -> None:
        """Enter a recording or a result; `save` writes it down.

        Parameters
        ----------
        name
            A name that is not taken.
        urlpath
            Its location: a path relative to the catalog, an absolute path, or a URL.
        description
            One line.
        look
            Take what is not given from the store at the location, if there is one: kind, model,
            sites, conditions, shape, licence, digest, creation time, what it was derived from.
        **metadata
            Fields of `Metadata`.

        Raises
        ------
        InputError
            The name is taken or is a path, the location leads out of the folder, a field is unknown,
            or this is no catalog of one file on this machine.
        StorageError
            The location is remote and cannot be asked.
        """
        origin = self._changeable()
        if name in self._listed:
            raise InputError(f"catalog {self} has an entry {name!r} already; choose another name")
        if not ("://" in urlpath or os.path.isabs(urlpath) or urlpath.startswith("{{")):
            urlpath = f"{TEMPLATE}/{urlpath}"
        source = {
            "driver": "zarr",
            "description": description,
            "args": {"urlpath": urlpath},
            "metadata": metadata,
        }
        listed = Listed.of(name, read_entry(name, source, origin.file), origin)
        path = listed.address
        if look:
            from .stored_metadata import stored_metadata

            origin.check_links(urlpath, path, name)
            try:
                source["metadata"] = {**stored_metadata(path), **metadata}
            except StorageError as error:
                raise StorageError(f"{error}; or give look=False to enter it unseen (--no-look)") from error
            listed = Listed.of(name, read_entry(name, source, origin.file), origin)
        self._put(name, listed)

    def remove(self, name: str) -> None:
        """Take an entry out of the catalog; its data stay where they are. `save` writes it down.

        Raises
        ------
        UnknownNameError, InputError
            There is no such entry; this is no catalog of one file on this machine.
        """
        self._changeable()
        self._before.setdefault(name, self[name])
        del self._listed[name]

    def tag(self, name: str, *tags: str) -> None:
        """Give an entry further tags; `save` writes them down.

        Raises
        ------
        UnknownNameError, InputError
            There is no such entry; this is no catalog of one file on this machine.
        """
        origin = self._changeable()
        entry = self[name]
        metadata = {
            **entry.metadata.model_dump(),
            "tags": tuple(dict.fromkeys((*entry.metadata.tags, *tags))),
        }
        source = {**entry.model_dump(), "metadata": metadata}
        self._put(name, Listed.of(name, read_entry(name, source, origin.file), origin))

    def refresh(self, name: str) -> None:
        """Take anew what an entry's store says of itself, such as its digest; `save` writes it down.

        Raises
        ------
        UnknownNameError, InputError
            There is no such entry; this is no catalog of one file on this machine.
        StorageError
            The location is remote and cannot be asked.
        """
        from .stored_metadata import stored_metadata

        origin = self._changeable()
        entry = self[name]
        metadata = {**entry.metadata.model_dump(), **stored_metadata(self.location(name))}
        source = {**entry.model_dump(), "metadata": metadata}
        self._put(name, Listed.of(name, read_entry(name, source, origin.file), origin))

    def _put(self, name: str, listed: Listed) -> None:
        self._before.setdefault(name, self._entry(name))
        self._listed[name] = listed

    def _changeable(self) -> Origin:
        if self._fixed:
            raise InputError(f"catalog {self} cannot be changed: {self._fixed}; open its file alone")
        if not self._origins[0].is_local:
            raise InputError(
                f"catalog {self} cannot be changed: it is remote; change the file where it is kept"
            )
        return self._origins[0]

    def save(self) -> None:
        """Write the changes into the file, keeping its comments, its order and what others changed.

        Raises
        ------
        InputError
            This is no catalog of one file on this machine; another has entered something else under
            a name meanwhile; the file is written in a way that cannot be edited.
        """
        self._changeable()
        after = {name: self._entry(name) for name in self._before}
        if after:
            write_changes(Path(os.path.realpath(self.path)), self._before, after)
        self._before = {}
