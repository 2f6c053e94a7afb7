"""A package as it arrives: a folder or a ZIP file, read member by member, nothing of it trusted."""

import os
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import DamagedError, InputError, MissingFileError
from ..location.zips import check_members
from ..yaml import MAX_BYTES
from . import checksums
from .checksums import check_names, check_sums, read_sums
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
                    member = path.relative_to(self.path).as_posix()
                    raise InputError(f"{self.path}: {member!r} is a link; nothing of it is entered")
            found += [(Path(folder) / name).relative_to(self.path).as_posix() for name in files]
        return sorted(found)

    def size(self, name: str) -> int:
        """Return the bytes of a member; nothing of it is read."""
        return (self.path / name).stat().st_size

    def pieces(self, name: str) -> Iterator[bytes]:
        """Read a member piece by piece."""
        with (self.path / name).open("rb") as file:
            yield from pieces_of(file)

    def read(self, name: str, *, most: int = MAX_BYTES) -> bytes:
        """Return a member of at most so many bytes.

        Raises
        ------
        InputError
            It has more.
        """
        if self.size(name) > most:
            raise InputError(
                f"{self.path}: {name} has {self.size(name):,} bytes, and {most:,} are read at most"
            )
        return b"".join(self.pieces(name))

    def sums(self) -> dict[str, str]:
        """Return the digests that the package says its members have, by name.

        Raises
        ------
        InputError
            They are too many, or not as `read_sums` takes them.
        """
        content = self.read(checksums.NAME, most=checksums.MOST_BYTES)
        return read_sums(content.decode(errors="replace"), str(self.path))

    def check(self) -> None:
        """Refuse a package that is not, to the byte, what was exported.

        Raises
        ------
        InputError, DamagedError
            A name leads out of the package; a member is damaged, missing or not listed.
        """
        check_names(self.names(), str(self.path))
        check_sums(self, self.sums(), str(self.path))

    def copy(self, name: str, path: Path) -> None:
        """Copy a member to a file that is not there yet.

        Raises
        ------
        InputError
            The disk has no room for it.
        """
        _check_room(path.parent, self.size(name))
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            file.writelines(self.pieces(name))

    def copy_below(self, prefix: str, folder: Path) -> None:
        """Copy the members whose names begin with `prefix` into a folder, without it.

        Raises
        ------
        InputError
            A name leads out of the package; the disk has no room for all of them.
        """
        names = [name for name in self.names() if name.startswith(prefix)]
        check_names(names, str(self.path))
        _check_room(folder, sum(map(self.size, names)))
        for name in names:
            self.copy(name, folder / name.removeprefix(prefix))


class ZipContents(Contents):
    """The members of a package, or of an entry, that is a ZIP file.

    Raises
    ------
    InputError
        It is one that `check_members` refuses.
    """

    def __init__(self, path: Path, file: zipfile.ZipFile) -> None:
        super().__init__(path)
        check_members(file.infolist(), str(path))
        self._zip = file

    def names(self) -> list[str]:
        """Return the names of all members."""
        return sorted(info.filename for info in self._zip.infolist() if not info.is_dir())

    def size(self, name: str) -> int:
        """Return the bytes of a member, of which no more are ever unpacked."""
        return self._zip.getinfo(name).file_size

    def pieces(self, name: str) -> Iterator[bytes]:
        """Read a member piece by piece; one that cannot be unpacked raises DamagedError."""
        try:
            with self._zip.open(name) as file:
                yield from pieces_of(file)
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise DamagedError(f"{self.path}: {name} cannot be unpacked: {error}; copy it again") from error


def _check_room(folder: Path, n_bytes: int) -> None:
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(nearest).free
    if n_bytes > free:
        raise InputError(
            f"{folder} would take {n_bytes:,} bytes, and {free:,} are free on its disk; make room"
        )


@contextmanager
def open_contents(path: Path) -> Iterator[Contents]:
    """Open a folder or a ZIP file.

    Raises
    ------
    MissingFileError, InputError
        There is nothing at `path`; it is neither, or a ZIP file that `check_members` refuses.
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
    """Say whether a path holds a package: a folder or ZIP file with a catalog and checksums.

    Raises
    ------
    InputError
        It is a ZIP file that `check_members` refuses.
    """
    place, needed = Path(path), {_CATALOG, checksums.NAME}
    if place.is_dir():
        return all((place / name).is_file() for name in needed)
    if not place.is_file() or not zipfile.is_zipfile(place):
        return False
    with open_contents(place) as contents:
        return needed <= set(contents.names())
