"""The prompts' means, a block of neurons at a time."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import xarray as xr
from dask.array.core import slices_from_chunks

from ...store.blocks import neuron_blocks, prompt_level, with_tokens
from ...store.moments import Float64, Measure
from ..valueless import warn_of_valueless

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
        self.moments = with_tokens(prompt_level(ds))
        values = self.moments["mean_abs" if measure == "magnitude" else "mean"]
        self._values = neuron_blocks(values, _PIECE_BYTES)
        self._held = self._is_told = False
        self.n_neurons = values.sizes["layer"] * values.sizes["neuron"]
        self.width = int(np.clip(_BLOCK_BYTES // (8 * max(values.sizes["prompt"], 1)), *_WIDTHS))

    def blocks(self) -> Iterator[tuple[Int, Float64]]:
        """Go through the neurons with a value: their places (neuron,), values (prompt, neuron).

        Warns
        -----
        UserWarning
            The first time: some have none, as activations of theirs are not finite.
        """
        if not self._held and self._values.nbytes <= _HELD_BYTES:
            self._values, self._held = self._values.persist(), True  # type: ignore[no-untyped-call]
        n_prompts, n_layers, n_neurons = self._values.shape
        places = np.arange(n_layers * n_neurons).reshape(n_layers, n_neurons)
        n_usable = 0
        for prompts, layers, neurons in slices_from_chunks(self._values.chunks):  # type: ignore[no-untyped-call]
            piece = self._values[prompts, layers, neurons].compute().reshape(n_prompts, -1)
            place = places[layers, neurons].ravel()
            for start in range(0, piece.shape[1], self.width):
                block = piece[:, start : start + self.width]
                usable = np.isfinite(block).all(axis=0)
                n_usable += int(usable.sum())
                yield place[start : start + self.width][usable], np.ascontiguousarray(block[:, usable])
        if not self._is_told:
            warn_of_valueless(self.n_neurons - n_usable, self.n_neurons, stacklevel=2)
            self._is_told = True
