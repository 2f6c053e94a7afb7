"""S3 and what speaks its protocol."""

from functools import partial
from typing import Any

from aiohttp import ClientPayloadError
from botocore.exceptions import (
    FlexibleChecksumError,
    IncompleteReadError,
    ResponseStreamingError,
)
from s3fs import S3FileSystem

from .retries import retried

_CONFIG = {"retries": {"mode": "standard", "max_attempts": 5}, "connect_timeout": 10, "read_timeout": 30}
_CUT_OFF = (
    TimeoutError,  # of a body that stalls; a request that does is repeated by botocore
    ClientPayloadError,
    FlexibleChecksumError,
    IncompleteReadError,
    ResponseStreamingError,
)


class ObjectStore(S3FileSystem):  # type: ignore[misc]
    """S3 with one request a file: s3fs asks for the size first, and reads a large file in parts.

    Where a part comes short, s3fs leaves zeros in its place and does not try again; one stream is
    checked and repeated. The parallel reading is left to Dask. Listings are not kept: other
    processes write here too. A request is repeated by botocore, a body that was cut off or stalls here;
    s3fs would repeat botocore's attempts five times, and those five times again.
    """

    retries = 1

    def __init__(self, *args: Any, config_kwargs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        kwargs["use_listings_cache"] = False
        super().__init__(*args, config_kwargs={**_CONFIG, **(config_kwargs or {})}, **kwargs)

    async def _cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any
    ) -> bytes:
        if start is not None and start == end:
            return b""
        return await retried(partial(self._fetch, path, start, end), lambda e: isinstance(e, _CUT_OFF))

    async def _fetch(self, path: str, start: int | None, end: int | None) -> bytes:
        try:
            content: bytes = await super()._cat_file(path, start=start, end=end, max_concurrency=1)
        except OSError as error:
            if "not satisfiable" in str(error):  # a range behind the end
                return b""
            raise
        return content
