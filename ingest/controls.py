"""Control networks: other neurons of the same layers, as many, and as active or the least selective."""

import numpy as np
import numpy.typing as npt

Bool = npt.NDArray[np.bool_]
Int = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

_SMALLEST = 16  # values of a stratum that is parted no further
_SHARE = 1 / 4  # of a stratum that may be the target's


def matched_controls(target: Bool, magnitude: Float64 | None, n_draws: int, rng: np.random.Generator) -> Bool:
    """Draw random networks that match a target in size, layers and, where known, magnitude.

    The neurons of a layer, in order of magnitude, are parted into strata: halved again and again, down to
    16, while no more than a quarter of either half is the target's. A control has as many neurons of each
    stratum as the target, any of them, the target's own too. So a target that is nothing but a random
    choice of such neurons is exchangeable with its controls. Controls that avoid the target are not: among
    the most active neurons of a layer only less active ones would be left, and p was measured to be up to
    2.5 times too small.

    The width of the strata trades two errors: in wide ones a target that fills their upper end is more
    active than its controls, which makes p too small where activity alone hurts, and in narrow ones the
    controls are mostly the target itself, which hides what it does. A quarter bounds the second; the first
    is kept with each control as `mismatch`, from which `lesion_effects` has a p at equal activity.

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
    each = np.ones(target.shape[1], dtype=np.int64)
    for layer in np.flatnonzero(target.any(axis=1)):
        order, parts = np.arange(target.shape[1]), [slice(None)]
        if magnitude is not None:
            order = np.argsort(magnitude[layer], kind="stable")
            parts = strata(each, target[layer, order])
        for stratum in (order[part] for part in parts):
            n = int(target[layer, stratum].sum())
            for draw in range(n_draws if n else 0):
                out[draw, layer, rng.choice(stratum, n, replace=False)] = True
    return out


def strata(members: Int, own: Int | Bool) -> list[slice]:
    """Part values in order of magnitude: halve while both halves are large and hold little of a target.

    Parameters
    ----------
    members
        (bin,): how many values have each magnitude, in its order.
    own
        (bin,): how many of them are the target's.

    Returns
    -------
    The strata in order, each a run of bins.
    """

    def part(first: int, last: int) -> list[slice]:
        middle = (first + last + 1) // 2
        for half in (slice(first, middle), slice(middle, last)):
            n = members[half].sum()
            if n < _SMALLEST or own[half].sum() > _SHARE * n:
                return [slice(first, last)]
        return part(first, middle) + part(middle, last)

    return part(0, len(members))


def least_selective(target: Bool, selectivity: Float64) -> Bool:
    """Take, in each layer of a target, as many neurons outside it as it has, the least selective ones.

    Parameters
    ----------
    target
        (layer, neuron).
    selectivity
        (layer, neuron): any map whose magnitude says how selective a neuron is, such as the statistic of
        a contrast. A neuron that has none (NaN) comes last.

    Returns
    -------
    (layer, neuron) bool. Where more than half of a layer belongs to the target, all others of the layer,
    and the least selective of the target.
    """
    out = np.zeros_like(target)
    for layer in np.flatnonzero(target.any(axis=1)):
        value = np.where(np.isnan(selectivity[layer]), np.inf, np.abs(selectivity[layer]))
        order = np.lexsort((value, target[layer]))  # those outside first, each part from the least on
        out[layer, order[: int(target[layer].sum())]] = True
    return out


def mismatch(target: Bool, control: Bool, magnitude: Float64 | None) -> float:
    """Relative difference of the mean magnitude that is left between a control and its target."""
    if magnitude is None or not target.any() or not control.any():
        return float("nan")
    wanted = float(magnitude[target].mean())
    return (float(magnitude[control].mean()) - wanted) / wanted if wanted else float("nan")


def size_mismatch(target: Bool, control: Bool) -> float:
    """Relative difference of the number of neurons; NaN for a target without any."""
    n = int(target.sum())
    return (int(control.sum()) - n) / n if n else float("nan")


def layer_mismatch(target: Bool, control: Bool) -> float:
    """Share of the neurons that would have to move to another layer for the two to have as many in each.

    Half the sum over layers of the differences in share (total variation); NaN where one has no neuron.
    """
    counts = [mask.sum(axis=1).astype(np.float64) for mask in (target, control)]
    if not all(n.sum() for n in counts):
        return float("nan")
    return float(np.abs(counts[0] / counts[0].sum() - counts[1] / counts[1].sum()).sum() / 2)


def shared(target: Bool, control: Bool) -> float:
    """Share of a control's neurons that are the target's own; NaN for a control without any."""
    n = int(control.sum())
    return int((target & control).sum()) / n if n else float("nan")
