"""Locations: where a recording, a result or a catalog lies, and how its bytes are reached.

A local folder, a ZIP file, S3, any web server, memory; the rest of the store knows none of them.
"""

from .place import Location, quiet_zarr

__all__ = ["Location", "quiet_zarr"]
