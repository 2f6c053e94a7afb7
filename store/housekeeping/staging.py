"""Folders beside a recording in which its next state is built, and putting them in its place."""

import ctypes
import errno
import glob
import os
import re
import shutil
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from ..errors import InputError
from ..location import Location
from ..location.claim import claimed_folder

_BESIDE = re.compile(r"\.(?P<name>.+)\.[a-z]+-[0-9a-f]{8}\.(?P<kind>staging|replaced)")
_RENAME_EXCHANGE, _AT_FDCWD = 2, -100  # of <linux/fs.h> and <fcntl.h>
_NOT_POSSIBLE = {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM}


def staging_path(path: str | os.PathLike[str], purpose: str) -> Path:
    """Name a folder beside `path` in which its new state is built: ``.NAME.PURPOSE-12345678.staging``.

    `gc` finds folders of this name and removes those that no process claims. Whoever builds in one holds
    ``Location.of(folder).claimed()`` as long as it does.

    Parameters
    ----------
    path
        What is to be replaced or made.
    purpose
        A short word in lower case, such as "append".

    >>> staging_path("lab/tasks.zarr", "append").name[:19]
    '.tasks.zarr.append-'
    """
    path = Path(path)
    return path.with_name(f".{path.name}.{purpose}-{uuid.uuid4().hex[:8]}.staging")


@contextmanager
def staged(path: str | os.PathLike[str], purpose: str) -> Iterator[Path]:
    """Make a folder of `staging_path`, and claim it; what is there at the end is removed."""
    folder = staging_path(path, purpose)
    folder.mkdir(parents=True)
    with claimed_folder(str(folder), create=False):
        try:
            yield folder
        finally:
            if folder.exists():
                shutil.rmtree(folder)


def staged_for(folder: Path) -> Path | None:
    """Return the path that a folder was built for; None for any other folder."""
    named = _BESIDE.fullmatch(folder.name)
    return folder.with_name(named["name"]) if named else None


def leftovers(path: Path) -> list[Path]:
    """List the folders that were built for a path, or put aside."""
    if not path.parent.is_dir():
        return []
    return sorted(p for p in path.parent.glob(f".{glob.escape(path.name)}.*") if staged_for(p) == path)


def put_in_place(staging: Path, path: Path) -> None:
    """Replace a folder by the one built beside it, and remove what it was.

    On Linux both are exchanged in one step. Where the system or the disk cannot, there is an instant
    without `path`; `repair` undoes what was cut off in it.
    """
    shutil.rmtree(_swapped(staging, path))


def put_all_in_place(places: Mapping[Path, Path], finish: Callable[[], None]) -> None:
    """Put several folders in their places, each as `put_in_place` does, or none of them.

    Parameters
    ----------
    places
        What was built, and the path that it is for, at which there may be nothing.
    finish
        What comes after; where it fails, everything is put back. What was replaced is removed after it.
    """
    replaced = []
    with ExitStack() as undo:
        for staging, path in places.items():
            if path.exists():
                old = _swapped(staging, path)
                replaced.append(old)
                undo.callback(put_in_place, old, path)
            else:
                staging.rename(path)
                undo.callback(path.rename, staging)
        finish()
        undo.pop_all()
    for old in replaced:
        shutil.rmtree(old)


def _swapped(staging: Path, path: Path) -> Path:
    """Put a folder in the place of another, and return where that is now."""
    aside = staging
    if not _exchange(staging, path):
        aside = staging_path(path, "old").with_suffix(".replaced")
        path.rename(aside)
        try:
            staging.rename(path)
        except OSError:
            aside.rename(path)
            raise
    sync(path.parent)  # what was there is removed next, and must not come back as half of it
    return aside


def sync(path: Path) -> None:
    """Have the content of a file, or the names in a folder, on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _exchange(a: Path, b: Path) -> bool:
    """Swap two folders; False where that is not possible."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if os.name == "posix" else None
    if rename is None:
        return False
    sys.audit("os.rename", str(a), str(b), -1, -1)  # as os.rename does
    if rename(_AT_FDCWD, os.fsencode(a), _AT_FDCWD, os.fsencode(b), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in _NOT_POSSIBLE:
        return False
    raise OSError(code, os.strerror(code), str(a), None, str(b))


def repair(path: Path) -> bool:
    """Bring back a folder that was put aside when its replacement was cut off; say whether there was one."""
    aside = [p for p in leftovers(path) if p.suffix == ".replaced"]
    if path.exists() or not aside:
        return False
    try:
        with Location.of(aside[0]).claimed(create=False):  # not by whoever replaces it just now
            aside[0].rename(path)
    except FileNotFoundError:  # it was replaced meanwhile
        return False
    return True


def remove_leftovers(path: Path) -> None:
    """Remove what interrupted replacements left beside a path that is whole.

    Raises
    ------
    InputError
        Another process builds there.
    """
    if not path.exists():
        raise InputError(f"there is nothing at {path}; repair it before its leftovers are removed")
    for folder in leftovers(path):
        with suppress(FileNotFoundError), Location.of(folder).claimed(create=False):
            shutil.rmtree(folder)


def remove_unclaimed(path: Path) -> None:
    """Remove what was begun for a path and given up by a kill; what is being built stays."""
    for folder in (folder for folder in leftovers(path) if folder.suffix == ".staging"):
        with suppress(InputError, FileNotFoundError), claimed_folder(str(folder), create=False):
            shutil.rmtree(folder)
