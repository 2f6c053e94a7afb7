"""Housekeeping: removing, joining and rewriting recordings, and sweeping up what was cut off."""

from .append import append
from .cast import cast
from .garbage import Garbage, gc
from .merge import merge
from .rechunk import rechunk
from .remove import remove

__all__ = ["Garbage", "append", "cast", "gc", "merge", "rechunk", "remove"]
