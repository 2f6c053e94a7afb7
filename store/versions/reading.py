"""A version as a place like any other: the files of a snapshot, read only, under their keys."""

import os
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NoReturn

from fsspec import AbstractFileSystem
from fsspec.asyn import get_loop, sync
from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.buffer import default_buffer_prototype

from ..errors import DamagedError, InputError, InputTypeError, StorageError
from ..location import Location
from .addresses import split_address
from .packing import GROUP, is_packed, unpack
from .repository import clear_errors, find_snapshot, folder_of, open_repository


class VersionFiles(AbstractFileSystem):  # type: ignore[misc]
    """The files of one snapshot, as a file system of fsspec.

    Parameters
    ----------
    history
        Path or URL of the history.
    snapshot
        Id of the snapshot.
    """

    protocol = ("icechunk",)
    cachable = False

    def __init__(self, history: str, snapshot: str, **options: Any) -> None:
        super().__init__(history, snapshot, **options)
        folder = folder_of(history)
        self._history, self._is_local = history, folder.is_local
        with self._clear_errors(""):
            self.store = open_repository(folder).readonly_session(snapshot_id=snapshot).store

    @cached_property
    def _packed(self) -> dict[str, bytes]:
        with self._clear_errors(f"{GROUP}/files of "):
            return unpack(self.store)

    @cached_property
    def _keys(self) -> list[str]:
        async def listed() -> list[str]:
            return [key async for key in self.store.list()]

        keys = self._run(listed)
        return sorted({*(key for key in keys if not key.startswith(f"{GROUP}/")), *self._packed})

    def _run(self, task: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> Any:
        with self._clear_errors(f"{args[0]} of " if args else ""):
            return sync(get_loop(), task, *args)

    def _clear_errors(self, part: str) -> AbstractContextManager[None]:
        return clear_errors(f"{part}{self._history} cannot be read", is_damage=self._is_local)

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        """Return the bytes of a file, or some of them."""
        key = path.strip("/")
        if is_packed(key):
            if key not in self._packed:
                raise FileNotFoundError(key)
            return self._packed[key][start:end]
        # of metadata, Icechunk 1 takes the last bytes for all but the last
        request = None if key.endswith("zarr.json") else _byte_request(start, end)
        try:
            found = self._run(self.store.get, key, default_buffer_prototype(), request)
        except (DamagedError, StorageError):
            if request is None:
                raise
            return self.cat_file(path)[start:end]  # Icechunk 2 gives no range that ends behind the file
        if found is None:
            raise FileNotFoundError(key)
        content = bytes(found.to_bytes())
        return content if request else content[start:end]

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Return name, size and type of a file or a folder."""
        key = path.strip("/")
        if is_packed(key):
            if key in self._packed:
                return {"name": key, "size": len(self._packed[key]), "type": "file"}
        elif self._run(self.store.exists, key):
            return {"name": key, "size": self._run(self.store.getsize, key), "type": "file"}
        if not key or any(k.startswith(f"{key}/") for k in self._keys):
            return {"name": key, "size": 0, "type": "directory"}
        raise FileNotFoundError(key)

    def exists(self, path: str, **_: Any) -> bool:
        """Say whether there is a file or a folder; a history that cannot be read raises."""
        try:
            self.info(path)
        except FileNotFoundError:
            return False
        return True

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        """List a folder."""
        folder = f"{path.strip('/')}/".lstrip("/")
        below = (key.removeprefix(folder) for key in self._keys if key.startswith(folder))
        names = sorted({folder + key.partition("/")[0] for key in below})
        if not names:
            return [self.info(path)] if detail else [self.info(path)["name"]]
        return [self.info(name) for name in names] if detail else names

    def find(self, path: str, *_: Any, **__: Any) -> list[str]:
        """List the files below a folder; of a file, itself."""
        folder = path.strip("/")
        return [key for key in self._keys if not folder or key == folder or key.startswith(f"{folder}/")]

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        return super()._open(path, mode, **options) if mode == "rb" else _refuse(self._history)

    def rm_file(self, path: str) -> None:
        """Refuse to."""
        _refuse(self._history)


def _byte_request(start: int | None, end: int | None) -> ByteRequest | None:
    """Ask for a part only where one request of Icechunk names it."""
    if not start and end is None:
        return None
    if end is None:
        return SuffixByteRequest(-start) if start and start < 0 else OffsetByteRequest(start or 0)
    first = start or 0
    return RangeByteRequest(first, end) if 0 <= first < end else None


def _refuse(history: str) -> NoReturn:
    raise InputError(f"a version in {history} is never written again; commit a recording to make another")


@dataclass(frozen=True)
class VersionLocation(Location):
    """A version of a history, read only; `fs` holds its files at the top.

    Attributes
    ----------
    history
        Path or URL of the history.
    version
        The tag, branch or snapshot id that was asked for; "" for the newest of ``main``.
    """

    history: str = ""
    version: str = ""

    @classmethod
    def of(cls, path: str | os.PathLike[str]) -> "VersionLocation":
        """Locate ``NAME.icechunk``, ``NAME.icechunk@VERSION`` or ``NAME.zarr@VERSION``.

        Raises
        ------
        MissingFileError, UnknownNameError
            There is no history; it has no such version.
        MissingDependencyError
            Icechunk is not installed.
        """
        address = split_address(os.fspath(path))
        if address is None:
            raise InputTypeError(f"{os.fspath(path)!r} names no version")
        folder = folder_of(address[0])
        with clear_errors(f"{folder} cannot be read", is_damage=folder.is_local):
            snapshot = find_snapshot(open_repository(folder), address[1], folder)
        return cls(VersionFiles(str(folder), snapshot), "", "", str(folder), address[1])

    @property
    def name(self) -> str:
        """The last part of the path, and the version."""
        return str(self).rsplit("/", 1)[-1].replace(".icechunk", "")

    def __str__(self) -> str:
        """Return what `Location.of` takes."""
        return f"{self.history}@{self.version}" if self.version else self.history

    def _check_writable(self) -> None:
        _refuse(self.history)
