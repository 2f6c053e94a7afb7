"""Per-prompt moments: what a prompt's tokens say about a neuron, in four numbers."""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from .errors import InputError

Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]
Measure = Literal["magnitude", "signed"]


def check_measure(measure: str) -> None:
    """Refuse what is neither |activation| nor the activation itself."""
    if measure not in ("magnitude", "signed"):
        raise InputError(f"measure must be 'magnitude' or 'signed', got {measure!r}")


def masked_moments(activation: npt.NDArray[Any], valid: Bool) -> dict[str, npt.NDArray[Any]]:
    """Moments of every neuron over any subset of the tokens of each prompt, in float64.

    Parameters
    ----------
    activation
        (prompt, token, layer, neuron).
    valid
        (prompt, token).

    Returns
    -------
    ``count`` (prompt,); ``mean``, ``m2`` and ``mean_abs`` (prompt, layer, neuron), NaN for a prompt
    without tokens.
    """
    shape = (activation.shape[0], *activation.shape[2:])
    out = {name: np.full(shape, np.nan) for name in ("mean", "m2", "mean_abs")}
    for p in np.flatnonzero(valid.any(axis=1)):
        tokens = slice(None) if valid[p].all() else valid[p]
        for layer in range(activation.shape[2]):  # one at a time stays in the cache
            rows = activation[p, tokens, layer].astype(np.float64)  # (token, neuron)
            mean = rows.mean(axis=0)
            out["mean"][p, layer] = mean
            out["mean_abs"][p, layer] = np.abs(rows).mean(axis=0)
            rows -= mean
            out["m2"][p, layer] = np.square(rows, out=rows).sum(axis=0)
    return {"count": valid.sum(axis=1).astype(np.int64), **out}


def valid_tokens(activation: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Count the tokens before the NaN padding, for a recording without ``n_tokens``.

    Parameters
    ----------
    activation
        (prompt, token, layer, neuron); a token is padding where all neurons are NaN.

    Returns
    -------
    (prompt,): the place of the last real token, counted from 1; 0 where there is none.
    """
    real = ~np.isnan(activation).all(axis=(2, 3))  # (prompt, token)
    last = real.shape[1] - np.argmax(real[:, ::-1], axis=1)
    return np.where(real.any(axis=1), last, 0).astype(np.int64)
