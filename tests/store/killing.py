"""A process that is killed at its n-th change of the disk, simulated in this one."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

_CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.link", "os.mkdir"}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class KilledError(BaseException):
    """No `except Exception` and no clearing up comes after a kill."""


@dataclass
class _Life:
    root: str
    left: float
    changes: list[str] = field(default_factory=list)


_lives: list[_Life] = []


@contextmanager
def killed_after(changes: float | None, root: Any) -> Iterator[_Life]:
    """Raise `KilledError` at that change of the disk below `root`, and at every later one; None: never.

    Python tells of every change before it is made, whoever makes it: the archive, zarr or shutil.
    """
    life = _Life(str(root), float("inf") if changes is None else changes)
    _lives.append(life)
    try:
        yield life
    finally:
        _lives.remove(life)


def _watch(event: str, args: tuple[Any, ...]) -> None:
    if not _lives or not (event in _CHANGES or (event == "open" and _is_writing(args))):
        return
    life = _lives[-1]
    relative = event in ("os.remove", "os.rmdir") and args[1] != -1  # shutil goes by open folders
    if relative or any(isinstance(a, (str, os.PathLike)) and str(a).startswith(life.root) for a in args[:2]):
        life.changes.append(f"{event} {args[0]}")
        if len(life.changes) > life.left:
            raise KilledError(life.changes[-1])


def _is_writing(args: tuple[Any, ...]) -> bool:
    _, mode, flags = args
    return bool(isinstance(flags, int) and flags & _WRITING) or (isinstance(mode, str) and "w" in mode)


sys.addaudithook(_watch)
