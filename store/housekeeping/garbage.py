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
from ..writer import RecordingWriter
from .remove import attributes_of, is_ours, remove_empty_folders
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
    results not written to their end, and the folders in which appending and importing build. A recording that
    was put aside when its replacement was cut off is brought back.

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
    put_aside = location.is_local and leftovers(Path(location.root))
    if not (put_aside or location.fs.exists(location.root)):
        raise MissingFileError(f"there is nothing at {location}")
    sweep = _Sweep(older_than, dry_run)
    found = sweep.beside(Path(location.root)) if location.is_local else []
    for group in _groups(location):
        found += sweep.group(group)
    return found


def _groups(folder: Location) -> list[Location]:
    """List the recordings and results at or below a folder, those included that have no metadata yet."""
    keys = [key for key in folder.keys() if not any(map(_is_staged, key.split("/")))]
    parents = {key.rpartition("/")[0] for key in keys if _begins_group(key.rpartition("/")[2])}
    if "" in parents:
        return [folder]
    tops = [p for p in sorted(parents) if not any(p.startswith(f"{q}/") for q in parents)]
    return [Location(folder.fs, f"{folder.root}/{top}") for top in tops]


def _begins_group(name: str) -> bool:
    return name == "zarr.json" or (name.startswith("zarr.") and name.endswith(".partial"))


def _is_staged(name: str) -> bool:
    return staged_for(Path(name)) is not None


@dataclass(frozen=True)
class _Sweep:
    """One pass: how many hours nothing may have changed, and whether nothing is removed."""

    older_than: float
    dry_run: bool

    def beside(self, folder: Path) -> list[Garbage]:
        """Sweep what was built beside recordings: anywhere in a folder, or beside one recording."""
        if (folder / "zarr.json").exists() or not folder.exists():
            return [self._staged(path) for path in leftovers(folder)]
        staged = [Path(at, name) for at, names, _ in os.walk(folder) for name in names if _is_staged(name)]
        return [self._staged(path) for path in sorted(staged)]

    def _staged(self, path: Path) -> Garbage:
        target, files = staged_for(path), [file.lstat() for file in path.rglob("*") if file.is_file()]
        n_bytes = sum(file.st_size for file in files if file.st_nlink == 1)  # others share it
        changed = max((file.st_ctime for file in files), default=0.0)  # a link counts, unlike in st_mtime
        with _claim(Location.of(path)) as claimed:
            if claimed and target and path.suffix == ".replaced" and not target.exists():
                what = "a recording put aside for a replacement that was cut off"
                done = self._done(changed, lambda: path.rename(target), "brought back")
            else:
                what = "a folder in which a new state was built"
                done = self._done(changed, lambda: shutil.rmtree(path)) if claimed else _CLAIMED
        return Garbage(str(path), what, n_bytes, done)

    def group(self, location: Location) -> list[Garbage]:
        """Sweep a recording or a result."""
        with _claim(location) as claimed:
            if not claimed:
                return [Garbage(str(location), "a recording in progress", 0, _CLAIMED)]
            found = []
            changed = _last_change(location)
            for what, keys in _abandoned(location):
                n_bytes = sum(int(location.fs.size(f"{location.root}/{key}")) for key in keys)
                done = self._done(changed, partial(_remove_keys, location, keys))
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
    """Hold the claim, where no other process has it."""
    with ExitStack() as stack:
        try:
            stack.enter_context(location.claimed())
        except InputError:
            yield False
            return
        yield True


def _last_change(location: Location) -> float:
    """Return when a file was written last, in seconds since 1970."""
    paths = [f"{location.root}/{key}" for key in location.keys()]
    return max((location.fs.modified(path).timestamp() for path in paths), default=0.0)


def _abandoned(location: Location) -> Iterator[tuple[str, list[str]]]:
    """Go through what a recording or a result holds that is of no use: in words, and its files."""
    keys = location.keys()
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
        units = writer.unit_keys(writer.pending())
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
