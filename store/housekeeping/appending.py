"""Further prompts for a recording, in its place, so that a reader meets the old state or the new one."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from ..allocate import create_columns
from ..errors import InputError
from ..location import Location, quiet_zarr
from ..manifest import INDEX, MANIFEST, ROOT
from ..precision import keeps
from ..writer import RecordingWriter
from .chain import Chain, Numbering
from .deriving import carry_files, derived, operation, write_pending
from .finished import Finished
from .joining import Duplicates, join, joined_provenance
from .staging import put_in_place, remove_leftovers, repair, staging_path, sync

_NOT_KEPT = (MANIFEST, INDEX)  # written anew; built anew from the numbers


def append(
    path: str | os.PathLike[str],
    source: str | os.PathLike[str],
    *,
    runs: Numbering = "keep",
    duplicates: Duplicates = "refuse",
) -> str:
    """Add the prompts of another recording of the same model to a recording, in place.

    The new state is built beside it, sharing the files that stay, and put in its place in one step: whoever
    opens it gets the one or the other, whoever opened the old state reads its numbers on. Killed at any
    point, the recording is as it was. An index below ``actome/index/`` is dropped.

    Parameters
    ----------
    path
        A finished recording in a folder of the local disk.
    source
        The finished recording whose prompts are added; it stays as it is.
    runs, duplicates
        As for `merge`.

    Returns
    -------
    The path.

    Raises
    ------
    InputError
        `path` is not on the local disk, another process writes it, or the two cannot be joined, and why.
    MissingFileError
        There is nothing at a path.
    """
    location = Location.of(path)
    if not location.is_local or location.zip_file:
        raise InputError(
            f"{location} is not a folder of the local disk, where alone a recording can be changed in place; "
            "merge the two into a new recording"
        )
    place = Path(location.root)
    repair(place)
    location.group()  # says that there is nothing; a claim would make the folder
    if place.is_symlink():
        raise InputError(f"{location} is a link to {place.resolve()}; append to that")
    folder = place.stat().st_ino
    with location.claimed():
        if place.stat().st_ino != folder:
            raise InputError(f"{location} was replaced by another process just now; try again")
        chain = join([Finished.of(path), Finished.of(source)], runs=runs, duplicates=duplicates)
        if len(chain.rows[1]):
            _check_types(chain)
            remove_leftovers(place)
            step = operation("append", chain.sources, runs=runs, duplicates=duplicates)
            _replace(place, chain, derived(joined_provenance(chain.sources), step))
    return str(location)


def _check_types(chain: Chain) -> None:
    """Refuse labels that the columns that are there do not hold; they keep their types."""
    first, second = chain.sources
    for name in first.columns:
        dtype, values = np.dtype(first.array(name).dtype), chain.labels[name].to_numpy()
        if dtype.kind != "T" and not keeps(dtype, values):
            raise InputError(
                f"column {name!r} of {first.location} is {dtype}, which does not hold all values of "
                f"{second.location} as they are; merge the two into a new recording"
            )


def _replace(place: Path, chain: Chain, provenance: dict[str, Any]) -> None:
    """Build the next state beside a recording, and put it in its place."""
    staging = staging_path(place, "append")
    location = Location.of(staging)
    try:
        with location.claimed():
            _share(chain.sources[0], staging)
            _grow(location, chain, provenance)
            writer = RecordingWriter(location)
            write_pending(writer, chain)  # the last unit too, where it was not full
            carry_files(chain.sources, location)
            writer.finalise()
            _flush(staging)
            put_in_place(staging, place)
    finally:
        if staging.exists():
            shutil.rmtree(staging)


def _share(source: Finished, folder: Path) -> None:
    """Bring the files of a recording into another folder; chunks, which never change, as hard links."""
    missing = sorted(set(source.files) - set(source.location.keys()))
    if missing:
        raise InputError(f"{source.location} lacks {len(missing)} of its files, such as {missing[0]}")
    for key in source.files:
        if key.startswith(_NOT_KEPT):
            continue
        old, new = Path(source.location.root, key), folder / key
        new.parent.mkdir(parents=True, exist_ok=True)
        if "/c/" not in key or not _linked(old, new):
            shutil.copyfile(old, new)


def _linked(old: Path, new: Path) -> bool:
    """Make a hard link; False on a file system that has none."""
    try:
        os.link(old, new)
    except OSError:
        return False
    return True


def _grow(location: Location, chain: Chain, provenance: dict[str, Any]) -> None:
    """Extend the arrays to all prompts and tokens, and add those that only the source has.

    Chunks keep their shape, so that those of the prompts that were there stay where they are.
    """
    for key in [key for key in location.keys() if key.endswith(f"/{ROOT}")]:
        array = json.loads(location.read(key))
        sizes = {"prompt": chain.n_prompts, "token": chain.n_tokens}
        if array["node_type"] == "array":
            dims = array["dimension_names"]
            array["shape"] = [sizes.get(d, n) for d, n in zip(dims, array["shape"], strict=True)]
            location.write(key, json.dumps(array, indent=2).encode())
    root = json.loads(location.read(ROOT))
    root.pop("consolidated_metadata", None)
    root["attributes"].pop("manifest_digest", None)
    root["attributes"]["provenance"] = provenance
    location.write(ROOT, json.dumps(root, indent=2).encode())
    with quiet_zarr():
        group = zarr.open_group(location.zarr_store(read_only=False), mode="r+", zarr_format=3)
        create_columns(group, chain.labels, chain.n_tokens, chain.token_variables, chain.sources[0].unit)


def _flush(folder: Path) -> None:
    """Have the files that are not shared, and the names of all, on the disk before they replace what is."""
    for path in (*folder.rglob("*"), folder):
        if path.is_dir() or path.stat().st_nlink == 1:
            sync(path)
