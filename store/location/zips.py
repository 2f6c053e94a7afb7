"""ZIP files that hold a recording or a result, here or at a URL; what must not be opened is refused."""

import io
import os
import stat
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import IO, Any
from zipfile import BadZipFile, ZipInfo

from fsspec import AbstractFileSystem
from fsspec.implementations.zip import ZipFileSystem

from ..errors import InputError, MissingFileError
from ..safe_names import leads_out
from .filesystems import file_system, is_local
from .retries import clear_errors

_READ_AHEAD = 2**18
_BOMB_BYTES, _BOMB_RATIO = 2**24, 100  # chunks are compressed already, and of text ZIP takes nine tenths
_METHODS = (0, 8)  # stored and deflated; of bzip2 and LZMA a few bytes unpack to gigabytes at once
_ENCRYPTED = 0x1


def open_zip(url: str) -> tuple[AbstractFileSystem, str]:
    """Open a ZIP file; return it as a file system, and the folder in it that holds the group.

    Raises
    ------
    InputError
        It is no ZIP file, or one with members that lead out of it, are links, encrypted, there
        twice, or of a size that only a bomb has.
    MissingFileError
        There is no such file.
    """
    fs, path = file_system(url)
    with nullcontext() if is_local(fs) else clear_errors(f"{url} cannot be read"):
        try:
            zipped = ZipFileSystem(path if is_local(fs) else RemoteFile(fs, path))
        except FileNotFoundError as error:
            raise MissingFileError(f"there is no ZIP file at {url}; one can be read, not written") from error
        except BadZipFile as error:
            raise InputError(f"{url} is no path and no URL that can be read: {error}") from error
    members = zipped.zip.infolist()
    check_members(members, url)
    return zipped, _folder([member.filename for member in members])


def check_members(members: Sequence[ZipInfo], where: str) -> None:
    """Refuse a ZIP file by its table of contents, before anything in it is unpacked.

    Parameters
    ----------
    members
        What the table lists.
    where
        Path or URL of the file, for the error messages.

    Raises
    ------
    InputError
        A member leads out of it, is a link, encrypted, there twice, packed in a way that is not known, or
        of a size that only a bomb has.
    """
    for refuse, problem in _REFUSALS.items():
        bad = next(filter(refuse, members), None)
        if bad is not None:
            raise InputError(f"{where} is refused: its member {bad.filename!r} {problem}")
    twice = [name for name, count in Counter(member.filename for member in members).items() if count > 1]
    if twice:
        raise InputError(f"{where} is refused: its member {twice[0]!r} is there twice")


def _folder(names: list[str]) -> str:
    """Return the one folder that everything is in, as most programs pack it; "" where there is none."""
    folder = names[0].partition("/")[0] if names else ""
    return folder if f"{folder}/zarr.json" in names and "zarr.json" not in names else ""


def _leads_out(member: ZipInfo) -> bool:
    return leads_out(member.filename.removesuffix("/"))  # which a folder has


def _is_link(member: ZipInfo) -> bool:
    return stat.S_ISLNK(member.external_attr >> 16)


def _is_bomb(member: ZipInfo) -> bool:
    return member.file_size > max(_BOMB_BYTES, _BOMB_RATIO * member.compress_size)


_REFUSALS: dict[Callable[[ZipInfo], bool], str] = {
    _leads_out: "leads out of it",
    _is_link: "is a symbolic link",
    _is_bomb: "is far larger than what it is packed in",
    lambda member: bool(member.flag_bits & _ENCRYPTED): "is encrypted",
    lambda member: member.compress_type not in _METHODS: "is compressed by a method that is not known",
}


class RemoteFile(io.RawIOBase):
    """A remote file read range by range; from a copy where the server knows no ranges.

    Parameters
    ----------
    fs, path
        The file.
    """

    def __init__(self, fs: AbstractFileSystem, path: str) -> None:
        super().__init__()
        self._fs, self._path = fs, path
        info = fs.info(path)
        self._size, self._place = info["size"], 0
        self._ahead, self._ahead_start = b"", 0
        self._copy: IO[bytes] | None = None
        if self._size is None or not info.get("partial", True):
            self._copy = tempfile.TemporaryFile()
            fs.get_file(path, self._copy)
            self._size = self._copy.seek(0, os.SEEK_END)

    def __reduce__(self) -> Any:
        """Open the file again in another process."""
        return type(self), (self._fs, self._path)

    def close(self) -> None:
        """Give the copy up."""
        if self._copy is not None:
            self._copy.close()
        super().close()

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def seekable(self) -> bool:
        """Say that any place can be read."""
        return True

    def tell(self) -> int:
        """Return the place."""
        return self._place

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Go to a place."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        self._place = max(0, start + offset)
        return self._place

    def read(self, size: int | None = -1, /) -> bytes:
        """Read on, so many bytes or up to the end."""
        end = self._size if size is None or size < 0 else min(self._size, self._place + size)
        if end <= self._place:
            return b""
        content = self._range(self._place, end)
        self._place += len(content)
        return content

    def _range(self, start: int, end: int) -> bytes:
        if self._copy is not None:
            self._copy.seek(start)
            return self._copy.read(end - start)
        first = start - self._ahead_start
        if first < 0 or end > self._ahead_start + len(self._ahead):
            self._ahead = self._fs.cat_file(
                self._path, start=start, end=min(self._size, max(end, start + _READ_AHEAD))
            )
            self._ahead_start, first = start, 0
        return self._ahead[first : first + end - start]
