"""A package as it arrives: a folder or a ZIP file, read member by member, nothing of it trusted."""

import os
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

from ..errors import InputError, MissingFileError
from .checksums import NAME, check_names, check_sums, read_sums
from .container import pieces_of

_CATALOG = "catalog.yaml"


class Contents:
    """The members of a package that is a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def names(self) -> list[str]:
        """Return the names of all members.

        Raises
        ------
        InputError
            One is a link, which could lead anywhere.
        """
        found = []
        for folder, folders, files in os.walk(self.path):
            for name in (*folders, *files):
                path = Path(folder) / name
                if path.is_symlink():
                    raise _link(self.path, path.relative_to(self.path).as_posix())
            found += [(Path(folder) / name).relative_to(self.path).as_posix() for name in files]
        return sorted(found)

    def pieces(self, name: str) -> Iterator[bytes]:
        """Read a member piece by piece."""
        with (self.path / name).open("rb") as file:
            yield from pieces_of(file)

    def read(self, name: str) -> bytes:
        """Return a member."""
        return b"".join(self.pieces(name))

    def check(self) -> None:
        """Refuse a package that is not, to the byte, what was exported.

        Raises
        ------
        InputError, DamagedError
            A name leads out of the package; a member is damaged, missing or not listed.
        """
        check_names(self.names(), str(self.path))
        sums = read_sums(self.read(NAME).decode(errors="replace"), str(self.path))
        check_sums(self, sums, str(self.path))

    def copy(self, name: str, path: Path) -> None:
        """Copy a member to a file that is not there yet."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            file.writelines(self.pieces(name))

    def copy_below(self, prefix: str, folder: Path) -> None:
        """Copy the members whose names begin with `prefix` into a folder, without it."""
        names = [name for name in self.names() if name.startswith(prefix)]
        check_names(names, str(self.path))
        for name in names:
            self.copy(name, folder / name.removeprefix(prefix))


class ZipContents(Contents):
    """The members of a package, or of an entry, that is a ZIP file."""

    def __init__(self, path: Path, file: zipfile.ZipFile) -> None:
        super().__init__(path)
        self._zip = file

    def names(self) -> list[str]:
        """Return the names of all members; links and names that stand twice are refused."""
        members = [info for info in self._zip.infolist() if not info.is_dir()]
        for info in members:
            if stat.S_ISLNK(info.external_attr >> 16):
                raise _link(self.path, info.filename)
        names = sorted(info.filename for info in members)
        twice = [a for a, b in pairwise(names) if a == b]
        if twice:
            raise InputError(f"{self.path}: the name {twice[0]!r} stands twice; nothing of it is entered")
        return names

    def pieces(self, name: str) -> Iterator[bytes]:
        """Read a member piece by piece."""
        with self._zip.open(name) as file:
            yield from pieces_of(file)


def _link(path: Path, name: str) -> InputError:
    return InputError(f"{path}: {name!r} is a link; nothing of it is entered")


@contextmanager
def open_contents(path: Path) -> Iterator[Contents]:
    """Open a folder or a ZIP file.

    Raises
    ------
    MissingFileError, InputError
        There is nothing at `path`, or it is neither.
    """
    if path.is_dir():
        yield Contents(path)
        return
    if not path.is_file():
        raise MissingFileError(f"there is no package at {path}")
    try:
        file = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise InputError(f"{path} is no folder and no ZIP file: {error}; copy the package again") from error
    with file:
        yield ZipContents(path, file)


def is_package(path: str | os.PathLike[str]) -> bool:
    """Say whether a path holds a package: a folder or ZIP file with a catalog and checksums."""
    place = Path(path)
    if place.is_dir():
        return (place / _CATALOG).is_file() and (place / NAME).is_file()
    if not place.is_file() or not zipfile.is_zipfile(place):
        return False
    with zipfile.ZipFile(place) as file:
        return {_CATALOG, NAME} <= set(file.namelist())
