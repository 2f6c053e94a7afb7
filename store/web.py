"""Files on a web server: any that serves files will do, nothing is listed and nothing written."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import aiohttp
from fsspec.implementations.http import HTTPFileSystem

from .retries import retried

_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=30)
_PASSING = {408, 425, 429, 500, 502, 503, 504}


class WebFileSystem(HTTPFileSystem):  # type: ignore[misc]
    """HTTP with retries, where a failure is never taken for a missing file.

    fsspec's own does not try again, takes any failure of `info` for a missing file and of `exists`
    for "no", and takes a whole file for the range asked for where a server knows no ranges.
    """

    def __init__(self, *args: Any, client_kwargs: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        defaults = {"timeout": _TIMEOUT, "trust_env": True}
        super().__init__(*args, client_kwargs={**defaults, **(client_kwargs or {})}, **kwargs)

    async def _cat_file(
        self, url: str, start: int | None = None, end: int | None = None, **kwargs: Any
    ) -> bytes:
        if start is not None and start == end:
            return b""
        return await retried(partial(self._fetch, url, start, end), _may_pass)

    async def _fetch(self, url: str, start: int | None, end: int | None) -> bytes:
        ranges = {} if start is None and end is None else {"Range": _range(start or 0, end)}
        async with await self._get(url, ranges) as response:
            if response.status == 416:  # a range behind the end
                return b""
            response.raise_for_status()
            content: bytes = await response.read()
            return content[start:end] if ranges and response.status != 206 else content

    async def _info(self, url: str, **kwargs: Any) -> dict[str, Any]:
        """Tell the size of a file, and whether the server knows ranges."""
        return await retried(partial(self._measure, url), _may_pass)

    async def _measure(self, url: str) -> dict[str, Any]:
        # not HEAD: some servers refuse it
        async with await self._get(url, {"Range": "bytes=0-0"}) as response:
            info = {"name": url, "type": "file", "size": response.content_length, "partial": False}
            if response.status == 416:
                return {**info, "size": 0}
            response.raise_for_status()
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

    async def _get(self, url: str, headers: Mapping[str, str]) -> Any:
        session = await self.set_session()
        headers = {**headers, "Accept-Encoding": "identity"}  # ranges count the bytes of the file itself
        response = await session.get(self.encode_url(url), headers=headers, **self.kwargs)
        if response.status in (401, 403, 404, 410):
            response.release()
            missing = response.status in (404, 410)
            raise FileNotFoundError(url) if missing else PermissionError(response.reason)
        return response


def _range(start: int, end: int | None) -> str:
    if start < 0:
        return f"bytes={start}"
    return f"bytes={start}-{'' if end is None else end - 1}"


def _may_pass(error: Exception) -> bool:
    if isinstance(error, aiohttp.ClientResponseError):
        return error.status in _PASSING
    return isinstance(error, (aiohttp.ClientError, TimeoutError, ConnectionError))
