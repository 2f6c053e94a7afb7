"""Matched random controls: other neurons of the same layers, as many, and as active."""

import numpy as np
import numpy.typing as npt

Bool = npt.NDArray[np.bool_]
Float64 = npt.NDArray[np.float64]

_NEIGHBOURS = 8  # free neurons nearest in magnitude, from which a control is drawn


def matched_controls(target: Bool, magnitude: Float64 | None, n_draws: int, rng: np.random.Generator) -> Bool:
    """Draw random networks that match a target in size, layers and, where known, magnitude.

    Each neuron of the target is replaced by one of the few neurons outside the target, in its
    layer, whose magnitude is nearest to its own, drawn without replacement. A layer more than
    half of which belongs to the target has too few others: there all others are taken, and the
    rest is drawn from the target itself.

    Parameters
    ----------
    target
        (layer, neuron).
    magnitude
        (layer, neuron): mean |activation|; None matches size and layers alone.
    n_draws
        Number of controls.
    rng
        Draws.

    Returns
    -------
    (draw, layer, neuron) bool.
    """
    out = np.zeros((n_draws, *target.shape), dtype=bool)
    for draw in range(n_draws):
        for layer in np.flatnonzero(target.any(axis=1)):
            value = None if magnitude is None else magnitude[layer]
            out[draw, layer, _draw_layer(target[layer], value, rng)] = True
    return out


def _draw_layer(target: Bool, magnitude: Float64 | None, rng: np.random.Generator) -> npt.NDArray[np.intp]:
    members, others = np.flatnonzero(target), np.flatnonzero(~target)
    if len(others) <= len(members):
        return np.concatenate([others, rng.choice(members, len(members) - len(others), replace=False)])
    if magnitude is None:
        return rng.choice(others, len(members), replace=False)
    free = others[np.argsort(magnitude[others], kind="stable")].tolist()
    values = magnitude[free].tolist()
    drawn = []
    for member in rng.permutation(members):
        i = _near(values, float(magnitude[member]), rng)
        drawn.append(free.pop(i))
        values.pop(i)
    return np.array(drawn, dtype=np.intp)


def _near(values: list[float], wanted: float, rng: np.random.Generator) -> int:
    """Draw one of the nearest entries of a sorted list."""
    position = int(np.searchsorted(values, wanted))
    low = min(max(0, position - _NEIGHBOURS // 2), max(0, len(values) - _NEIGHBOURS))
    return int(rng.integers(low, min(low + _NEIGHBOURS, len(values))))


def mismatch(target: Bool, control: Bool, magnitude: Float64 | None) -> float:
    """Relative difference of the mean magnitude that is left between a control and its target."""
    if magnitude is None or not target.any() or not control.any():
        return float("nan")
    wanted = float(magnitude[target].mean())
    return (float(magnitude[control].mean()) - wanted) / wanted if wanted else float("nan")
