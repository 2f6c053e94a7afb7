"""Adding to a history, listing it, naming its versions."""

import os
import random
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from ..errors import InputError
from ..location import Location
from .addresses import check_name, split_address
from .repository import clear_errors, find_snapshot, folder_of, open_or_create, open_repository, single_writer
from .writing import Source, check_kind, files_of, write_files

if TYPE_CHECKING:
    import icechunk

_ATTEMPTS = 6


@dataclass(frozen=True)
class Version:
    """One version of a history.

    Attributes
    ----------
    id
        Id of its snapshot.
    message
        What was said of it.
    time
        When it was committed, UTC.
    tags
        Its tags, sorted.
    manifest_digest
        Digest of the manifest that lists its files; "" where something else than Actome wrote it.
    """

    id: str
    message: str
    time: datetime
    tags: tuple[str, ...]
    manifest_digest: str


def commit(
    source: str | os.PathLike[str],
    repository: str | os.PathLike[str],
    *,
    message: str,
    tag: str | None = None,
    branch: str = "main",
) -> str:
    """Add a recording or a result to a history, as its newest version.

    The files are kept byte for byte, so that their digests still hold. Those that the newest version
    of the branch has already are neither read nor written. Where nothing changed there is no new
    version, and the newest gets the tag.

    Parameters
    ----------
    source
        A finalised recording, a result, or a version of a history.
    repository
        The history, ``NAME.icechunk``; it is made when it is not there.
    message
        What is new, in a line.
    tag
        A name for this version that will never mean another.
    branch
        The line of versions that it goes on; a new one starts at the newest of ``main``.

    Returns
    -------
    The id of the snapshot.

    Raises
    ------
    InputError
        The source is not finalised, or of another kind than the history; the newest version there was
        not committed by Actome; the tag is taken; a name is not allowed; the history cannot be written
        or its disk not locked; others kept committing.
    DamagedError
        A file of the source is not what was written; nothing is committed.
    MissingFileError, MissingDependencyError, StorageError
        There is no such source; Icechunk is not installed; a remote store failed.
    """
    if not message.strip():
        raise InputError("a version needs a message that says what is new, got an empty one")
    check_name(branch, "branch")
    if tag is not None:
        check_name(tag, "tag")
    folder = _folder(repository)
    content = Source(Location.of(source))
    with _clear_errors(folder, "written"), single_writer(folder):
        repo = open_or_create(folder)
        if tag is not None:
            _check_tag(repo, tag, content.digest, folder)
        if branch not in repo.list_branches():
            _check_ours(repo, repo.lookup_branch("main"), folder)
            repo.create_branch(branch, repo.lookup_branch("main"))
        snapshot = _commit(repo, folder, content, message, branch)
        if tag is not None:
            _set_tag(repo, tag, snapshot, folder)
    return snapshot


def _commit(repo: "icechunk.Repository", folder: Location, content: Source, message: str, branch: str) -> str:
    """Write what changed on top of the branch; start again where another process was faster.

    Two versions are never merged: each is a whole, with one manifest.
    """
    import icechunk

    for attempt in range(_ATTEMPTS):
        session = repo.writable_session(branch)
        tip = session.snapshot_id
        _check_ours(repo, tip, folder)
        digest = _digest_of(repo, tip)
        if digest == content.digest:
            return tip
        check_kind(session.store, content)
        write_files(session.store, content, files_of(session.store) if digest else {})
        try:
            return session.commit(message, metadata={"manifest_digest": content.digest})
        except icechunk.ConflictError:
            time.sleep(random.uniform(0.05, 0.1) * 2**attempt)
    raise InputError(
        f"{folder}: other processes moved the branch {branch!r} each of the {_ATTEMPTS} times that this "
        "version was written; it is not committed, theirs are; try again when they are done"
    )


def _check_ours(repo: "icechunk.Repository", tip: str, folder: Location) -> None:
    """Refuse to go on from a version of somebody else: a commit replaces all that it holds."""
    if _digest_of(repo, tip) or repo.lookup_snapshot(tip).parent_id is None:
        return
    raise InputError(
        f"{folder}: the newest version, {tip}, was not committed by Actome, and what it holds would be "
        "replaced; choose another history, or reset the branch to a version of Actome with Icechunk"
    )


def _set_tag(repo: "icechunk.Repository", tag: str, snapshot: str, folder: Location) -> None:
    """Give a new version its tag; on S3 another process may have taken it in the meantime."""
    import icechunk

    try:
        if tag not in repo.list_tags():
            repo.create_tag(tag, snapshot)
    except icechunk.IcechunkError:
        if tag not in repo.list_tags():
            raise
    named = repo.lookup_tag(tag)
    if _digest_of(repo, named) != _digest_of(repo, snapshot):
        raise InputError(
            f"{folder}: the version is committed as {snapshot}, without its tag: another process gave the "
            f"tag {tag!r} to {named} just now, and tags never move; give this one another with `actome tag`"
        )


def _digest_of(repo: "icechunk.Repository", snapshot: str) -> str:
    """Return the digest of a version's manifest; "" where something else than Actome wrote it."""
    return str(repo.lookup_snapshot(snapshot).metadata.get("manifest_digest", ""))


def _check_tag(repo: "icechunk.Repository", tag: str, digest: str | None, folder: Location) -> None:
    """Refuse a tag that names something else, before any work."""
    if tag in repo.list_branches():
        raise InputError(f"{folder} has a branch {tag!r}; choose another tag")
    if tag in repo.list_tags() and _digest_of(repo, repo.lookup_tag(tag)) != digest:
        raise InputError(f"{folder} has a tag {tag!r} for another version; tags never move, choose another")


def _folder(repository: str | os.PathLike[str]) -> Location:
    address = split_address(os.fspath(repository))
    if address is None or address[1]:
        raise InputError(
            f"a history is a folder NAME.icechunk, without a version, got {os.fspath(repository)!r}"
        )
    return folder_of(address[0])


def _clear_errors(folder: Location, what: str) -> AbstractContextManager[None]:
    return clear_errors(f"{folder} cannot be {what}", is_damage=what == "read" and folder.is_local)


def log(repository: str | os.PathLike[str], *, branch: str = "main") -> list[Version]:
    """List the versions of a history, the newest first.

    Parameters
    ----------
    repository
        The history, ``NAME.icechunk``.
    branch
        The line of versions; a tag or the id of a snapshot lists what led to it.

    Returns
    -------
    The versions, without the empty one that a history begins with.

    Raises
    ------
    MissingFileError, UnknownNameError
        There is no such history; it has no such branch.
    MissingDependencyError, DamagedError, StorageError
        Icechunk is not installed; the history cannot be read.
    """
    folder = _folder(repository)
    with _clear_errors(folder, "read"):
        repo = open_repository(folder)
        tip = find_snapshot(repo, branch, folder)
        tags: dict[str, list[str]] = {}
        for name in sorted(repo.list_tags()):
            tags.setdefault(repo.lookup_tag(name), []).append(name)
        return [
            Version(
                v.id,
                v.message,
                v.written_at,
                tuple(tags.get(v.id, ())),
                str(v.metadata.get("manifest_digest", "")),
            )
            for v in repo.ancestry(snapshot_id=tip)
            if v.parent_id is not None
        ]


def tag(repository: str | os.PathLike[str], name: str, snapshot: str | None = None) -> str:
    """Name a version, for good.

    Parameters
    ----------
    repository
        The history, ``NAME.icechunk``.
    name
        The tag; it never moves.
    snapshot
        The version: the id of a snapshot, another tag, or a branch; None for the newest of ``main``.

    Returns
    -------
    The id of the snapshot.

    Raises
    ------
    InputError
        The name is taken or is not allowed; there is no version yet.
    MissingFileError, UnknownNameError
        There is no such history; it has no such version.
    MissingDependencyError, DamagedError, StorageError
        Icechunk is not installed; the history cannot be read or written.
    """
    check_name(name, "tag")
    folder = _folder(repository)
    with _clear_errors(folder, "written"):
        repo = open_repository(folder)
        with single_writer(folder):
            found = find_snapshot(repo, snapshot or "", folder)
            if repo.lookup_snapshot(found).parent_id is None:
                raise InputError(f"{folder} has no version yet; commit one first")
            if name in repo.list_tags() and repo.lookup_tag(name) == found:
                return found
            _check_tag(repo, name, None, folder)
            repo.create_tag(name, found)
    return found
