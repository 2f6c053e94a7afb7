"""Who the subjects of a group are, and how often each takes part in each repeat."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xarray as xr

from ...store.errors import InputError
from ...store.moments import Float64

Int = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Subjects:
    """The subject of every prompt.

    They are numbered by their names, so that what is drawn for a subject does not depend on its place.

    Attributes
    ----------
    of
        (prompt,) for each recording, a number.
    n_prompts
        (subject,), how many prompts each has.
    """

    of: list[Int]
    n_prompts: Int

    def __len__(self) -> int:
        """Count the subjects."""
        return len(self.n_prompts)


def subjects_of(recordings: Sequence[xr.Dataset], subject: str) -> Subjects:
    """Give every prompt the number of its subject.

    Parameters
    ----------
    recordings
        At the level of tokens.
    subject
        "prompt", "recording", or a label: prompts of one recording with the same value.

    Raises
    ------
    InputError
        `subject` is none of these, or there are fewer than two subjects.
    """
    keys = [
        [(name, *place) for name in _names(ds, subject)]
        for ds, place in zip(recordings, names_of(recordings), strict=True)
    ]
    known = sorted({k for own in keys for k in own})
    if len(known) < 2:
        raise InputError(f"group ICA needs at least two subjects, got {len(known)}; choose another `subject`")
    number = {k: i for i, k in enumerate(known)}
    of = [np.array([number[k] for k in own], dtype=np.int64) for own in keys]
    return Subjects(of, np.bincount(np.concatenate(of), minlength=len(known)))


def names_of(recordings: Sequence[xr.Dataset]) -> list[tuple[str, str, int]]:
    """Name every recording, whatever its place: its name, its digest, and how many alike came before."""
    names = [(str(ds.attrs.get("name", "")), str(ds.attrs.get("manifest_digest", ""))) for ds in recordings]
    return [(*name, names[:i].count(name)) for i, name in enumerate(names)]


def _names(ds: xr.Dataset, subject: str) -> list[str]:
    if subject == "recording":
        return [""] * ds.sizes["prompt"]
    if subject != "prompt" and (subject not in ds.coords or ds[subject].dims != ("prompt",)):
        raise InputError(
            f"subject must be 'prompt' or a label of the prompts, got {subject!r}; "
            "'recording' takes each recording as one"
        )
    return [str(value) for value in ds[subject].to_numpy()]


def draw_weights(n_subjects: int, n_runs: int, seed: int) -> Float64:
    """How often each subject enters each repeat: (repeat, subject).

    The first repeat takes each once, the others bootstrap. The last two rows are halves of the
    subjects, drawn too.
    """
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(n_subjects, np.full(n_subjects, 1 / n_subjects), size=n_runs)
    drawn[0] = 1
    half = np.zeros(n_subjects, dtype=np.int64)
    half[rng.permutation(n_subjects)[: n_subjects // 2]] = 1
    return np.concatenate([drawn, [half, 1 - half]]).astype(np.float64)
