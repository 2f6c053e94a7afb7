"""One process at a time in a folder of the local disk."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from ..errors import InputError

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None


@contextmanager
def claimed_folder(
    folder: str, *, shared: bool = False, wait: bool = False, create: bool = True, required: bool = False
) -> Iterator[None]:
    """Keep other processes out of a folder; see `Location.claimed`."""
    if fcntl is None:
        if required:
            raise _no_locks(folder)
        yield
        return
    if create:
        Path(folder).mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
            fcntl.flock(descriptor, kind if wait else kind | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"{folder} is being recorded by another process; wait for its end") from error
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.EINVAL):
                raise
            if required:
                raise _no_locks(folder) from error
        yield  # the system drops the claim when the folder is closed, also by a kill
    finally:
        os.close(descriptor)


def _no_locks(folder: str) -> InputError:
    return InputError(
        f"{folder} is on a local disk that has no file locks, so that two processes could write at once; "
        "choose a folder on another disk, or s3://"
    )
