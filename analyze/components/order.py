"""How many components: a number, a share of the variance, or as many as exceed data without correlations."""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from ...store.errors import InputError, InputTypeError
from ...store.moments import Float64
from .group_pca import Signs
from .span import Span
from .subjects import names_of

MOST = 100  # components that a criterion may choose
_DRAWS = 3


def check_order(n_components: object) -> None:
    """Refuse what is no number of components and no criterion for it."""
    if n_components == "parallel":
        return
    if isinstance(n_components, bool) or not isinstance(n_components, (int, np.integer, float)):
        raise InputTypeError(
            f"n_components must be an int, a share of the variance, or 'parallel', got {n_components!r}"
        )
    if isinstance(n_components, float):
        if not 0 < n_components < 1:
            raise InputError(
                f"n_components as a share of the variance must lie between 0 and 1, got {n_components}"
            )
    elif n_components < 1:
        raise InputError(f"n_components must be at least 1, got {n_components}")


def order_of(span: Span, n_components: float | str, total: float, flipped: Callable[[int], Span]) -> int:
    """Choose the number of components.

    Parameters
    ----------
    span
        Of the group.
    n_components
        A share of the variance, or "parallel": parallel analysis [1]_ against data in which every neuron
        was given a random sign in every prompt (compare [2]_). That destroys what neurons have in common
        over prompts, and keeps variances and how they persist over tokens, which signs of single values,
        or shuffled ones, would lose: of noise that persists they leave dozens of components.
    total
        The variance of which there is a share.
    flipped
        Gives the group of data with random signs.

    Raises
    ------
    InputError
        Too many would be needed, or none stands out.

    References
    ----------
    .. [1] Buja & Eyuboglu (1992), Multivariate Behavioral Research 27:509-540.
    .. [2] Hong, Sheng & Dobriban (2020), arXiv:2012.02985.
    """
    values = _variances(span)
    if isinstance(n_components, str):
        chance = np.max([_variances(flipped(i)) for i in range(_DRAWS)], axis=0)
        below = np.flatnonzero(values[:MOST] <= chance[:MOST])
        found = int(below[0]) if below.size else len(values[:MOST])
        if not found:
            raise InputError(
                "no component varies more than where neurons have random signs in every prompt, so there is "
                "none to find; with few prompts nothing can stand out: give a number"
            )
        return found
    share = np.cumsum(values[:MOST]) / total
    enough = np.flatnonzero(share >= n_components)
    if not enough.size:
        raise InputError(
            f"{len(share)} components hold {share[-1]:.1%} of the variance, "
            f"fewer than the {n_components:.1%} asked for; ask for less, or for a number"
        )
    return int(enough[0]) + 1


def _variances(span: Span) -> Float64:
    """Variances of the group's components, from the largest on, zeros after the last: (component,)."""
    values = np.zeros(MOST + 1)
    found = np.linalg.eigvalsh(span.moments[0])[::-1][: len(values)]
    values[: len(found)] = np.maximum(found, 0.0)
    return values


@dataclass(frozen=True)
class RandomSigns:
    """Signs for the neurons of a recording, drawn for the names of the recording and of each prompt.

    Attributes
    ----------
    keys
        (prompt,), a number made of the names.
    seed
        Draws them.
    """

    keys: list[int]
    seed: tuple[int, int]

    def __call__(self, prompt: int, layer: int, n_neurons: int) -> Float64:
        """Draw the signs of the neurons of a layer in a prompt: (neuron,)."""
        rng = np.random.default_rng([*self.seed, self.keys[prompt], layer])
        return np.asarray(1.0 - 2.0 * rng.integers(0, 2, n_neurons), dtype=np.float64)


def random_signs(recordings: Sequence[xr.Dataset], seed: int, draw: int) -> list[Signs]:
    """Return signs for every recording, the same for any chunks and any order of prompts and recordings.

    A prompt that several recordings have gets others in each, or what they have in common would stay.
    """
    signs: list[Signs] = []
    for ds, name in zip(recordings, names_of(recordings), strict=True):
        keys = [zlib.crc32(repr((str(p), *name)).encode()) for p in ds["prompt"].to_numpy()]
        signs.append(RandomSigns(keys, (seed, draw)))
    return signs
