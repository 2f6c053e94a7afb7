"""Files on a web server: any that serves files will do, nothing is listed and nothing written."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import aiohttp
from fsspec.asyn import sync
from fsspec.implementations.http import HTTPFileSystem

from ..errors import StorageError
from .retries import retried

_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=30)
_PASSING = {408, 425, 429, 500, 502, 503, 504}
_STEP = 2**20  # bytes of what is skipped that are held at once


class WebFileSystem(HTTPFileSystem):  # type: ignore[misc]
    """HTTP with retries, where a failure is never taken for a missing file.

    fsspec's own does not try again, takes any failure of `info` for a missing file and of `exists`
    for "no", and takes a whole file for the range asked for where a server knows no ranges. Of what
    a server sends, no more is read than was asked for.
    """

    def __init__(self, *args: Any, client_kwargs: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        defaults = {"timeout": _TIMEOUT, "trust_env": True}
        super().__init__(*args, client_kwargs={**defaults, **(client_kwargs or {})}, **kwargs)

    async def _cat_file(
        self, url: str, start: int | None = None, end: int | None = None, **kwargs: Any
    ) -> bytes:
        if start is not None and start == end:
            return b""
        return await retried(partial(self._fetch, url, start or 0, end), _may_pass)

    async def _fetch(self, url: str, start: int, end: int | None) -> bytes:
        async with await self._get(url, _range(start, end)) as response:
            if response.status == 206:
                return await _asked_for(response, start, end)
            return await _part(response, start, end)

    def pieces(self, url: str, size: int) -> Iterator[bytes]:
        """Go through a file, `size` bytes at a time; a server without ranges sends it only once."""
        file = _Pieces(self, url, size)
        try:
            while len(piece := sync(self.loop, retried, file.next, _may_pass)) == size:
                yield piece
            yield piece
        finally:
            file.close()

    async def _info(self, url: str, **kwargs: Any) -> dict[str, Any]:
        """Tell the size of a file, and whether the server knows ranges."""
        return await retried(partial(self._measure, url), _may_pass)

    async def _measure(self, url: str) -> dict[str, Any]:
        # not HEAD: some servers refuse it
        async with await self._get(url, _range(0, 1)) as response:
            info = {"name": url, "type": "file", "size": response.content_length, "partial": False}
            if response.status == 416:
                return {**info, "size": 0}
            if response.status == 206:
                size = response.headers.get("Content-Range", "").rpartition("/")[2]
                info |= {"size": int(size) if size.isdecimal() else None, "partial": True}
            return info

    async def _exists(self, path: str, **kwargs: Any) -> bool:
        try:
            await self._info(path)
        except FileNotFoundError:
            return False
        return True

    async def _get(self, url: str, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        """Ask for a file; an answer that is neither the file, nor a part, nor 416, is raised."""
        session = await self.set_session()
        headers = {**headers, "Accept-Encoding": "identity"}  # ranges count the bytes of the file itself
        response: aiohttp.ClientResponse = await session.get(
            self.encode_url(url), headers=headers, **self.kwargs
        )
        if response.status in (401, 403, 404, 410):
            response.release()
            missing = response.status in (404, 410)
            raise FileNotFoundError(url) if missing else PermissionError(response.reason)
        if response.status != 416:  # a range behind the end
            response.raise_for_status()
        return response


class _Pieces:
    """A file read piece by piece: by ranges, or, once a server has sent all of it, from that one answer.

    Parameters
    ----------
    fs, url
        The file.
    size
        Bytes of a piece; the last is shorter.
    """

    def __init__(self, fs: WebFileSystem, url: str, size: int) -> None:
        self._fs, self._url, self._size = fs, url, size
        self._start = 0
        self._whole: aiohttp.ClientResponse | None = None

    async def next(self) -> bytes:
        """Return the next piece. After a failure it can be called again, and then asks again."""
        end = self._start + self._size
        try:
            if self._whole is not None:
                piece = await _read(self._whole, self._size)
            else:
                response = await self._fs._get(self._url, _range(self._start, end))
                if response.status == 206:
                    async with response:
                        piece = await _asked_for(response, self._start, end)
                else:
                    self._whole = response
                    piece = await _part(response, self._start, end)
        except BaseException:
            self._drop()
            raise
        self._start += len(piece)
        return piece

    def close(self) -> None:
        """Leave the rest of the answer unread."""
        self._fs.loop.call_soon_threadsafe(self._drop)

    def _drop(self) -> None:
        if self._whole is not None:
            self._whole.close()
        self._whole = None


async def _asked_for(response: aiohttp.ClientResponse, start: int, end: int | None) -> bytes:
    """Return the range that was asked for; one that is longer raises StorageError."""
    if start >= 0 and end is None:
        return await response.read()
    most = -start if end is None else end - start
    content = await _read(response, most + 1)
    if len(content) > most:
        raise StorageError(f"{response.url}: the server sent more than the {most} bytes asked for")
    return content


async def _part(response: aiohttp.ClientResponse, start: int, end: int | None) -> bytes:
    """Return a range of a file that is sent from its beginning; nothing is read behind its end."""
    if response.status == 416:
        return b""
    if start < 0:
        tail = bytearray()
        while piece := await response.content.read(_STEP):
            tail += piece
            del tail[:start]
        return bytes(tail)
    while start and (piece := await response.content.read(min(start, _STEP))):
        start, end = start - len(piece), None if end is None else end - len(piece)
    return await response.read() if end is None else await _read(response, end - start)


async def _read(response: aiohttp.ClientResponse, size: int) -> bytes:
    """Read on, so many bytes or up to the end."""
    content = bytearray()
    while piece := await response.content.read(size - len(content)):
        content += piece
    return bytes(content)


def _range(start: int, end: int | None) -> dict[str, str]:
    """Ask for some bytes; for all of them by not asking."""
    if start < 0:
        return {"Range": f"bytes={start}"}
    if start == 0 and end is None:
        return {}
    return {"Range": f"bytes={start}-{'' if end is None else end - 1}"}


def _may_pass(error: Exception) -> bool:
    if isinstance(error, aiohttp.ClientResponseError):
        return error.status in _PASSING
    return isinstance(error, (aiohttp.ClientError, TimeoutError, ConnectionError))
