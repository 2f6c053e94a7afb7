"""A layer x neuron map as pixels: neurons drawn together where they are many, kept ones marked."""

import math

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.colors import Normalize

from .gather import Bool, Float32

Pixels = npt.NDArray[np.uint8]

MAX_COLUMNS = 1000
_DIVERGING = "RdBu_r"  # told apart by the colour-blind: red and blue, white between
_MISSING = (205, 205, 205)
_MARK = (20, 20, 20)
_STRIP = (255, 255, 255)


def aggregate(values: Float32, n_columns: int = MAX_COLUMNS) -> Float32:
    """Draw neighbouring neurons together, by the value farthest from zero, its sign kept.

    Parameters
    ----------
    values
        (layer, neuron); NaN where there is none.
    n_columns
        At most so many columns are left.

    Returns
    -------
    (layer, column); NaN where all neurons of a column are NaN.

    >>> aggregate(np.array([[1.0, -3.0, 2.0, np.nan, 0.5]], dtype=np.float32), 3).tolist()
    [[-3.0, 2.0, 0.5]]
    """
    size = neurons_per_column(values.shape[1], n_columns)
    if size == 1:
        return values
    padding = -values.shape[1] % size
    padded = np.pad(values, ((0, 0), (0, padding)), constant_values=np.nan)
    binned = padded.reshape(len(values), -1, size)  # (layer, column, neuron of the column)
    magnitude = np.where(np.isnan(binned), -1.0, np.abs(binned))
    largest = magnitude.argmax(axis=2)
    return np.asarray(np.take_along_axis(binned, largest[..., None], axis=2)[..., 0])


def neurons_per_column(n_neurons: int, n_columns: int = MAX_COLUMNS) -> int:
    """Return how many neurons share a column of `aggregate`."""
    return max(1, math.ceil(n_neurons / n_columns))


def any_kept(mask: Bool, n_columns: int = MAX_COLUMNS) -> Bool:
    """Say which columns of `aggregate` hold a kept neuron: (layer, column)."""
    return aggregate(mask.astype(np.float32), n_columns) > 0


def colour_limit(maps: list[Float32]) -> float:
    """Choose where the colours end: a round number above all but the most extreme 0.5 % of the values."""
    finite = [np.abs(m[np.isfinite(m)]) for m in maps]
    values = np.concatenate(finite) if finite else np.zeros(0)
    top = float(np.quantile(values, 0.995)) if values.size else 0.0
    if top <= 0:
        return 1.0
    step = 10.0 ** math.floor(math.log10(top)) / 2
    return math.ceil(top / step - 1e-6) * step


def paint(values: Float32, kept: Bool | None, limit: float, row: int, column: int) -> Pixels:
    """Paint a map: each layer a band of `row` pixels, its lower third a strip that marks what is kept.

    Parameters
    ----------
    values, kept
        (layer, column); without `kept` there is no strip.
    limit
        Value of the darkest colours.
    row, column
        Height of a layer and width of a column, in pixels.

    Returns
    -------
    (layer * row, columns * column, 3).
    """
    shade = mpl.colormaps[_DIVERGING](Normalize(-limit, limit)(values), bytes=True)[..., :3]
    shade[~np.isfinite(values)] = _MISSING
    pixels = np.repeat(shade[:, None], row, axis=1)  # (layer, pixel of the band, column, colour)
    if kept is not None:
        strip = max(1, row // 3)
        pixels[:, row - strip :] = np.where(kept[..., None], _MARK, _STRIP).astype(np.uint8)[:, None]
    flat = pixels.reshape(-1, values.shape[1], 3)
    return np.asarray(np.repeat(flat, column, axis=1), dtype=np.uint8)
