"""The last step of everything that is written unit by unit."""

import zarr

from .location import Location, quiet_zarr
from .manifest import write_manifest


def seal(location: Location) -> str:
    """Consolidate the metadata and write the manifest of what is whole; return the manifest's digest."""
    for key in location.keys():
        if key.endswith(".partial"):  # a write to the local disk that was cut off
            location.remove(key)
    with quiet_zarr():
        zarr.consolidate_metadata(location.zarr_store(read_only=False), zarr_format=3)
    return write_manifest(location)
