"""Recordings of the same model, joined into a new one."""

import os
from collections.abc import Sequence

from ..errors import InputError, InputTypeError
from ..imports.stream import check_target
from .chain import Numbering
from .deriving import derived, operation, write_derived
from .finished import Finished
from .joining import Duplicates, join, joined_provenance


def merge(
    paths: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    runs: Numbering = "keep",
    duplicates: Duplicates = "refuse",
) -> str:
    """Join the prompts of several recordings of the same model into a new recording.

    The numbers, their moments included, are those of the sources, to the bit. A label that a source
    lacks is missing there ("", -1, 0 or NaN, as the schema says); shorter token axes are padded. Written
    unit by unit; interrupted, the same call goes on.

    Parameters
    ----------
    paths
        Two or more finished recordings: the same model and settings, sites, layers, neurons and type.
    out
        Where the new one goes.
    runs
        "keep" the numbers of runs and blocks, or "renumber" them so that those of each recording go on
        where those of the one before end.
    duplicates
        "refuse" a prompt id that stands twice, or "skip" all but the first where their labels and tokens
        are the same.

    Returns
    -------
    The path.

    Raises
    ------
    InputTypeError, InputError
        It is not a sequence of paths; they cannot be joined, and why; `out` is taken.
    MissingFileError
        There is nothing at a path.
    """
    if isinstance(paths, (str, os.PathLike)):
        raise InputTypeError(f"merge takes a sequence of paths, got {os.fspath(paths)!r} alone")
    if len(paths) < 2:
        raise InputError(f"merge takes two recordings or more, got {len(paths)}")
    sources = [Finished.of(path) for path in paths]
    chain = join(sources, runs=runs, duplicates=duplicates)
    location = check_target(out)
    step = operation("merge", sources, runs=runs, duplicates=duplicates)
    provenance = derived(joined_provenance(sources), step)
    return write_derived(chain, location, provenance=provenance, sites=chain.sites)
