"""Tokens as rows of a model: those that belong to a prompt, in float64."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...store.moments import Bool, Float64


@dataclass(frozen=True)
class Rows:
    """The rows of a design that belong to some prompts.

    Attributes
    ----------
    Q
        (prompt, token, regressor), zeros where there is no token, or (prompt, regressor) for every token.
    valid
        (prompt, token), which tokens are real.
    precision
        (prompt,), u.
    magnitude
        Whether y is the magnitude of the activation.
    """

    Q: Float64
    valid: Bool
    precision: Float64
    magnitude: bool

    def of(self, prompts: slice) -> "Rows":
        """Return the rows of some prompts."""
        return Rows(self.Q[prompts], self.valid[prompts], self.precision[prompts], self.magnitude)

    def prompts(self, block: npt.NDArray[Any]) -> Iterator[tuple[int, "Tokens"]]:
        """Go through the prompts that have tokens, by number, in a chunk (prompt, token, neuron)."""
        for i, (prompt, valid) in enumerate(zip(block, self.valid, strict=True)):
            n = int(valid.sum())
            if n:
                Q = self.Q[i][valid] if self.Q.ndim == 3 else np.broadcast_to(self.Q[i], (n, self.Q.shape[1]))
                stored = prompt if n == len(valid) else prompt[valid]
                yield i, Tokens(Q, stored, float(self.precision[i]), self.magnitude)


@dataclass(frozen=True)
class Tokens:
    """The valid tokens of one prompt.

    Attributes
    ----------
    Q
        (token, regressor).
    stored
        The activations: (token, neuron).
    u
        Root of their precision.
    magnitude
        Whether y is the magnitude of the activation.
    """

    Q: Float64
    stored: npt.NDArray[Any]
    u: float
    magnitude: bool

    def values(self, tokens: slice, shift: Float64, out: Float64) -> Float64:
        """Return u (y - shift) of some tokens, (token, neuron), in the first rows of `out`."""
        stored = self.stored[tokens]
        y = out[: len(stored)]
        np.copyto(y, np.abs(stored) if self.magnitude else stored)
        y -= shift
        if self.u != 1.0:
            y *= self.u
        return y
