"""Prompts of several recordings, one after the other, read unit by unit as if they were one."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..allocate import SiteSpec
from ..encoding import pad
from ..errors import InputError
from ..schema import ROOT, SUMMARY, declared
from .finished import Finished

Numbering = Literal["keep", "renumber"]

_ROOT = declared(ROOT)
_MISSING: dict[str, Any] = {"i": -1, "u": 0, "f": np.nan, "b": False}  # of a column that a source lacks


@dataclass(frozen=True)
class Run:
    """Consecutive rows of one source, and where in the chain they stand."""

    source: Finished
    rows: slice
    start: int

    @property
    def stop(self) -> int:
        """The place in the chain after the last row."""
        return self.start + int(self.rows.stop) - int(self.rows.start)


@dataclass(frozen=True)
class Chain:
    """Some rows of each source, in order.

    Attributes
    ----------
    sources
        Recordings with the same sites.
    rows
        Per source, the rows that are taken: increasing.
    numbering
        "renumber": ``run`` and ``block`` of a source go on where those of the one before end.
    """

    sources: tuple[Finished, ...]
    rows: tuple[npt.NDArray[np.int64], ...]
    numbering: Numbering = "keep"

    @classmethod
    def whole(cls, *sources: Finished) -> "Chain":
        """All prompts of the sources."""
        return cls(sources, tuple(np.arange(source.n_prompts) for source in sources))

    @cached_property
    def n_prompts(self) -> int:
        """Count the prompts."""
        return sum(map(len, self.rows))

    @cached_property
    def n_tokens(self) -> int:
        """Length of the longest token axis."""
        return max(source.n_tokens for source in self.sources)

    @property
    def sites(self) -> dict[str, SiteSpec]:
        """What each site holds."""
        return self.sources[0].sites

    @cached_property
    def token_variables(self) -> tuple[str, ...]:
        """The (prompt, token) variables that a source has."""
        return tuple(name for name in _ROOT if any(name in s.token_variables for s in self.sources))

    @cached_property
    def _runs(self) -> list[Run]:
        runs, start = [], 0
        for source, rows in zip(self.sources, self.rows, strict=True):
            for part in np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1):
                if len(part):
                    runs.append(Run(source, slice(int(part[0]), int(part[-1]) + 1), start))
                    start = runs[-1].stop
        return runs

    def runs(self, prompts: slice) -> Iterator[Run]:
        """Go through the runs that lie in a unit, cut to it."""
        begin = bisect_right(self._runs, prompts.start, key=lambda run: run.stop)
        end = bisect_left(self._runs, prompts.stop, key=lambda run: run.start)
        for run in self._runs[begin:end]:
            first, last = max(run.start, prompts.start), min(run.stop, prompts.stop)
            shift = run.rows.start - run.start
            yield Run(run.source, slice(first + shift, last + shift), first)

    @cached_property
    def labels(self) -> pd.DataFrame:
        """One row a prompt; a column that a source lacks is missing there.

        Raises
        ------
        InputError
            A column is text in one source and a number in another.
        """
        names = dict.fromkeys(name for source in self.sources for name in source.columns)
        table = pd.DataFrame({name: self._column(name) for name in names})
        if self.numbering == "renumber":
            for name in {"run", "block"} & set(names):
                table[name] = self._renumbered(table[name].to_numpy())
        return table

    def _column(self, name: str) -> npt.NDArray[Any]:
        parts = [
            source.read(name)[rows] if name in source.columns else None
            for source, rows in zip(self.sources, self.rows, strict=True)
        ]
        present = [part for part in parts if part is not None]
        if len({part.dtype.kind for part in present}) > 1:
            types = ["text" if part.dtype.kind == "O" else part.dtype.name for part in present]
            raise InputError(
                f"column {name!r} is {' in one recording, '.join(types)} in another; they do not join"
            )
        dtype = np.result_type(*(part.dtype for part in present))
        missing = _ROOT[name].missing if name in _ROOT else _MISSING.get(dtype.kind, "")
        filled = [
            np.full(len(rows), missing, dtype=dtype) if part is None else part.astype(dtype)
            for part, rows in zip(parts, self.rows, strict=True)
        ]
        return np.concatenate(filled)

    def _renumbered(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Let the numbers of each source go on after those of the ones before; -1 stays."""
        out, start = values.copy(), 0
        highest = -1
        for rows in self.rows:
            part = out[start : start + len(rows)]
            known = part >= 0
            if known.any():
                if highest >= 0:
                    part[known] += highest + 1 - part[known].min()
                highest = max(highest, int(part[known].max()))
            start += len(rows)
        return out

    def unit_labels(self, prompts: slice) -> dict[str, npt.NDArray[Any]]:
        """Return the values of the root variables for a unit."""
        runs = list(self.runs(prompts))
        columns = {str(c): self.labels[c].to_numpy()[prompts] for c in self.labels}
        columns["n_tokens"] = np.concatenate([run.source.read("n_tokens", run.rows) for run in runs])
        for name in self.token_variables:
            columns[name] = np.concatenate([self._token_rows(run, name) for run in runs])
        return columns

    def _token_rows(self, run: Run, name: str) -> npt.NDArray[Any]:
        shape, missing = (run.stop - run.start, self.n_tokens), _ROOT[name].missing
        if name not in run.source.token_variables:
            return np.full(shape, missing, dtype=_ROOT[name].dtypes[0])
        return pad(run.source.read(name, run.rows), shape, missing)

    def moments(self, prompts: slice) -> dict[str, dict[str, npt.NDArray[Any]]]:
        """Return the moments of a unit, per site, as the sources hold them."""
        runs = list(self.runs(prompts))
        return {
            site: {
                v.name: np.concatenate(
                    [run.source.read(f"{site}/summary/{v.name}", run.rows) for run in runs]
                )
                for v in SUMMARY
            }
            for site in self.sites
        }

    def counts(self, prompts: slice) -> dict[str, int]:
        """Add up what was counted of the source units whose first row that is taken lies in a unit."""
        begin = bisect_left(self._counted, prompts.start, key=lambda pair: pair[0])
        end = bisect_left(self._counted, prompts.stop, key=lambda pair: pair[0])
        total: dict[str, int] = {}
        for _, counted in self._counted[begin:end]:
            for name, n in counted.items():
                total[name] = total.get(name, 0) + n
        return total

    @cached_property
    def _counted(self) -> list[tuple[int, dict[str, int]]]:
        """Where the first row that is taken of each source unit stands, and what was counted of the unit."""
        counted, start = [], 0
        for source, rows in zip(self.sources, self.rows, strict=True):
            for first, counts in source.counts():
                place = int(np.searchsorted(rows, first))
                if place < len(rows) and rows[place] < first + source.unit:
                    counted.append((start + place, counts))
            start += len(rows)
        return sorted(counted, key=lambda pair: pair[0])


@dataclass(frozen=True)
class ChainCube:
    """Activations of a unit of a chain, read from the sources part by part.

    Attributes
    ----------
    chain, site, prompts
        Which.
    """

    chain: Chain
    site: str
    prompts: slice

    @property
    def shape(self) -> tuple[int, ...]:
        """Prompts, tokens, layers, neurons."""
        spec = self.chain.sites[self.site]
        n = int(self.prompts.stop) - int(self.prompts.start)
        return (n, self.chain.n_tokens, len(spec.layers), len(spec.neurons))

    def __getitem__(self, place: Any, /) -> npt.NDArray[Any]:
        """Return (prompt, token, neuron) of one layer, NaN where a source has no such token."""
        _, tokens, layer, neurons = place
        first, last, _ = tokens.indices(self.shape[1])
        parts = []
        for run in self.chain.runs(self.prompts):
            cube = run.source.cubes[self.site]
            there = slice(min(first, cube.shape[1]), min(last, cube.shape[1]))
            part = np.asarray(cube[run.rows, there, layer, neurons])
            parts.append(pad(part, (len(part), last - first, part.shape[2]), np.nan))
        return np.concatenate(parts)
