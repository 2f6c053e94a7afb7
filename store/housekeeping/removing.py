"""Removing a recording or a result, so that nobody ever takes half of it for the whole."""

import json
import os
from pathlib import Path
from typing import Any, Final

from ..allocate import discard
from ..errors import InputError
from ..location import Location
from ..manifest import ROOT
from .staging import remove_leftovers, repair

# What analyses call their results; one that was not written to its end is known by nothing else.
_RESULTS: Final = {
    "result", "fit", "contrast", "mask", "components", "overlap", "identification", "scores", "effects",
    "importance", "regions", "region_scores", "region_sweep", "training",
}  # fmt: skip


def remove(path: str | os.PathLike[str]) -> None:
    """Remove a recording or a result, complete or not.

    First goes what says that it is complete, last what says that it is there: whoever opens it meanwhile
    meets an error, and after an interruption the same call goes on.

    Parameters
    ----------
    path
        A folder on any location that can be written.

    Raises
    ------
    InputError
        It is no recording and no result, it holds files that are not part of one, it is being recorded, or
        it is a ZIP file or a link.
    MissingFileError
        There is nothing at `path`.
    """
    location = Location.of(path)
    if location.is_local:
        repair(Path(location.root))
    check_removable(location)
    with location.claimed():
        if location.is_local:
            remove_leftovers(Path(location.root))  # `gc` would bring back what was put aside
        discard(location)
        remove_empty_folders(location)


def check_removable(location: Location) -> None:
    """Refuse what is not ours to remove.

    Raises
    ------
    InputError, MissingFileError
        As `remove`.
    """
    if location.zip_file:
        raise InputError(f"{location} is a ZIP file; remove the file itself")
    if not location.exists():
        location.group()  # says that there is nothing
    if not is_ours(attributes_of(location)):
        raise InputError(f"{location} is no recording and no result of Actome; it is not removed")
    if location.is_local:
        links = [folder for folder in _all_paths(Path(location.root)) if folder.is_symlink()]
        if links:
            raise InputError(f"{links[0]} is a link; remove what it leads to, or the link, by hand")
    foreign = [key for key in location.keys() if not _is_part(key)]
    if foreign:
        raise InputError(
            f"{location} holds files that are not part of it, such as {foreign[0]}; move them away first"
        )


def attributes_of(location: Location) -> dict[str, Any]:
    """Return the attributes of a group; none where there is something else, or nothing that can be read."""
    try:
        root = json.loads(location.read(ROOT))
        attributes = root["attributes"] if root["node_type"] == "group" else {}
    except (ValueError, KeyError, TypeError):
        return {}
    return attributes if isinstance(attributes, dict) else {}


def is_ours(attributes: dict[str, Any]) -> bool:
    """Say by its attributes whether a group is a recording or a result, complete or not."""
    return "manifest_digest" in attributes or attributes.get("kind") in {"recording", *_RESULTS}


def _all_paths(folder: Path) -> list[Path]:
    """List a folder and all that lies in it, without following links."""
    inside = [Path(at, name) for at, folders, files in os.walk(folder) for name in (*folders, *files)]
    return [folder, *inside]


def _is_part(key: str) -> bool:
    """Say whether a recording or a result may have such a file: metadata, a chunk, what is kept beside."""
    name = key.rpartition("/")[2]
    is_chunk = "/c/" in key or name == "c"  # the latter of an array without dimensions
    return is_chunk or name == "zarr.json" or key.startswith("actome/") or name.endswith(".partial")


def remove_empty_folders(location: Location) -> None:
    """Remove the folders that hold nothing any more, on a local disk; elsewhere there are none."""
    if location.is_local:
        for at, _, _ in os.walk(location.root, topdown=False):
            if not os.listdir(at):
                os.rmdir(at)
