"""A place that holds one Zarr group: its files by key, and the store that zarr opens."""

import errno
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from zipfile import BadZipFile

import fsspec
import zarr
from zarr.abc.store import Store
from zarr.storage import FsspecStore, LocalStore

from .errors import InputError, MissingDependencyError, MissingFileError

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None


@dataclass(frozen=True)
class Location:
    """A folder on some file system, or a ZIP file that holds one (read only).

    Attributes
    ----------
    fs
        The fsspec file system.
    root
        The folder in it, without a trailing slash; "" is the top of a ZIP file.
    zip_file
        Path or URL of the ZIP file; "" for a folder.
    """

    fs: Any
    root: str
    zip_file: str = ""

    @classmethod
    def of(cls, path: str | os.PathLike[str]) -> "Location":
        """Locate a path or a URL.

        Raises
        ------
        InputError, MissingDependencyError, MissingFileError
            No such protocol is known; its package is not installed; there is no such ZIP file, or it
            is not one.
        """
        text = os.fspath(path)
        zip_file = text if text.endswith(".zip") and not Path(text).is_dir() else ""
        try:
            fs, root = fsspec.core.url_to_fs(f"zip://::{text}" if zip_file else text)
        except ImportError as error:
            raise MissingDependencyError(f"{text} cannot be reached: {error}") from error
        except FileNotFoundError as error:
            raise MissingFileError(f"there is no ZIP file at {text}; one can be read, not written") from error
        except (ValueError, BadZipFile) as error:
            raise InputError(f"{text} is no path and no URL that can be read: {error}") from error
        return cls(fs, root.rstrip("/"), zip_file)

    @property
    def is_local(self) -> bool:
        """Whether this is a folder of the local disk."""
        return "file" in (self.fs.protocol if isinstance(self.fs.protocol, tuple) else (self.fs.protocol,))

    @property
    def name(self) -> str:
        """The last part of the path."""
        return (self.zip_file or self.root).rsplit("/", 1)[-1]

    def __str__(self) -> str:
        """Return the path of a local folder or of a ZIP file, the URL elsewhere."""
        if self.is_local or self.zip_file:
            return self.zip_file or self.root
        return str(self.fs.unstrip_protocol(self.root))

    def _path(self, key: str) -> str:
        return f"{self.root}/{key}" if self.root else key

    def check_new(self) -> None:
        """Refuse a place where nothing new can be written, before any work is done for it.

        Raises
        ------
        InputError
            It holds files, it is a file or leads through one, or it must not be written.
        """
        if self.zip_file:
            raise InputError(f"{self} is a ZIP file: it can be read, not written; write a folder")
        if self.is_local:
            nearest = next(p for p in (Path(self.root), *Path(self.root).parents) if p.exists())
            if not nearest.is_dir():
                raise InputError(f"{self} cannot be written: {nearest} is a file; choose another path")
            if not os.access(nearest, os.W_OK | os.X_OK):
                raise InputError(f"{self} cannot be written: {nearest} is not writable; choose another path")
        others = [key for key in self.keys() if not key.endswith(".partial")]  # a first write, cut off
        if others:
            raise InputError(
                f"{self} is a folder with other files, such as {others[0]}; choose a path that holds nothing"
            )

    def exists(self, key: str = "zarr.json") -> bool:
        """Say whether a file is there; by default, whether this is a Zarr group."""
        return bool(self.fs.exists(self._path(key)))

    def read(self, key: str) -> bytes:
        """Return the bytes of a file."""
        return bytes(self.fs.cat_file(self._path(key)))

    def write(self, key: str, content: bytes) -> None:
        """Write a file; on a local disk it is there whole or not at all."""
        path = self._path(key)
        if not self.is_local:
            self.fs.pipe_file(path, content)
            return
        target = Path(path)
        partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
        try:
            try:
                partial.write_bytes(content)
            except FileNotFoundError:
                target.parent.mkdir(parents=True, exist_ok=True)
                partial.write_bytes(content)
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)  # on a full disk, half a file would be in the way

    def keys(self, prefix: str = "") -> list[str]:
        """Return the keys of all files below a folder of the group, sorted."""
        self.fs.invalidate_cache()  # zarr writes through another instance of the file system
        folder = self._path(prefix).rstrip("/")
        if folder and not self.fs.exists(folder):
            return []
        return sorted(str(p).removeprefix(f"{self.root}/") for p in self.fs.find(folder))

    def remove(self, key: str) -> None:
        """Remove a file."""
        self.fs.rm_file(self._path(key))

    @contextmanager
    def claimed(self, *, shared: bool = False, wait: bool = False) -> Iterator[None]:
        """Keep other processes from recording here as long as the ``with`` block lasts.

        Parts of one recording share the claim. Only a folder of a local POSIX disk can be claimed;
        elsewhere this does nothing.

        Parameters
        ----------
        shared
            Let others that share it in.
        wait
            Wait until no other process has the claim.

        Raises
        ------
        InputError
            Another process has the claim.
        """
        if not self.is_local or fcntl is None:
            yield
            return
        Path(self.root).mkdir(parents=True, exist_ok=True)
        folder = os.open(self.root, os.O_RDONLY)
        try:
            try:
                kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
                fcntl.flock(folder, kind if wait else kind | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise InputError(f"{self} is being recorded by another process; wait for its end") from error
            except OSError as error:
                if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.EINVAL):
                    raise
            yield  # the system drops the claim when the folder is closed, also by a kill
        finally:
            os.close(folder)

    def zarr_store(self, *, read_only: bool) -> Store:
        """Return the store through which zarr reads and writes this group."""
        if self.is_local:
            return LocalStore(self.root, read_only=read_only)
        if self.zip_file and not read_only:
            raise InputError(f"{self} is a ZIP file: it can be read, not written; write a folder")
        return FsspecStore.from_url(f"zip://::{self}" if self.zip_file else str(self), read_only=read_only)

    def group(self, *, read_only: bool = True) -> zarr.Group:
        """Open the root group."""
        if not self.exists():
            raise MissingFileError(f"there is no recording or result at {self}: no zarr.json in it")
        store = self.zarr_store(read_only=read_only)
        return zarr.open_group(store, mode="r" if read_only else "r+", zarr_format=3)


@contextmanager
def quiet_zarr() -> Iterator[None]:
    """Silence warnings of zarr: on consolidated metadata, and on files that are not its own."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part")
        warnings.filterwarnings("ignore", message=r"Object at (actome|\S+\.partial) is not recognized")
        yield
