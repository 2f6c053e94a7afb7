"""Versions: a history of a recording or a result, kept by Icechunk (the extra `versions`).

A history is a folder ``NAME.icechunk``, on a local disk or on S3. What `commit` adds is read again
under ``NAME@VERSION``, byte for byte, for good.
"""

from .addresses import history_beside, split_address
from .history import Version, commit, log, tag
from .reading import VersionLocation

__all__ = ["Version", "VersionLocation", "commit", "history_beside", "log", "split_address", "tag"]
