"""Housekeeping: removing, joining and rewriting recordings, and sweeping up what was cut off."""

from .appending import append
from .casting import cast
from .garbage import Garbage, gc
from .merging import merge
from .rechunking import rechunk
from .removing import remove

__all__ = ["Garbage", "append", "cast", "gc", "merge", "rechunk", "remove"]
