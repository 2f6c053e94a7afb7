"""The Icechunk repository of a history: where it is, who may write, which snapshot a version is."""

import difflib
import inspect
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

from ..errors import (
    DamagedError,
    InputError,
    MissingDependencyError,
    MissingFileError,
    StorageError,
    UnknownNameError,
)
from ..location import Location

if TYPE_CHECKING:
    import icechunk

_SNAPSHOT_ID = re.compile(r"[0-9A-HJKMNP-TV-Z]{20}")


def folder_of(history: str) -> Location:
    """Locate the folder of a history, as the plain folder that it is."""
    parent, name = os.path.split(history)
    at = Location.of(parent or ".")
    return replace(at, root=f"{at.root}/{name}")


def open_repository(folder: Location) -> "icechunk.Repository":
    """Open the repository of a history.

    Raises
    ------
    MissingFileError, InputError
        There is none; it is in a format that the installed Icechunk does not read.
    MissingDependencyError
        Icechunk is not installed.
    """
    if not _is_repository(folder):
        raise MissingFileError(
            f"there is no version history at {folder}; `actome commit NAME {folder.name}` makes one"
        )
    import icechunk

    return icechunk.Repository.open(_storage(folder))


def open_or_create(folder: Location) -> "icechunk.Repository":
    """Open the repository of a history, or make one in the format that every Icechunk reads.

    Raises
    ------
    InputError
        The folder holds something else or cannot be written.
    MissingDependencyError
        Icechunk is not installed.
    """
    if _is_repository(folder):
        return open_repository(folder)
    folder.check_new()
    import icechunk

    create: Callable[..., icechunk.Repository] = icechunk.Repository.create
    # Icechunk 1 knows no other format and has no such parameter
    form = {"spec_version": 1} if "spec_version" in inspect.signature(create).parameters else {}
    return create(_storage(folder), **form)


def _is_repository(folder: Location) -> bool:
    require_icechunk()
    import icechunk

    if folder.is_local and not os.path.isdir(folder.root):
        return False  # asking Icechunk would make the folder
    if icechunk.Repository.exists(_storage(folder)):
        return True
    if folder.exists("repo"):
        raise InputError(
            f"{folder} is in the second format of Icechunk, which the installed {icechunk.__version__} "
            "cannot read; install icechunk 2 or later"
        )
    return False


def require_icechunk() -> None:
    """Refuse what needs Icechunk where it is not installed.

    Raises
    ------
    MissingDependencyError
        It is not installed.
    """
    try:
        from icechunk import set_logs_filter
    except ImportError as error:
        raise MissingDependencyError(
            "versions need the package icechunk, which is not installed here: pip install 'actome[versions]'"
        ) from error
    if "ICECHUNK_LOG" not in os.environ:
        _quieten(set_logs_filter)


@cache
def _quieten(set_logs_filter: Callable[[str], None]) -> None:
    """Keep Icechunk from logging to standard output, where nobody asked for it: what matters is raised."""
    set_logs_filter("off")


def _storage(folder: Location) -> "icechunk.Storage":
    import icechunk

    fs = folder.fs
    if folder.is_local:
        return icechunk.local_filesystem_storage(folder.root)
    if "s3" not in fs.protocol:
        raise InputError(f"a version history lives on a local disk or on S3, not at {folder}")
    bucket, _, prefix = folder.root.partition("/")
    options = fs.client_kwargs or {}
    endpoint = fs.endpoint_url or options.get("endpoint_url")
    endpoint = endpoint or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    return icechunk.s3_storage(
        bucket=bucket,
        prefix=prefix,
        region=options.get("region_name"),
        endpoint_url=endpoint,
        allow_http=str(endpoint).startswith("http://"),
        access_key_id=fs.key,
        secret_access_key=fs.secret,
        session_token=fs.token,
        anonymous=fs.anon or None,
        from_env=None if fs.key or fs.anon else True,
        force_path_style=endpoint is not None,
    )


@contextmanager
def single_writer(folder: Location) -> Iterator[None]:
    """Let one process at a time write to a history on a local disk; wait for its turn.

    Of two that commit to a local disk at once, Icechunk keeps one and tells both that all is well.
    On S3 it finds the conflict itself.

    Raises
    ------
    InputError
        The local disk has no file locks.
    """
    with folder.claimed(wait=True, required=True):
        yield


@contextmanager
def clear_errors(problem: str, *, is_damage: bool) -> Iterator[None]:
    """Say in one line what Icechunk could not do.

    Parameters
    ----------
    problem
        Such as ``lab/a.icechunk cannot be read``.
    is_damage
        Whether a failure means that files are damaged or lost: on a local disk, what cannot be read.

    Raises
    ------
    DamagedError, StorageError
        It could not, and this is damage, or it is not.
    MissingDependencyError
        Icechunk is not installed.
    """
    require_icechunk()
    import icechunk

    try:
        yield
    except icechunk.IcechunkError as error:
        reason = str(error).strip().splitlines()[0].removeprefix("x ")
        raise (DamagedError if is_damage else StorageError)(f"{problem}: {reason}") from error


def find_snapshot(repository: "icechunk.Repository", version: str, folder: Location) -> str:
    """Return the id of the snapshot that a tag, a branch or an id names; "" is the newest of ``main``.

    Raises
    ------
    UnknownNameError
        There is no such version; the message has the close matches.
    """
    import icechunk

    tags, branches = repository.list_tags(), repository.list_branches()
    if version in tags:
        return repository.lookup_tag(version)
    if not version or version in branches:
        return repository.lookup_branch(version or "main")
    if _SNAPSHOT_ID.fullmatch(version):
        try:
            return repository.lookup_snapshot(version).id
        except icechunk.IcechunkError as error:
            raise UnknownNameError(f"{folder} has no snapshot {version}; `actome log` lists them") from error
    known = sorted(tags | branches)
    close = difflib.get_close_matches(version, known, n=3)
    hint = f"did you mean {' or '.join(close)}?" if close else f"it has {known}, and the ids of `actome log`"
    raise UnknownNameError(f"{folder} has no version {version!r}; {hint}")
