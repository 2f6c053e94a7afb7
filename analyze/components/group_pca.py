"""Group PCA out of core: tokens to subjects' components to a common basis, in one pass."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import dask.base
import numpy as np
import numpy.typing as npt
import xarray as xr
from dask.delayed import Delayed, delayed

from ...store.blocks import activation_array, one_blas_thread, tree_reduce, valid_tokens
from ...store.moments import Bool, Float64
from .scaling import Cube, Scaling
from .span import Plan, Span, as_subject, merge, span_of_rows
from .subject_pca import Blocks
from .subjects import Int, Subjects

_COLUMNS = 2048  # of one layer, multiplied at once
_TOGETHER = 4  # spans merged in one step
_LEAST_ROWS = 256

Signs = Callable[[int, int, int], Float64]  # of a prompt, in a layer, of so many neurons: (neuron,)


@dataclass(frozen=True)
class Unit:
    """Some neighbouring prompts of a recording, in memory: what one task goes through.

    Attributes
    ----------
    pieces
        (prompt, token, layer, neuron) each, of all layers in order.
    valid
        (prompt, token).
    first
        Number of the first prompt.
    scaling
        Of the recording.
    signs
        What every neuron is multiplied by in a prompt, for a null of unrelated neurons.
    """

    pieces: list[Cube]
    valid: Bool
    first: int
    scaling: Scaling
    signs: Signs | None = None

    @property
    def n_columns(self) -> int:
        """Count layer * neuron."""
        return len(self.scaling.centre)

    def n_rows(self, prompts: Int) -> int:
        """Count the valid tokens of some prompts."""
        return int(self.valid[prompts].sum())

    def blocks(self, prompts: Int) -> Blocks:
        """Return the valid tokens of some prompts as rows."""

        def go() -> Iterator[tuple[slice, Float64]]:
            start = 0
            layers = ((piece, i) for piece in self.pieces for i in range(piece.shape[2]))
            for layer, (piece, i) in enumerate(layers):
                width = piece.shape[3]
                flip = self._flips(prompts, layer, width)
                for a in range(0, width, _COLUMNS):
                    b = min(a + _COLUMNS, width)
                    stored = np.concatenate([piece[p, self.valid[p], i, a:b] for p in prompts])
                    columns = slice(start + a, start + b)
                    X = self.scaling.rows(stored, columns)
                    yield columns, X if flip is None else X * flip[:, a:b]
                start += width

        return go

    def _flips(self, prompts: Int, layer: int, width: int) -> Float64 | None:
        if self.signs is None:
            return None
        each = [self.signs(self.first + p, layer, width) for p in prompts.tolist()]
        return np.repeat(each, self.valid[prompts].sum(axis=1), axis=0)


def units(ds: xr.Dataset, scaling: Scaling, signs: Signs | None = None) -> list[Delayed]:
    """Cut a recording into `Unit`s, delayed, one a chunk of prompts."""
    cube = activation_array(ds).rechunk({3: -1})  # type: ignore[no-untyped-call]
    valid = valid_tokens(ds)
    bounds = np.cumsum([0, *cube.chunks[0]])
    make, constant = delayed(Unit, pure=False), delayed(scaling, pure=False, traverse=False)
    pieces = cube.to_delayed()[:, 0, :, 0]
    return [
        make(list(own), valid[a:b], int(a), constant, signs)
        for own, a, b in zip(pieces, bounds[:-1], bounds[1:], strict=True)
    ]


@dataclass(frozen=True)
class _Found:
    """What some units span.

    Attributes
    ----------
    complete
        Of the subjects all of whose prompts were met.
    open
        Of every other subject met, by number: how many of its prompts, and what they span.
    """

    complete: Span | None
    open: dict[int, tuple[int, Span]]


@dataclass(frozen=True)
class _Reduction:
    """Reduces units and merges what they span."""

    n_prompts: npt.NDArray[np.int64]
    weights: Float64
    plan: Plan

    @property
    def _rows(self) -> int:
        """Rows that are reduced at once: few enough for their inner products, enough to be worth a merge."""
        return max(_LEAST_ROWS, 4 * self.plan.of_group)

    def unit(self, unit: Unit, subject_of: Int) -> _Found:
        """Reduce the prompts of a unit, whose subjects are given."""
        own = {int(s): np.flatnonzero(subject_of == s) for s in np.unique(subject_of)}
        whole = [s for s, prompts in own.items() if len(prompts) == self.n_prompts[s]]
        spans: list[Span] = []
        sizes = [unit.n_rows(own[s]) for s in whole]
        for group in _groups(sizes, self._rows):
            members = [whole[i] for i in group]
            spans = self._gathered(spans, self._of_whole(unit, members, [own[s] for s in members]))
        return _Found(
            merge(spans, self.plan.of_group) if spans else None,
            {s: (len(p), self._of_part(unit, p)) for s, p in own.items() if s not in whole},
        )

    def _of_whole(self, unit: Unit, members: list[int], prompts: list[Int]) -> Span:
        """Reduce subjects all of whose prompts are here."""
        weights = self.weights[:, members]
        edges = np.cumsum([0, *(unit.n_rows(p) for p in prompts)])
        if len(members) == 1 and len(prompts[0]) > 1 and edges[-1] > self._rows:
            return as_subject(self._of_part(unit, prompts[0]), weights[:, 0], self.plan)
        rows = [slice(a, b) for a, b in pairwise(edges)]
        return span_of_rows(unit.blocks(np.concatenate(prompts)), unit.n_columns, rows, weights, self.plan)

    def _of_part(self, unit: Unit, prompts: Int) -> Span:
        """Reduce some prompts of one subject."""
        plan, once, spans = self.plan.of_parts, np.ones((1, 1)), []  # type: ignore[var-annotated]
        for group in _groups([unit.n_rows(p) for p in prompts], self._rows):
            own = prompts[group]
            rows = [slice(0, unit.n_rows(own))]
            part = span_of_rows(unit.blocks(own), unit.n_columns, rows, once, plan)
            spans = self._gathered(spans, part, plan)
        return merge(spans, plan.of_group)

    def _gathered(self, spans: list[Span], new: Span, plan: Plan | None = None) -> list[Span]:
        """Put a span to the others; merge them when there are enough, so that few are held."""
        spans = [*spans, new]
        return [merge(spans, (plan or self.plan).of_group)] if len(spans) == _TOGETHER else spans

    def __call__(self, parts: list[_Found]) -> _Found:
        """Merge what some units span; a subject is cut to its components when all of it is there."""
        complete = [p.complete for p in parts if p.complete is not None]
        still: dict[int, tuple[int, Span]] = {}
        for s in sorted({s for p in parts for s in p.open}):
            own = [p.open[s] for p in parts if s in p.open]
            n, span = sum(i for i, _ in own), merge([x for _, x in own], self.plan.of_parts.of_group)
            if n == self.n_prompts[s]:
                complete.append(as_subject(span, self.weights[:, s], self.plan))
            else:
                still[s] = (n, span)
        return _Found(merge(complete, self.plan.of_group) if complete else None, still)


def _groups(sizes: Sequence[int], n_rows: int) -> Iterator[list[int]]:
    """Cut what has so many rows each into runs of at most `n_rows` rows, or of one."""
    group: list[int] = []
    filled = 0
    for i, size in enumerate(sizes):
        if group and filled + size > n_rows:
            yield group
            group, filled = [], 0
        group.append(i)
        filled += size
    if group:
        yield group


def group_pca(
    recordings: Sequence[xr.Dataset],
    scalings: Sequence[Scaling],
    subjects: Subjects,
    weights: Float64,
    plan: Plan,
    signs: Sequence[Signs] | None = None,
) -> Span:
    """Reduce all subjects, in one pass, on the active Dask scheduler.

    Nothing of tokens by neurons, or of all subjects' components by neurons, is held: a task holds its
    unit and a few bases. A subject whose prompts are not neighbours is held, as its components, until
    all of them were met.

    Parameters
    ----------
    recordings, scalings
        At the level of tokens, all prompts with tokens; as many scalings.
    subjects
        Of the prompts.
    weights
        (weighting, subject), the first each once.
    plan
        What is kept.
    signs
        For each recording, of a null.

    Returns
    -------
    The basis, with ``len(weights) + 1`` moments. It is exact as long as the subjects' components, all
    together, are no more than ``plan.of_group``; otherwise the directions in which all subjects
    together vary least are left out, at each merge.
    """
    reduction = _Reduction(subjects.n_prompts, weights, plan)
    shared = delayed(reduction, pure=False, traverse=False)
    reduce_unit = delayed(one_blas_thread(_reduce_unit), pure=False)
    found: list[Delayed] = []
    for i, (ds, scaling, of) in enumerate(zip(recordings, scalings, subjects.of, strict=True)):
        own = units(ds, scaling, None if signs is None else signs[i])
        bounds = np.cumsum([0, *activation_array(ds).chunks[0]])
        found += [reduce_unit(shared, u, of[a:b]) for u, a, b in zip(own, bounds, bounds[1:], strict=False)]
    merged = tree_reduce(found, reduction, arity=_TOGETHER)
    (result,) = dask.base.compute(merged)  # type: ignore[no-untyped-call]
    span: Span = result.complete
    return span


def _reduce_unit(reduction: _Reduction, unit: Unit, subject_of: Int) -> _Found:
    return reduction.unit(unit, subject_of)
