"""What a package is written into: a folder, or one ZIP file; it is there whole or not at all."""

import hashlib
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Protocol

from .. import provenance
from ..errors import InputError
from ..housekeeping.staging import staged

PIECE = 2**24  # bytes read at a time
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the first day a ZIP file knows: equal content gives equal bytes


class Container(Protocol):
    """Takes the members of a package.

    Attributes
    ----------
    digests, sizes
        SHA-256 in hexadecimal, and bytes, of what was taken so far, by name.
    """

    digests: dict[str, str]
    sizes: dict[str, int]

    def add(self, name: str, content: bytes) -> None:
        """Take a member."""

    def add_file(self, name: str, path: Path) -> None:
        """Take a file of the local disk, which is gone from there afterwards."""


class Folder:
    """A package as a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.digests: dict[str, str] = {}
        self.sizes: dict[str, int] = {}
        root.mkdir()

    def add(self, name: str, content: bytes) -> None:
        """Take a member."""
        path = self._new(name)
        path.write_bytes(content)
        self.digests[name] = hashlib.sha256(content).hexdigest()
        self.sizes[name] = len(content)

    def add_file(self, name: str, path: Path) -> None:
        """Take a file of the same disk by renaming it."""
        self.digests[name], self.sizes[name] = digest_file(path), path.stat().st_size
        path.replace(self._new(name))

    def _new(self, name: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def __enter__(self) -> "Folder":
        """Nothing is to be opened."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is to be closed."""


class Zip:
    """A package, or an entry of one, as a ZIP file: stored, not compressed again."""

    def __init__(self, path: Path) -> None:
        self._zip = zipfile.ZipFile(path, "x", zipfile.ZIP_STORED, allowZip64=True)
        self.digests: dict[str, str] = {}
        self.sizes: dict[str, int] = {}

    def add(self, name: str, content: bytes) -> None:
        """Take a member."""
        self._zip.writestr(_info(name), content)
        self.digests[name] = hashlib.sha256(content).hexdigest()
        self.sizes[name] = len(content)

    def add_file(self, name: str, path: Path) -> None:
        """Copy a file into the ZIP file and remove it."""
        h = hashlib.sha256()
        info = _info(name)
        info.file_size = path.stat().st_size  # decides on ZIP64
        with path.open("rb") as source, self._zip.open(info, "w") as target:
            for piece in pieces_of(source):
                target.write(piece)
                h.update(piece)
        path.unlink()
        self.digests[name], self.sizes[name] = h.hexdigest(), info.file_size

    def __enter__(self) -> "Zip":
        """Return itself; it is open already."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write the table of contents."""
        self._zip.close()


def _info(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, _EPOCH)
    info.create_system = 3  # Unix, wherever it is written
    info.external_attr = (stat.S_IFREG | 0o644) << 16
    return info


def pieces_of(file: IO[bytes]) -> Iterator[bytes]:
    """Read an open file piece by piece."""
    while piece := file.read(PIECE):
        yield piece


def digest_file(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal, as ``sha256sum`` writes it."""
    return provenance.digest_file(path).removeprefix("sha256:")


def check_free(out: Path) -> None:
    """Refuse a place that is taken or cannot be written, before any work.

    Raises
    ------
    InputError
        There is something already, or no folder in which it could be made.
    """
    if out.exists():
        raise InputError(f"there is something at {out} already; choose another path or remove it")
    if not out.absolute().parent.is_dir():
        raise InputError(f"{out} cannot be written: there is no folder {out.parent}; make it first")


@contextmanager
def new_container(out: Path) -> Iterator[tuple[Container, Path]]:
    """Write a folder, or a ZIP file where the name ends so; it appears when the ``with`` block ends well.

    Yields
    ------
    The container, and a folder of the same disk for what is made on the way.
    """
    with staged(out, "export") as work:
        partial, scratch = work / "package", work / "scratch"
        scratch.mkdir()
        with Zip(partial) if out.suffix == ".zip" else Folder(partial) as container:
            yield container, scratch
        partial.replace(out)
