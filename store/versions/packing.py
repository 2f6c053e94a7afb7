"""Files that are not Zarr's own, kept in one array: Icechunk takes no other keys.

The array is ``actome/files``: the bytes one after the other; its attribute ``files`` says where each
starts and how long it is. Any reader of Zarr can take them out.
"""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from zarr.storage import MemoryStore

from ..errors import DamagedError

if TYPE_CHECKING:
    from zarr.abc.store import Store
    from zarr.core.buffer import Buffer

GROUP = "actome"
_CHUNK = 2**22
_ZARR_KEY = re.compile(r"(.+/)?(zarr\.json|c(/\d+)*)")


def is_packed(key: str) -> bool:
    """Say whether a file has no key of its own in a history.

    >>> is_packed("mlp/activation/c/0/0/1/0"), is_packed("actome/manifest.json")
    (False, True)
    """
    return key.startswith(f"{GROUP}/") or not _ZARR_KEY.fullmatch(key)


def pack(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the group that holds some files: its own files, by the keys that Zarr gives them."""
    places, start = {}, 0
    for key, content in files.items():
        places[key] = [start, len(content)]
        start += len(content)
    group: dict[str, Buffer] = {}
    zarr.create_group(MemoryStore(group), path=GROUP).create_array(
        "files",
        data=np.frombuffer(b"".join(files.values()), dtype=np.uint8),
        chunks=(min(_CHUNK, max(1, start)),),
        compressors=None,
        dimension_names=("byte",),
        attributes={"files": places},
    )
    return {key: content.to_bytes() for key, content in group.items() if key.startswith(f"{GROUP}/")}


def unpack(store: "Store") -> dict[str, bytes]:
    """Return the files that a store holds packed; none where it holds no such group.

    Raises
    ------
    DamagedError
        The array cannot be read.
    """
    try:
        array = zarr.open_array(store, path=f"{GROUP}/files", mode="r", zarr_format=3)
        content = np.asarray(array[:]).tobytes()
        places: Any = array.attrs["files"]
        return {key: content[start : start + length] for key, (start, length) in places.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, KeyError) as error:
        raise DamagedError(f"{GROUP}/files of the version is not what was written: {error}") from error
