"""A store that never lets a failure pass for a missing value.

zarr takes a file that is not found, and one without a byte, for a chunk that was never written,
and fills it with NaN. Where the digests kept with a recording name that file, its values are lost.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from zarr.abc.store import ByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import WrapperStore

from ..errors import AccessError, DamagedError
from ..manifest import ROOT, is_left_out, is_listed, manifest_files, noted_root
from ..provenance import digest_bytes
from .retries import clear_errors

if TYPE_CHECKING:
    from .place import Location


class GuardedStore(WrapperStore[Store]):
    """A store whose files are looked up in the manifest when they are not found.

    Parameters
    ----------
    store
        Where the files are.
    location
        The same place.
    """

    def __init__(self, store: Store, location: "Location") -> None:
        super().__init__(store)
        self._location = location
        self._manifest_digest = ""  # as zarr read it

    def _with_store(self, store: Store) -> "GuardedStore":
        return type(self)(store, self._location)

    def _clear_errors(self, problem: str) -> Any:
        return nullcontext() if self._location.is_local else clear_errors(f"{self._location}: {problem}")

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Read a file or a part of it; None where there is none and none was written.

        Raises
        ------
        DamagedError
            The file is gone, shorter than it must be, or not the one that the manifest lists.
        StorageError
            The store does not give it.
        """
        content = await self._get(key, prototype, byte_range)
        if not self.read_only or not self._location.is_guarded:
            return content
        if content is None and (key == ROOT or await asyncio.to_thread(self._is_listed, key)):
            content = await self._get(key, prototype, byte_range)  # written just now, or denied by mistake
            if content is None:
                raise self._location.gone(key)
        if content is not None and not await self._is_sound(key, content, byte_range):
            content = await self._get(key, prototype, byte_range)
            if content is None or not await self._is_sound(key, content, byte_range):
                raise DamagedError(
                    f"{self._location}: {key} is damaged or cut short; `actome verify` names all that is"
                )
        if content is not None and key == ROOT:
            root = noted_root(content.to_bytes())
            self._manifest_digest = root["attributes"]["manifest_digest"] if root else ""
        return content

    def _is_listed(self, key: str) -> bool:
        if self._manifest_digest:
            return key in manifest_files(self._location, self._manifest_digest)
        return is_listed(self._location, key)

    async def _is_sound(self, key: str, content: Buffer, byte_range: ByteRequest | None) -> bool:
        """Say whether this can be what was asked for; a whole file from afar is compared with its digest."""
        if len(content) < _shortest(byte_range):
            return False
        if byte_range is not None or self._location.is_local:
            return True
        if key.endswith(ROOT) and not _is_json(content.to_bytes()):
            return False
        if key == ROOT or not self._manifest_digest:
            return True
        files = await asyncio.to_thread(manifest_files, self._location, self._manifest_digest)
        return key not in files or digest_bytes(content.to_bytes()) == files[key]

    async def _get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None
    ) -> Buffer | None:
        try:
            with self._clear_errors(f"{key} cannot be read"):
                return await self._store.get(self._location.quoted(key), prototype, byte_range)
        except AccessError:
            if key == ROOT or not await asyncio.to_thread(is_left_out, self._location, key):
                raise
            return None

    async def exists(self, key: str) -> bool:
        """Say whether a file is there."""
        with self._clear_errors(f"{key} cannot be looked for"):
            return await self._store.exists(self._location.quoted(key))

    async def set(self, key: str, value: Buffer) -> None:
        """Write a file."""
        with self._clear_errors(f"{key} cannot be written"):
            await self._store.set(key, value)

    async def delete(self, key: str) -> None:
        """Remove a file."""
        with self._clear_errors(f"{key} cannot be removed"):
            await self._store.delete(key)

    async def delete_dir(self, prefix: str) -> None:
        """Remove a folder."""
        with self._clear_errors(f"{prefix} cannot be removed"):
            await self._store.delete_dir(prefix)

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Go through what is in a folder."""
        if self._location.is_local:
            async for name in self._store.list_dir(prefix):
                yield name
        elif self._location.zip_file:  # zarr takes a wrong path for what is at the top of a ZIP file
            folder = f"{prefix.rstrip('/')}/" if prefix else ""
            keys = await asyncio.to_thread(self._location.keys, prefix)
            for name in sorted({key.removeprefix(folder).partition("/")[0] for key in keys}):
                yield name
        else:
            with self._clear_errors(f"{prefix or 'its files'} cannot be listed"):
                names = [name async for name in self._store.list_dir(prefix)]
            for name in names:
                yield name

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Read parts of files, as `get` does."""
        return list(await asyncio.gather(*(self.get(key, prototype, part) for key, part in key_ranges)))

    async def _get_many(
        self, requests: Iterable[tuple[str, BufferPrototype, ByteRequest | None]]
    ) -> AsyncGenerator[tuple[str, Buffer | None], None]:
        for request in requests:
            yield request[0], await self.get(*request)


def _is_json(content: bytes) -> bool:
    try:
        json.loads(content)
    except ValueError:
        return False
    return True


def _shortest(byte_range: ByteRequest | None) -> int:
    """Bytes that must come back at least; no file of a recording is empty."""
    if isinstance(byte_range, RangeByteRequest):
        return byte_range.end - byte_range.start
    if isinstance(byte_range, SuffixByteRequest):
        return byte_range.suffix
    return 1
