"""Sums of products of a design with the activations of one chunk, in float64.

Values are taken from a shift, the mean of a neuron's first tokens, so that a neuron far from zero keeps
its digits; sums with different shifts are brought to one before they are added.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...store.blocks import check_valid
from ...store.moments import Float64
from .token_rows import Rows, Tokens

_PIECE_BYTES = 2**22  # of tokens in float64 at a time: what stays in the cache
_EXPLAINED = 1e-10  # of the length of a constant: less is rounding
_PILOT = 16  # tokens whose mean is the shift


@dataclass(frozen=True)
class Sums:
    """Sums over tokens t of d_t = u_t (y_t - shift), with u_t^2 the precision of the prompt.

    With lags there are further sums: over the pairs (t - 1, t) of one prompt, and over its last token.

    Attributes
    ----------
    shift
        (neuron,), what was taken off.
    weight
        Sum of u^2 over tokens, pairs and last tokens: (3,).
    design
        Sums of u Q, of its neighbours u (Q_(t-1) + Q_(t+1)), and of u Q over last tokens: (3, regressor).
    product
        The same with d instead of u: (3, regressor, neuron). Without lags, the first of each.
    total
        Sums of u d over all, first and last tokens: (3, neuron).
    square
        Sums of d_t^2, of d_t d_(t-1), and of d_t^2 over last tokens: (3, neuron).
    """

    shift: Float64
    weight: Float64
    design: Float64
    product: Float64
    total: Float64
    square: Float64

    def shifted(self, shift: Float64) -> "Sums":
        """Return the same sums of u (y - shift)."""
        delta = self.shift - shift  # d + u delta is what is wanted
        everywhere, first, last = self.total
        linear = np.stack([2 * everywhere, 2 * everywhere - first - last, 2 * last])
        return Sums(
            shift,
            self.weight,
            self.design,
            self.product + self.design[..., None] * delta,
            self.total + self.weight[[0, 2, 2], None] * delta,
            self.square + (linear + self.weight[:, None] * delta) * delta,
        )

    def centred(self) -> "Sums":
        """Return sums whose shift the design explains: a constant, if it has one, or else nothing.

        The residuals of y - shift are then those of y.
        """
        explained = self.design[0] @ self.design[0]
        if np.isclose(explained, self.weight[0], rtol=_EXPLAINED):
            return self
        return self.shifted(np.zeros_like(self.shift))

    @staticmethod
    def added(parts: Sequence["Sums"]) -> "Sums":
        """Add sums over different tokens; the shift becomes that of the first."""
        first, *others = parts
        alike = [first, *(part.shifted(first.shift) for part in others)]
        fields = ("weight", "design", "product", "total", "square")
        return Sums(first.shift, *(np.sum([getattr(x, f) for x in alike], axis=0) for f in fields))


def sum_chunk(block: npt.NDArray[Any], *, rows: Rows, lags: bool) -> Sums | None:
    """Sum over one chunk (prompt, token, layer, neuron); None where it has no valid token."""
    check_valid(block, rows.valid)
    values = block.reshape(*block.shape[:2], -1)
    sums: Sums | None = None
    out = _piece(values)
    with np.errstate(invalid="ignore", over="ignore"):  # an infinite value makes its neuron NaN
        for _, tokens in rows.prompts(values):
            if sums is None:
                first = tokens.values(slice(0, _PILOT), np.zeros(values.shape[-1]), out)
                sums = _nothing(first.mean(axis=0) / tokens.u, tokens.Q.shape[1])
            _add_prompt(sums, tokens, out, lags)
    return sums


def _piece(values: npt.NDArray[Any]) -> Float64:
    """Memory for some tokens in float64, used again and again: new memory costs as much as the sums."""
    n_tokens, n_neurons = values.shape[1:]
    return np.empty((max(_PILOT, min(n_tokens, _PIECE_BYTES // (8 * n_neurons))), n_neurons))


def _nothing(shift: Float64, n_regressors: int) -> Sums:
    n = len(shift)
    return Sums(
        shift,
        np.zeros(3),
        np.zeros((3, n_regressors)),
        np.zeros((3, n_regressors, n)),
        np.zeros((3, n)),
        np.zeros((3, n)),
    )


def _add_prompt(sums: Sums, tokens: Tokens, out: Float64, lags: bool) -> None:
    """Add one prompt to sums, in place; `out` is memory to work in, (token, neuron)."""
    Q, u = tokens.Q, tokens.u
    n, n_regressors = Q.shape
    near = _neighbours(Q) if lags else Q[:, :0]
    columns = np.concatenate([Q, near], axis=1).T
    ones = np.full(len(out), u)
    before: Float64 | None = None  # the last token of the piece before
    for a in range(0, n, len(out)):
        d = tokens.values(slice(a, a + len(out)), sums.shift, out)
        product = columns[:, a : a + len(out)] @ d
        sums.product[: 1 + lags] += product.reshape(1 + lags, n_regressors, -1)
        sums.total[0] += ones[: len(d)] @ d
        sums.square[0] += np.einsum("ij,ij->j", d, d)
        if lags:
            if before is None:
                sums.total[1] += u * d[0]
            else:
                sums.square[1] += before * d[0]
            sums.square[1] += np.einsum("ij,ij->j", d[:-1], d[1:])
            before = d[-1].copy()
    sums.weight[:] += u**2 * np.array([n, n - 1, 1])
    sums.design[0] += u * Q.sum(axis=0)
    if before is not None:
        sums.design[1] += u * near.sum(axis=0)
        sums.design[2] += u * Q[-1]
        sums.product[2] += Q[-1][:, None] * before
        sums.total[2] += u * before
        sums.square[2] += before**2


def _neighbours(Q: Float64) -> Float64:
    """Sum of the rows before and after each, within one prompt: (token, regressor)."""
    out = np.zeros_like(Q)
    out[1:] += Q[:-1]
    out[:-1] += Q[1:]
    return out


def score_chunk(
    read: Callable[[], npt.NDArray[Any]], *, rows: Rows, leverage: Float64, inflate: Float64, sums: Sums
) -> Float64:
    """Sum the squares of the prompts' scores over one chunk: (regressor, regressor, neuron).

    The score of a prompt is Q_g'r_g, with r what the fit of all prompts leaves of it, inflated by
    `inflate` (prompt, regressor, regressor).
    """
    product = sums.product[0]
    meat = np.zeros((len(product), *product.shape))
    block = read()
    values = block.reshape(*block.shape[:2], -1)
    out = _piece(values)
    with np.errstate(invalid="ignore", over="ignore"):
        for i, tokens in rows.prompts(values):
            score = -leverage[i] @ product
            for a in range(0, len(tokens.Q), len(out)):
                d = tokens.values(slice(a, a + len(out)), sums.shift, out)
                score += tokens.Q[a : a + len(out)].T @ d
            score = inflate[i] @ score
            for j in range(len(score)):
                meat[j, : j + 1] += score[j] * score[: j + 1]
    upper = np.triu_indices(len(product), 1)
    meat[upper] = meat[upper[::-1]]
    return meat
