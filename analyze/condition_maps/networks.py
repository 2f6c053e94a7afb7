"""Networks of many maps that come a block of neurons at a time.

Whichever rule selects a network of one side, it keeps the largest values of the map; how many, the whole map
says. So only those that may be among them are held.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse
import scipy.stats

from ...store.errors import InputTypeError
from ...store.moments import Float64
from ..threshold import P, Top, Z, check_fraction, n_top

Int = npt.NDArray[np.int64]
Network = Top | P | Z | str

_NAMED = ("fdr", "by", "bonferroni")
_ENTRY_BYTES = 12  # a value and its place
_SLACK = 1e-9  # floors are lowered by so much; the rule itself decides


@dataclass(frozen=True)
class Rule:
    """How many of the largest t of a map make its network; the same as `threshold`, one-sided."""

    network: Network
    alpha: float = 0.05

    def __post_init__(self) -> None:
        """Check the options."""
        typed = isinstance(self.network, Top | P | Z)
        if not typed and not (isinstance(self.network, str) and self.network in _NAMED):
            raise InputTypeError(
                f"network must be Top(...), P(...), Z(...) or one of {list(_NAMED)}, got {self.network!r}"
            )
        check_fraction("alpha", self.alpha)

    def floor(self, dof: float) -> float:
        """Return the lowest t that may be kept."""
        if isinstance(self.network, Top):
            return -np.inf
        if isinstance(self.network, Z):
            p = float(scipy.stats.norm.sf(self.network.value))
        else:
            p = self.network.value if isinstance(self.network, P) else self.alpha
        t = float(scipy.stats.t.isf(p, dof))
        return t - _SLACK * (1 + abs(t))

    def room(self, n_neurons: int) -> int | None:
        """Return the most neurons that a network can have; None where the values decide."""
        return n_top(self.network.fraction, n_neurons) if isinstance(self.network, Top) else None

    def bytes_per_map(self, n_neurons: int) -> float:
        """Return the expected memory of one map while it comes."""
        share = self.alpha if isinstance(self.network, str) else 0.01
        return 2.0 * _ENTRY_BYTES * (self.room(n_neurons) or max(1.0, share * n_neurons))

    def n_kept(self, t: Float64, n_usable: int, dof: float) -> int:
        """Return how many are kept of the largest t, in descending order, of a map of `n_usable`."""
        if isinstance(self.network, Top):
            return n_top(self.network.fraction, n_usable)
        if not len(t):
            return 0
        p = scipy.stats.t.sf(t, dof)
        if isinstance(self.network, P):
            return int((p <= self.network.value).sum())
        if isinstance(self.network, Z):
            return int((scipy.stats.norm.isf(p) >= self.network.value).sum())
        if self.network == "bonferroni":
            return int((p <= self.alpha / n_usable).sum())
        level = self.alpha / n_usable
        if self.network == "by":
            level /= (1.0 / np.arange(1, n_usable + 1)).sum()
        below = np.flatnonzero(p <= level * np.arange(1, len(p) + 1))
        return int(below[-1]) + 1 if len(below) else 0


class StreamedNetworks:
    """The networks of maps numbered from 0, while their values come a block of neurons at a time.

    Parameters
    ----------
    rule
        What makes a network.
    dof
        (map,), degrees of freedom of each map's t.
    n_neurons
        Of a whole map.
    """

    def __init__(self, rule: Rule, dof: Float64, n_neurons: int) -> None:
        self._rule, self._dof, self._n_neurons = rule, dof, n_neurons
        self._room = rule.room(n_neurons)
        levels, which = np.unique(dof, return_inverse=True)
        self._floor = np.array([rule.floor(d) for d in levels])[which]
        self._usable = np.zeros(len(dof), dtype=np.int64)
        self._filled = np.zeros(len(dof), dtype=np.int64)
        self._value = np.empty((len(dof), 0))
        self._place = np.empty((len(dof), 0), dtype=np.int32)

    def add(self, first: int, maps: Float64, places: Int) -> None:
        """Take a block of neurons (neuron,) of the maps (map, neuron) numbered from `first`."""
        own = slice(first, first + len(maps))
        self._usable[own] += (~np.isnan(maps)).sum(axis=1)
        new = maps >= self._floor[own, None]
        if self._room is not None:
            for i in np.flatnonzero(self._filled[own] + new.sum(axis=1) > 2 * self._room + len(places)):
                self._trim(first + int(i), self._room)
        self._widen(int((self._filled[own] + new.sum(axis=1)).max(initial=0)), len(places))
        slot = self._filled[own, None] + np.cumsum(new, axis=1) - 1
        which, column = np.nonzero(new)
        self._value[first + which, slot[which, column]] = maps[which, column]
        self._place[first + which, slot[which, column]] = places[column]
        self._filled[own] += new.sum(axis=1)

    def _widen(self, needed: int, block: int) -> None:
        """Make place for so many entries a map, and more at once, as each time all are copied."""
        have = self._value.shape[1]
        if needed > have:
            ample = 2 * have if self._room is None else 2 * self._room + block
            more = max(needed, min(ample, self._n_neurons)) - have
            self._value = np.pad(self._value, ((0, 0), (0, more)))
            self._place = np.pad(self._place, ((0, 0), (0, more)))

    def _trim(self, i: int, room: int) -> None:
        """Keep the largest of one map, of equal ones the first in place."""
        n = int(self._filled[i])
        if n <= room:
            return
        value, place = self._value[i, :n], self._place[i, :n]
        lowest = np.partition(value, n - room)[n - room]
        keep = value > lowest
        equal = np.flatnonzero(value == lowest)
        keep[equal[np.argsort(place[equal])][: room - int(keep.sum())]] = True
        self._value[i, :room], self._place[i, :room] = value[keep], place[keep]
        self._filled[i], self._floor[i] = room, lowest

    def masks(self) -> "scipy.sparse.csr_array":
        """Return the networks: one where a neuron belongs, (map, neuron)."""
        chosen = []
        for i, n in enumerate(self._filled.tolist()):
            value, place = self._value[i, :n], self._place[i, :n]
            order = np.lexsort((place, -value))
            kept = self._rule.n_kept(value[order], int(self._usable[i]), float(self._dof[i]))
            chosen.append(np.sort(place[order[:kept]]))
        ends = np.cumsum([0, *(len(c) for c in chosen)])
        places = np.concatenate([np.empty(0, dtype=np.int32), *chosen])
        shape = (len(chosen), self._n_neurons)
        return scipy.sparse.csr_array((np.ones(len(places)), places, ends), shape=shape)
