"""What goes into a package: entries of an archive, with what their catalog says of them."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..catalog import Catalog, CatalogLike, Entry, open_catalog, resolve
from ..errors import DamagedError, InputError
from ..index.build import is_current
from ..location import Location
from ..location.filesystems import size_of
from ..manifest import INDEX, INDEX_MANIFEST, MANIFEST, ROOT, listed_files
from ..provenance import digest_bytes
from ..safe_names import fits_package
from .container import Container
from .cut import Cut
from .description import Array, read_root
from .results import check_result, has_text, write_hidden
from .subset import Part

Names = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


@dataclass(frozen=True)
class Source:
    """A recording or a result that is exported.

    Attributes
    ----------
    name
        Its name in the package.
    location
        Where it is.
    attrs, arrays
        Its root attributes, and its arrays by path.
    entry
        Its entry in the catalog that it was found by; None for a path.
    """

    name: str
    location: Location
    attrs: dict[str, Any]
    arrays: dict[str, Array]
    entry: Entry | None = field(default=None)

    @property
    def is_recording(self) -> bool:
        """Whether it is a recording, not a result."""
        return self.attrs.get("kind") == "recording"

    def check(self, cut: Cut) -> None:
        """Refuse a cut that it cannot have; `Part` and `check_result` say which."""
        if not self.is_recording:
            check_result(self.location, self.arrays, cut)
        elif not cut.is_whole:
            Part(self.location, cut)

    def n_bytes(self, cut: Cut) -> int:
        """Bytes of the export: of the files for a whole copy, before compression for a part."""
        if self.is_recording and not cut.is_whole:
            return Part(self.location, cut).n_bytes
        folder = f"{self.location.root}/" if self.location.root else ""
        keys = map(self.location.quoted, _manifest(self.location))
        return sum(size_of(self.location.fs, f"{folder}{key}") for key in keys)

    def exported(self, cut: Cut, scratch: Path) -> Location:
        """Return where the files of the export are: its own, or those of a part, written here."""
        part = Location.of(scratch / f"{self.name}.zarr")
        if self.is_recording and not cut.is_whole:
            Part(self.location, cut).write(part)
        elif not self.is_recording and has_text(self.arrays, cut):
            write_hidden(self.location, self.arrays, cut, part)
        else:
            return self.location
        return part


def find_sources(names: Names, catalog: CatalogLike | None) -> list[Source]:
    """Look up what is to be exported.

    Raises
    ------
    InputError, MissingFileError, UnknownNameError
        No name is given, or one twice; an entry is not finished, or has a name that no package can hold;
        a path or name leads nowhere.
    """
    several = [names] if isinstance(names, (str, os.PathLike)) else list(names)
    if not several:
        raise InputError("nothing to export: give at least one name or path")
    sources = [_find(name, catalog) for name in several]
    known: set[str] = set()
    for source in sources:
        if not fits_package(source.name):
            raise InputError(
                f"{source.name!r} cannot be a name in a package: only letters, digits and . _ + - can; "
                "enter it in a catalog under such a name"
            )
        if source.name in known:
            raise InputError(f"two entries have the name {source.name!r}; export them apart")
        known.add(source.name)
    return sources


def _find(name: str | os.PathLike[str], catalog: CatalogLike | None) -> Source:
    location = Location.of(resolve(name, catalog))
    attrs, arrays = read_root(location)
    if catalog is None and Path("catalog.yaml").is_file():
        catalog = "catalog.yaml"
    entries = catalog if isinstance(catalog, Catalog) or catalog is None else open_catalog(catalog)
    text = os.fspath(name)
    entry = None if entries is None or text not in entries else entries[text]
    if entry is not None and entries is not None and resolve(name, catalog) == entries.location(text):
        return Source(text, location, attrs, arrays, entry)
    plain = location.name.removesuffix(".zip").removesuffix(".zarr").replace("@", "-")  # NAME@VERSION
    return Source(plain, location, attrs, arrays)


def copy_files(location: Location, container: Container, prefix: str, bar: Any) -> None:
    """Copy every file that the manifest names, and a derived index, byte by byte.

    Parameters
    ----------
    location, container, prefix
        From where, into what, under which name.
    bar
        A tqdm bar of bytes.

    Raises
    ------
    DamagedError
        A file is not the one that was written.
    """
    files = {**_manifest(location), **_index_files(location)}
    for key in sorted({*files, MANIFEST}):
        content = location.read(key)
        if key in files and key != ROOT and digest_bytes(content) != files[key]:
            raise _damaged(location, key)
        container.add(f"{prefix}{key}", content)
        bar.update(len(content))


def _manifest(location: Location) -> dict[str, str]:
    """Return the digests by key, once the manifest is the one that the root names."""
    content = location.read(MANIFEST)
    attrs, _ = read_root(location)
    files = listed_files(content)
    if files is None or digest_bytes(content) != attrs["manifest_digest"]:
        raise _damaged(location, MANIFEST)
    return files


def _index_files(location: Location) -> dict[str, str]:
    """Return the digests of a derived index by key; none where there is none, or one of other numbers."""
    if not is_current(location):
        return {}
    content = location.read(INDEX_MANIFEST)
    files = listed_files(content)
    if files is None or not all(key.startswith(INDEX) for key in files):
        raise _damaged(location, INDEX_MANIFEST)
    return {INDEX_MANIFEST: digest_bytes(content), **files}


def _damaged(location: Location, key: str) -> DamagedError:
    return DamagedError(
        f"{location}: {key} is damaged; `actome verify` names all that is, nothing is exported"
    )
