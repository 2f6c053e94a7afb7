"""Sweeping up what interrupted writes left: in one recording, or in all of a folder."""

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from ..allocate import is_allocated
from ..errors import InputError, MissingFileError
from ..location import Location
from ..location.retries import clear_errors
from ..writer import RecordingWriter
from .removing import attributes_of, is_ours, remove_empty_folders
from .staging import leftovers, staged_for

_CLAIMED: Final = "another process writes it, left"
_PARTIAL = re.compile(r"\..+\.\d+\.partial|.+\.[0-9a-f]{32}\.partial")  # our own, and zarr's


@dataclass(frozen=True)
class Garbage:
    """Something that an interrupted write left.

    Attributes
    ----------
    path
        Where: a recording, a folder beside one, or a file.
    what
        In words.
    n_bytes
        Its size.
    done
        What became of it: "removed", "found" in a dry run, "brought back", or why it was left alone.
    """

    path: str
    what: str
    n_bytes: int
    done: str


def gc(
    path: str | os.PathLike[str] = ".", *, older_than: float = 1.0, dry_run: bool = False
) -> list[Garbage]:
    """Remove what interrupted writes left; what is complete stays as it is.

    That is: files of units that are not complete, temporary files, allocations that were interrupted,
    results not written to their end, and the folders in which `append`, `receive` and `export` build.
    A recording that was put aside when its replacement was cut off is brought back.

    Parameters
    ----------
    path
        A recording, a result, or a folder of them.
    older_than
        Hours; where anything changed since, the write is taken for one in progress. What a process of this
        machine claims is left alone whatever its age.
    dry_run
        Only say what is there.

    Returns
    -------
    What was found, and what became of it.

    Raises
    ------
    InputError
        `older_than` is negative; `path` is a ZIP file.
    MissingFileError
        There is nothing at `path`.
    """
    if not older_than >= 0:
        raise InputError(f"older_than must be 0 hours or more, got {older_than}")
    location = Location.of(path)
    if location.zip_file:
        raise InputError(f"{location} is a ZIP file: it can be read, not changed")
    there = location.fs.exists(location.root)
    staged = leftovers(Path(location.root)) if location.is_local else []
    if not (there or staged):
        raise MissingFileError(f"there is nothing at {location}")
    groups, inside = _groups_and_staged(location)
    if there and groups != [location.root]:  # a folder of recordings, not one of them
        staged = inside
    sweep = _Sweep(older_than, dry_run)
    found = [garbage for folder in staged for garbage in sweep.staged(folder)]
    return found + [garbage for root in groups for garbage in sweep.group(Location(location.fs, root))]


def _groups_and_staged(folder: Location) -> tuple[list[str], list[Path]]:
    """List the recordings and results at or below a folder, and what was built beside them on a local disk.

    Those without metadata are listed too; what lies in one is not looked at.
    """
    groups, staged = [], []
    for at, folders, files in _walk(folder):
        if any(map(_begins_group, files)):
            groups.append(at.rstrip("/"))
            folders.clear()
        beside = {name for name in folders if staged_for(Path(at, name))}
        staged += [Path(at, name) for name in beside if folder.is_local]
        folders[:] = [name for name in folders if name not in beside]
    return sorted(groups), sorted(staged)


def _walk(folder: Location) -> Iterator[tuple[str, list[str], list[str]]]:
    """Go through the folders from the top down, as `os.walk` does; none is entered that is taken out."""
    if folder.is_local:
        yield from os.walk(folder.root)
        return
    with clear_errors(f"{folder}: its files cannot be listed"):
        folder.fs.invalidate_cache()  # other processes write here too
        yield from folder.fs.walk(folder.root, on_error="raise")


def _begins_group(name: str) -> bool:
    return name == "zarr.json" or (name.startswith("zarr.") and name.endswith(".partial"))


@dataclass(frozen=True)
class _Sweep:
    """One pass: how many hours nothing may have changed, and whether nothing is removed."""

    older_than: float
    dry_run: bool

    def staged(self, path: Path) -> list[Garbage]:
        """Sweep a folder built beside a recording; one that is gone by now is none."""
        try:
            with _claim(Location.of(path)) as claimed:
                return [self._staged(path, claimed)]
        except FileNotFoundError:
            return []

    def _staged(self, path: Path, claimed: bool) -> Garbage:
        target, files = staged_for(path), [file.lstat() for file in path.rglob("*") if file.is_file()]
        n_bytes = sum(file.st_size for file in files if file.st_nlink == 1)  # others share it
        made = path.stat().st_ctime
        changed = max((file.st_ctime for file in files), default=made)  # a link counts, unlike in st_mtime
        if claimed and target and path.suffix == ".replaced" and not target.exists():
            what = "a recording put aside for a replacement that was cut off"
            done = self._done(changed, lambda: path.rename(target), "brought back")
        else:
            what = "a folder in which a new state was built"
            done = self._done(changed, lambda: shutil.rmtree(path)) if claimed else _CLAIMED
        return Garbage(str(path), what, n_bytes, done)

    def group(self, location: Location) -> list[Garbage]:
        """Sweep a recording or a result; one that is gone by now is none."""
        try:
            with _claim(location) as claimed:
                if not claimed:
                    return [Garbage(str(location), "a recording in progress", 0, _CLAIMED)]
                return self._group(location)
        except FileNotFoundError:
            return []

    def _group(self, location: Location) -> list[Garbage]:
        keys = location.keys()
        abandoned = list(_abandoned(location, keys))
        changed = _last_change(location, keys) if abandoned else 0.0
        found = []
        for what, useless in abandoned:
            n_bytes = sum(int(location.fs.size(f"{location.root}/{key}")) for key in useless)
            done = self._done(changed, partial(_remove_keys, location, useless))
            found.append(Garbage(str(location), what, n_bytes, done))
        return found

    def _done(self, changed: float, act: Callable[[], Any], name: str = "removed") -> str:
        """Act on what is old enough, unless this is a dry run; say what was done."""
        if time.time() - changed < 3600 * self.older_than:
            return f"changed less than {self.older_than:g} h ago, left"
        if self.dry_run:
            return "found"
        act()
        return name


@contextmanager
def _claim(location: Location) -> Iterator[bool]:
    """Hold the claim, where no other process has it; FileNotFoundError where there is nothing any more."""
    with ExitStack() as stack:
        try:
            stack.enter_context(location.claimed(create=False))
        except InputError:
            yield False
            return
        yield True


def _last_change(location: Location, keys: list[str]) -> float:
    """Return when a file was written last, in seconds since 1970."""
    paths = [f"{location.root}/{key}" for key in keys]
    return max((location.fs.modified(path).timestamp() for path in paths), default=0.0)


def _abandoned(location: Location, keys: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Go through what a recording or a result holds that is of no use: in words, and its files."""
    partials = [key for key in keys if _PARTIAL.fullmatch(key.rpartition("/")[2])]
    if not location.exists():
        if partials == keys:
            yield "a first write that was cut off", keys
        return
    attributes = attributes_of(location)
    is_recording = attributes.get("kind") == "recording"
    if not is_ours(attributes):
        return
    if is_recording and is_allocated(location):
        writer = RecordingWriter(location)
        pending = writer.pending()
        units = writer.unit_keys(pending) if pending else []  # which lists all files
        yield from [("units that are not complete", units)] if units else []
        rest = [key for key in partials if key not in units]
        yield from [("files that were not written to their end", rest)] if rest else []
    elif "manifest_digest" not in attributes:
        yield f"{'an allocation' if is_recording else 'a result'} that was interrupted", keys


def _remove_keys(location: Location, keys: list[str]) -> None:
    """Remove files, what says that this is a group last."""
    for key in sorted(keys, key=lambda key: key == "zarr.json"):
        location.remove(key)
    remove_empty_folders(location)
