"""The conditions of the prompts, true and permuted within folds."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import scipy.sparse
import xarray as xr

from ...store.arguments import whole_number
from ...store.blocks import level_of
from ...store.errors import InputError
from ...store.moments import Measure, check_measure
from ...store.schema import text_array
from .means import PromptMeans

Int = npt.NDArray[np.int64]

_HELD_BYTES = 2**29  # what is held between blocks, under a batch of labellings
_SUMS_BYTES = 2**28  # the sums of one block
_MAPS_AT_ONCE = 8  # arrays as large as the sums of one fold that are alive at a time


@dataclass(frozen=True)
class Labels:
    """Fold of every prompt, and its condition under several labellings.

    Attributes
    ----------
    conditions, folds
        The values of the two labels, sorted.
    fold
        (prompt,), number of its fold.
    code
        (draw, prompt), number of its condition; the true labelling first, then permuted ones.
    """

    conditions: list[str]
    folds: list[object]
    fold: Int
    code: Int

    @cached_property
    def count(self) -> Int:
        """Prompts of every fold and condition, the same under every labelling: (fold, condition)."""
        out = np.zeros((len(self.folds), len(self.conditions)), dtype=np.int64)
        np.add.at(out, (self.fold, self.code[0]), 1)
        return out

    @cached_property
    def rows(self) -> list[Int]:
        """Places of the prompts of each fold."""
        return [np.flatnonzero(self.fold == f) for f in range(len(self.folds))]

    @cached_property
    def members(self) -> "list[scipy.sparse.csr_array]":
        """One where a prompt of the fold has the condition: for each fold (draw * condition, prompt)."""
        n_draws, n_conditions = len(self.code), len(self.conditions)
        out = []
        for rows in self.rows:
            cell = np.arange(n_draws)[:, None] * n_conditions + self.code[:, rows]
            prompt = np.broadcast_to(np.arange(len(rows)), cell.shape)
            ones = np.ones(cell.size)
            shape = (n_draws * n_conditions, len(rows))
            out.append(scipy.sparse.csr_array((ones, (cell.ravel(), prompt.ravel())), shape=shape))
        return out

    def batch(self, draws: slice) -> "Labels":
        """Return some of the labellings."""
        return Labels(self.conditions, self.folds, self.fold, self.code[draws])


def read_labels(
    ds: xr.Dataset, by: str, measure: Measure, n_permutations: int, seed: int, analysis: str
) -> tuple[PromptMeans, Labels]:
    """Read the labels of the prompts with tokens, and permute the conditions within the values of `by`.

    Labels are dealt out in the order of the prompts' ids, so that the draws do not depend on the order
    of the Dataset.

    Raises
    ------
    InputError
        A label is missing, or an option is not allowed; `analysis` is named.
    """
    level_of(ds)
    for label in ("condition", by):
        if label not in ds.coords or ds[label].dims != ("prompt",):
            labels = sorted(str(c) for c in ds.coords if ds[c].dims == ("prompt",))
            raise InputError(
                f"{analysis} needs the label {label!r} of the prompts; the recording has {labels}"
            )
    check_measure(measure)
    whole_number(n_permutations, "n_permutations", least=1)
    means = PromptMeans(ds, measure)
    names, code = np.unique(text_array(means.moments["condition"].to_numpy()), return_inverse=True)
    folds, fold = np.unique(np.asarray(means.moments[by].to_numpy()), return_inverse=True)
    ids = np.asarray(means.moments["prompt"].to_numpy())
    order = np.argsort(text_array(ids) if ids.dtype.kind in "OUT" else ids, kind="stable")
    rng = np.random.default_rng(seed)
    codes = np.empty((1 + n_permutations, len(code)), dtype=np.int64)
    codes[0] = code
    for i in range(n_permutations):
        codes[1 + i, order] = permute_within(code[order], fold[order], rng)
    return means, Labels([str(n) for n in names], folds.tolist(), fold, codes)


def draws_at_once(labels: Labels, means: PromptMeans, bytes_per_draw: float) -> Iterator[slice]:
    """Cut the labellings into batches whose maps fit in memory, given what each holds between blocks."""
    width = max(1, min(means.width, means.n_neurons))
    sums = 8.0 * width * len(labels.conditions) * (len(labels.folds) + _MAPS_AT_ONCE)
    n = max(1, int(min(_HELD_BYTES / max(bytes_per_draw, 1), _SUMS_BYTES / sums)))
    for start in range(0, len(labels.code), n):
        yield slice(start, start + n)


def permute_within(code: Int, fold: Int, rng: np.random.Generator) -> Int:
    """Permute labels (prompt,) among the prompts of each fold."""
    out = code.copy()
    for f in np.unique(fold):
        where = np.flatnonzero(fold == f)
        out[where] = code[rng.permutation(where)]
    return out
