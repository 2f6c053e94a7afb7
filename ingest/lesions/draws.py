"""The chance in a lesion: normal numbers for noise, and the tokens that values are taken from."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ...store.seeds import seed_of
from .reference import Pool

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]
Streams = list[np.random.Generator]

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
        Decides all.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._normal: dict[int, np.random.Generator] = {}
        self._donors: dict[int, np.random.Generator] = {}

    def normal(self, layer: int, n_rows: int, width: int) -> Float32:
        """Draw from the layer's own stream."""
        if layer not in self._normal:
            self._normal[layer] = np.random.default_rng(seed_of(self._seed, "normal", layer))
        return self._normal[layer].standard_normal((n_rows, width), dtype=np.float32)

    def donors(self, layer: int, n_rows: int, pool: Pool) -> Int64:
        """Draw from a stream that is alike in every layer."""
        if layer not in self._donors:
            self._donors[layer] = np.random.default_rng(seed_of(self._seed, "donors"))
        return self._donors[layer].integers(len(pool.prompt), size=n_rows)


class ByPrompt:
    """Draws that belong to a prompt, whatever it is batched with; the same under every lesion.

    Parameters
    ----------
    seed
        Decides all, with the id of the prompt.
    names
        Id of each prompt of the batch: values are taken from others.
    """

    def __init__(self, seed: int, names: Sequence[str]) -> None:
        self._seed, self._names = seed, list(names)
        self._kept: dict[tuple[int, ...], Float32] = {}
        self._n_kept = 0

    def normal(self, layer: int, n_rows: int, width: int) -> Float32:
        """Draw for each prompt from its own stream, token by token; some are kept for the next lesion."""
        key = (layer, n_rows, width)
        if key in self._kept:
            return self._kept[key]
        shape = (n_rows // len(self._names), width)
        streams = _normal_streams(self._seed, self._names, layer)
        numbers = np.concatenate([s.standard_normal(shape, dtype=np.float32) for s in streams])
        if self._n_kept + numbers.size <= _MOST_KEPT:
            self._kept[key] = numbers
            self._n_kept += numbers.size
        return numbers

    def donors(self, layer: int, n_rows: int, pool: Pool) -> Int64:
        """Draw for each prompt from its own stream, among tokens of other prompts."""
        n_tokens, out = n_rows // len(self._names), []
        for name, stream in zip(self._names, _donor_streams(self._seed, self._names), strict=True):
            others = pool.others(name)
            out.append(others[stream.integers(len(others), size=n_tokens)])
        return np.concatenate(out)


class Continued:
    """The draws of `ByPrompt` for texts that grow: each call of a layer goes on where the last one ended.

    The first call shows the whole prompts, padded on the left, the next ones what is written behind them.

    Parameters
    ----------
    seed, names
        As for `ByPrompt`.
    n_tokens
        Of each prompt.
    """

    def __init__(self, seed: int, names: Sequence[str], n_tokens: Sequence[int]) -> None:
        self._seed, self._names, self._n_tokens = seed, list(names), list(n_tokens)
        self._normal: dict[int, Streams] = {}
        self._donors: dict[int, Streams] = {}

    def normal(self, layer: int, n_rows: int, width: int) -> Float32:
        """Draw for each prompt from its own stream; 0 on padding."""
        is_first = layer not in self._normal
        if is_first:
            self._normal[layer] = _normal_streams(self._seed, self._names, layer)
        out = np.zeros((n_rows, width), dtype=np.float32)
        for rows, stream in zip(self._shown(n_rows, is_first), self._normal[layer], strict=True):
            out[rows] = stream.standard_normal((rows.stop - rows.start, width), dtype=np.float32)
        return out

    def donors(self, layer: int, n_rows: int, pool: Pool) -> Int64:
        """Draw for each prompt from its own stream, among tokens of other prompts; the first on padding."""
        is_first = layer not in self._donors
        if is_first:
            self._donors[layer] = _donor_streams(self._seed, self._names)
        out = np.zeros(n_rows, dtype=np.int64)
        shown = self._shown(n_rows, is_first)
        for name, rows, stream in zip(self._names, shown, self._donors[layer], strict=True):
            others = pool.others(name)
            out[rows] = others[stream.integers(len(others), size=rows.stop - rows.start)]
        return out

    def _shown(self, n_rows: int, is_first: bool) -> Iterator[slice]:
        """Rows that are tokens of each prompt, or behind it."""
        width = n_rows // len(self._names)
        for i, n_tokens in enumerate(self._n_tokens):
            end = (i + 1) * width
            yield slice(end - (n_tokens if is_first else width), end)


def _normal_streams(seed: int, names: Sequence[str], layer: int) -> Streams:
    return [np.random.default_rng(seed_of(seed, "normal", name, layer)) for name in names]


def _donor_streams(seed: int, names: Sequence[str]) -> Streams:
    """Alike in every layer, so that what neurons share is kept."""
    return [np.random.default_rng(seed_of(seed, "donors", name)) for name in names]
