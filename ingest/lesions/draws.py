"""The chance in a lesion: normal numbers for noise, and the tokens that values are taken from."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from .reference import Pool

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]

_NORMAL, _DONORS = 0, 1  # what a stream of random numbers is for
_MOST_KEPT = 2**25  # normal numbers that a batch of prompts keeps: 128 MB


class Draws(Protocol):
    """Random numbers for the rows that a hook sees: prompts times tokens."""

    def normal(self, layer: int, n_rows: int, width: int) -> Float32:
        """Draw standard normal numbers: (row, neuron)."""

    def donors(self, layer: int, n_rows: int, pool: Pool) -> Int64:
        """Draw the token of the pool whose values each row takes: (row,), the same in every layer."""


class InOrder:
    """Draws in the order in which a layer is called: for a model that others run.

    Parameters
    ----------
    seed
        One number or several, which decide all.
    """

    def __init__(self, *seed: int) -> None:
        self._seed = seed
        self._streams: dict[tuple[int, ...], np.random.Generator] = {}

    def normal(self, layer: int, n_rows: int, width: int) -> Float32:
        """Draw from the layer's own stream."""
        stream = self._streams.setdefault(
            (_NORMAL, layer), np.random.default_rng([*self._seed, _NORMAL, layer])
        )
        return stream.standard_normal((n_rows, width), dtype=np.float32)

    def donors(self, layer: int, n_rows: int, pool: Pool) -> Int64:
        """Draw from a stream that is alike in every layer."""
        stream = self._streams.setdefault((_DONORS, layer), np.random.default_rng([*self._seed, _DONORS]))
        return stream.integers(len(pool.prompt), size=n_rows)


class ByPrompt:
    """Draws that belong to a prompt, whatever it is batched with; the same under every lesion.

    Parameters
    ----------
    seed
        Decides all, with the number of the prompt.
    numbers, names
        Number of each prompt of the batch in the paradigm, and its id: values are taken from others.
    """

    def __init__(self, seed: int, numbers: Sequence[int], names: Sequence[str]) -> None:
        self._seed, self._numbers, self._names = seed, list(numbers), list(names)
        self._normal: dict[tuple[int, ...], Float32] = {}
        self._n_kept = 0

    def normal(self, layer: int, n_rows: int, width: int) -> Float32:
        """Draw for each prompt from its own stream, token by token; some are kept for the next lesion."""
        key = (layer, n_rows, width)
        if key in self._normal:
            return self._normal[key]
        shape = (n_rows // len(self._numbers), width)
        streams = (np.random.default_rng([self._seed, _NORMAL, layer, i]) for i in self._numbers)
        numbers = np.concatenate([s.standard_normal(shape, dtype=np.float32) for s in streams])
        if self._n_kept + numbers.size <= _MOST_KEPT:
            self._normal[key] = numbers
            self._n_kept += numbers.size
        return numbers

    def donors(self, layer: int, n_rows: int, pool: Pool) -> Int64:
        """Draw for each prompt from its own stream, among tokens of other prompts."""
        n_tokens, out = n_rows // len(self._numbers), []
        for number, name in zip(self._numbers, self._names, strict=True):
            others = pool.others(name)
            stream = np.random.default_rng([self._seed, _DONORS, number])
            out.append(others[stream.integers(len(others), size=n_tokens)])
        return np.concatenate(out)
