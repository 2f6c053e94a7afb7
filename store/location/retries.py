"""What is done when a remote store fails: it is asked again, and what remains is one clear error."""

import asyncio
import random
import sys
import zlib
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar
from zipfile import BadZipFile

from ..errors import AccessError, ActomeError, DamagedError, StorageError

T = TypeVar("T")

ATTEMPTS = 6
_FIRST_WAIT = 0.2  # seconds, doubled each time: some six in all
_LIBRARIES = {"aiohttp": ("ClientError",), "botocore.exceptions": ("BotoCoreError", "ClientError")}
_BAD_ZIP = (BadZipFile, zlib.error, EOFError, NotImplementedError)


async def retried(call: Callable[[], Awaitable[T]], is_transient: Callable[[Exception], bool]) -> T:
    """Await a call, again after a growing wait where its failure may pass.

    Raises
    ------
    Exception
        The failure of the last attempt, or the first that will not pass.
    """
    for attempt in range(ATTEMPTS - 1):
        try:
            return await call()
        except Exception as error:
            if not is_transient(error):
                raise
        await asyncio.sleep(_FIRST_WAIT * 2**attempt * random.uniform(0.5, 1.0))
    return await call()


@contextmanager
def clear_errors(what: str) -> Iterator[None]:
    """Turn the failures of a store that is not the local disk into errors of Actome.

    A file that is not there stays a FileNotFoundError: only the caller knows whether it should be.

    Parameters
    ----------
    what
        What was to be done, such as ``s3://lab/r.zarr: zarr.json cannot be read``.

    Raises
    ------
    StorageError
        The store did not answer, refused, or answered with something else.
    DamagedError
        A ZIP file holds something else than it says.
    """
    try:
        yield
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError, ActomeError):
        raise
    except _BAD_ZIP as error:
        raise DamagedError(f"{what}: the ZIP file is damaged ({_reason(error)}); get it again") from error
    except PermissionError as error:
        raise AccessError(
            f"{what}: access is denied ({_reason(error)}); check the credentials and the address"
        ) from error
    except _failures() as error:
        raise StorageError(
            f"{what}, though it was tried several times: {_reason(error)}; "
            "check the address and the connection, then try again"
        ) from error


def _failures() -> tuple[type[Exception], ...]:
    """Return what a failure of a store is raised as: OSError, or an error of a library in use."""
    used = [module for module in _LIBRARIES if module in sys.modules]
    return (OSError, *(getattr(sys.modules[module], name) for module in used for name in _LIBRARIES[module]))


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
