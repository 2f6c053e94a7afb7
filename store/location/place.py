"""A place that holds one Zarr group: its files by key, and the store that zarr opens."""

import os
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import zarr
from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper
from zarr.abc.store import Store
from zarr.storage import FsspecStore, LocalStore

from ..errors import AccessError, DamagedError, InputError, MissingFileError
from ..manifest import ROOT, is_left_out, is_listed
from .claim import claimed_folder
from .filesystems import file_system, is_local
from .guard import GuardedStore
from .retries import clear_errors
from .zips import open_zip

_PIECE = 2**23  # bytes of a file that are held at once where it is only looked through


@dataclass(frozen=True)
class Location:
    """A folder on some file system or a web server, or a ZIP file that holds one.

    What a web server or a ZIP file holds can be read, not written.

    Attributes
    ----------
    fs
        The fsspec file system.
    root
        The folder in it, without a trailing slash; "" is the top of a ZIP file; the URL on a web server.
    zip_file
        Path or URL of the ZIP file; "" for a folder.
    is_guarded
        Whether a file that is gone though it must be there is an error, not missing values.
    """

    fs: Any
    root: str
    zip_file: str = ""
    is_guarded: bool = field(default=True, kw_only=True)

    @classmethod
    def of(cls, path: str | os.PathLike[str]) -> "Location":
        """Locate a path or a URL.

        Raises
        ------
        InputError, MissingDependencyError, MissingFileError
            No such protocol is known, or several are chained; its package is not installed; there is no
            such ZIP file, or it is not one, or one that must not be opened.
        StorageError
            The ZIP file is remote and cannot be read.
        """
        text = os.fspath(path)
        from ..versions import VersionLocation, split_address  # a version is a location too

        if split_address(text):
            return VersionLocation.of(text)
        if text.endswith(".zip") and not Path(text).is_dir():
            return cls(*open_zip(text), zip_file=text)
        fs, root = file_system(text)
        return cls(fs, root.rstrip("/"))

    @property
    def is_local(self) -> bool:
        """Whether this is a folder of the local disk."""
        return is_local(self.fs)

    @property
    def is_web(self) -> bool:
        """Whether this is on a web server, where files can be read but neither listed nor written."""
        return "http" in self.fs.protocol and not self.zip_file

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
        key = self.quoted(key)
        return f"{self.root}/{key}" if self.root else key

    def quoted(self, key: str) -> str:
        """Write a key as the file system wants it: on a web server, some letters mean something else."""
        return quote(key) if self.is_web else key

    def _clear_errors(self, problem: str) -> AbstractContextManager[None]:
        """Leave the errors of a local disk as they are, and make those of other places clear."""
        return nullcontext() if self.is_local else clear_errors(f"{self}: {problem}")

    def _check_writable(self) -> None:
        if self.zip_file or self.is_web:
            what = "a ZIP file" if self.zip_file else "on a web server"
            raise InputError(f"{self} is {what}: it can be read, not written; write a folder")

    def check_new(self) -> None:
        """Refuse a place where nothing new can be written, before any work is done for it.

        Raises
        ------
        InputError
            It holds files, it is a file or leads through one, or it must not be written.
        """
        self._check_writable()
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
        with self._clear_errors(f"{key} cannot be looked for"):
            return bool(self.fs.exists(self._path(key)))

    def read(self, key: str) -> bytes:
        """Return the bytes of a file.

        Raises
        ------
        FileNotFoundError
            It is not there, and need not be.
        DamagedError
            It is not there, though the digests kept here name it.
        StorageError
            It may be there, but the store does not give it.
        """
        return self.read_range(key)

    def read_range(self, key: str, start: int | None = None, end: int | None = None) -> bytes:
        """Return some bytes of a file, as `read` does; a negative start counts from its end."""
        try:
            return self.fetch(key, start, end)
        except FileNotFoundError:
            if not is_listed(self, key):
                raise
        except AccessError as error:
            if key == ROOT or not is_left_out(self, key):
                raise
            raise FileNotFoundError(f"{self}: there is no {key}") from error
        try:
            return self.fetch(key, start, end)  # written just now, or not found by mistake
        except FileNotFoundError as error:
            raise self.gone(key) from error

    def gone(self, key: str) -> DamagedError:
        """Describe a file that is not there though it must be."""
        return DamagedError(
            f"{self}: {key} is gone, though it was written; `actome verify` names all that is damaged"
        )

    def fetch(self, key: str, start: int | None = None, end: int | None = None) -> bytes:
        """Return bytes of a file, without asking whether one that is not there should be."""
        with self._clear_errors(f"{key} cannot be read"):
            return bytes(self.fs.cat_file(self._path(key), start=start, end=end))

    def pieces(self, key: str) -> Iterator[bytes]:
        """Go through the bytes of a file, without ever holding a large one."""
        with self._clear_errors(f"{key} cannot be read"):
            if self.is_web:
                yield from self.fs.pieces(self._path(key), _PIECE)
                return
            if not self.fs.async_impl:
                with self.fs.open(self._path(key), "rb") as file:
                    while piece := file.read(_PIECE):
                        yield piece
                return
        start, piece = 0, b"\0" * _PIECE
        while len(piece) == _PIECE:
            piece = self.fetch(key, start, start + _PIECE)
            start += _PIECE
            yield piece

    def write(self, key: str, content: bytes) -> None:
        """Write a file; on a local disk it is there whole or not at all, however the process ends.

        The disk is not made to keep it at once: after a power cut the file may be empty or hold other
        bytes, which `verify` finds.
        """
        path = self._path(key)
        if not self.is_local:
            self._check_writable()
            with self._clear_errors(f"{key} cannot be written"):
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
        """Return the keys of all files below a folder of the group, sorted; no link to a folder is followed.

        Raises
        ------
        InputError
            This is on a web server, where nothing can be listed.
        """
        if self.is_web:
            raise InputError(f"{self} is on a web server, which lists no files; copy the folder first")
        folder = self._path(prefix).rstrip("/")
        if self.is_local:
            paths = _files_below(folder)
        else:
            with self._clear_errors("its files cannot be listed"):
                self.fs.invalidate_cache()  # other processes write here too
                paths = self._find(folder)
        return sorted(str(p).removeprefix(f"{self.root}/") for p in paths)

    def _find(self, folder: str) -> list[str]:
        try:
            return list(self.fs.find(folder))
        except FileNotFoundError:
            return []

    def links_out(self) -> list[str]:
        """Return the keys of the symbolic links that lead out of the group, sorted; a local disk has them."""
        if not self.is_local:
            return []
        top = os.path.realpath(self.root)
        links = (
            path
            for folder, folders, files in os.walk(self.root)
            for path in (os.path.join(folder, name) for name in (*folders, *files))
            if os.path.islink(path)
        )
        out = (path for path in links if not os.path.realpath(path).startswith(f"{top}{os.sep}"))
        return sorted(Path(path).relative_to(self.root).as_posix() for path in out)

    def remove(self, key: str) -> None:
        """Remove a file."""
        with self._clear_errors(f"{key} cannot be removed"):
            self.fs.rm_file(self._path(key))

    @contextmanager
    def claimed(
        self, *, shared: bool = False, wait: bool = False, create: bool = True, required: bool = False
    ) -> Iterator[None]:
        """Keep other processes from recording here as long as the ``with`` block lasts.

        Parts of one recording share the claim. Only a folder of a local disk that has file locks can be
        claimed; elsewhere this does nothing.

        Parameters
        ----------
        shared
            Let others that share it in.
        wait
            Wait until no other process has the claim.
        create
            Make the folder where there is none.
        required
            Refuse a local disk that has no file locks.

        Raises
        ------
        InputError
            Another process has the claim; or it is required, and the disk has no file locks.
        FileNotFoundError
            There is no folder, and none is made.
        """
        if not self.is_local:
            yield
            return
        with claimed_folder(self.root, shared=shared, wait=wait, create=create, required=required):
            yield

    def zarr_store(self, *, read_only: bool) -> Store:
        """Return the store through which zarr reads and writes this group."""
        if not read_only:
            self._check_writable()
        if self.is_local:
            local = LocalStore(self.root, read_only=read_only)
            return GuardedStore(local, self) if read_only else local
        # zarr's own event loop would need connections of its own, which nobody closes
        fs = AsyncFileSystemWrapper(self.fs, asynchronous=True)
        return GuardedStore(FsspecStore(fs, read_only=read_only, path=self.root), self)

    def group(self, *, read_only: bool = True) -> zarr.Group:
        """Open the root group.

        Raises
        ------
        MissingFileError
            There is none.
        InputError
            It must not be written, or its arrays cannot be found: a web server lists no files, and
            only what is finished names them itself.
        """
        if not self.exists():
            raise MissingFileError(f"there is no recording or result at {self}: no zarr.json in it")
        store = self.zarr_store(read_only=read_only)
        group = zarr.open_group(store, mode="r" if read_only else "r+", zarr_format=3)
        if self.is_web and group.metadata.consolidated_metadata is None:
            raise InputError(
                f"{self} is not recorded to its end, and a web server lists no files: its arrays cannot be "
                "found; copy the folder, or wait until it is finished"
            )
        return group


def _files_below(path: str) -> list[str]:
    """List the files below a folder of the local disk, or the one file that it is."""
    if os.path.isfile(path):
        return [path]
    return [Path(folder, name).as_posix() for folder, _, names in os.walk(path) for name in names]


@contextmanager
def quiet_zarr() -> Iterator[None]:
    """Silence warnings of zarr: on consolidated metadata, and on files that are not its own."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part")
        warnings.filterwarnings("ignore", message=r"Object at (actome|\S+\.partial) is not recognized")
        yield
