"""The prompts' means, a block of neurons at a time."""

from collections.abc import Iterator, Sequence

import dask.array as da
import numpy as np
import numpy.typing as npt
import xarray as xr

from ...store.blocks import prompt_level
from ...store.moments import Float64, Measure

Int = npt.NDArray[np.int64]

_HELD_BYTES = 2**29  # means that are kept in memory between passes
_PIECE_BYTES = 2**27  # read at a time where they are not
_BLOCK_BYTES = 2**22  # summed at a time, so that it stays in the cache
_WIDTHS = (64, 4096)  # fewest and most neurons of a block


class PromptMeans:
    """Means of the prompts with tokens, which come a block of neurons at a time.

    Attributes
    ----------
    moments
        The prompts with tokens, their labels and moments.
    n_neurons
        Of all layers.
    width
        Most neurons of a block.
    """

    def __init__(self, ds: xr.Dataset, measure: Measure) -> None:
        self.moments = prompt_level(ds)
        if not self.moments["count"].all():
            self.moments = self.moments.isel(prompt=np.flatnonzero(self.moments["count"] > 0))
        values = self.moments["mean_abs" if measure == "magnitude" else "mean"]
        self._values: da.Array = (values if values.chunks is not None else values.chunk()).data
        self._held = False
        self.n_neurons = values.sizes["layer"] * values.sizes["neuron"]
        self.width = int(np.clip(_BLOCK_BYTES // (8 * max(values.sizes["prompt"], 1)), *_WIDTHS))

    def blocks(self) -> Iterator[tuple[Int, Float64]]:
        """Go through the neurons without a NaN: their places (neuron,), values (prompt, neuron)."""
        if not self._held and self._values.nbytes <= _HELD_BYTES:
            self._values, self._held = self._values.persist(), True  # type: ignore[no-untyped-call]
        n_prompts, n_layers, n_neurons = self._values.shape
        places = np.arange(n_layers * n_neurons).reshape(n_layers, n_neurons)
        limits = {0: -1, 1: "auto", 2: "auto"}
        pieces = self._values.rechunk(limits, block_size_limit=_PIECE_BYTES).chunks  # type: ignore[no-untyped-call]
        for layers in _slices(pieces[1]):
            for neurons in _slices(pieces[2]):
                piece = self._values[:, layers, neurons].compute().reshape(n_prompts, -1)
                place = places[layers, neurons].ravel()
                for start in range(0, piece.shape[1], self.width):
                    block = piece[:, start : start + self.width]
                    usable = ~np.isnan(block).any(axis=0)
                    yield place[start : start + self.width][usable], np.ascontiguousarray(block[:, usable])


def _slices(sizes: Sequence[int]) -> Iterator[slice]:
    start = 0
    for size in sizes:
        yield slice(start, start + size)
        start += size
