"""P of a network against controls that are not quite as active as it is."""

import numpy as np

from ...store.moments import Float64

_ROOM = 1e-8  # of a draw that the line goes through, whatever its effect: nothing is left to compare


def p_at_equal_activity(effect: Float64, control: Float64, mismatch: Float64) -> Float64:
    """Share of the draws, the target among them, that hurt as much for their activity or more.

    One line, of effect on mean magnitude, is fitted through the target and its controls together, and the
    draws are compared by their distance from it, in units of its standard error (internally studentised):
    covariance adjustment [1]_. The target has no special part in the fit, so a target that is nothing but a
    random draw is as exchangeable with its controls as before. Where one is more active than all its
    controls, what a network of its activity would do follows from the line alone.

    Parameters
    ----------
    effect
        (network, condition).
    control
        (network, draw, condition).
    mismatch
        (network, draw): relative difference of a control's mean magnitude from its target's.

    Returns
    -------
    (network, condition): NaN below two controls, where a mismatch is not known, for a target without an
    effect, and where all controls are equally active and the target is not. A control without an effect
    counts as strong.

    References
    ----------
    .. [1] Rosenbaum (2002), Statistical Science 17:286-327.
    """
    out = np.full(effect.shape, np.nan)
    for k in np.flatnonzero(np.isfinite(mismatch).all(axis=1)):
        activity = np.concatenate([[0.0], mismatch[k]])
        for v in range(effect.shape[1]):
            out[k, v] = _place(np.concatenate([effect[k, v : v + 1], control[k, :, v]]), activity)
    return out


def _place(effect: Float64, activity: Float64) -> float:
    """Return the share of the draws that are as far above the line as the first; both are (draw)."""
    known = np.isfinite(effect)
    x, y = activity[known], effect[known]
    if not known[0] or len(y) < 3:
        return float("nan")
    x, y = x - x.mean(), y - y.mean()
    spread = float(x @ x)
    room = 1 - 1 / len(y) - (x**2 / spread if spread else 0.0) * np.ones_like(x)
    if room[0] < _ROOM:
        return float("nan")
    residual = y - (x * float(x @ y) / spread if spread else 0.0)
    far = np.where(room < _ROOM, np.inf, residual / np.sqrt(np.maximum(room, _ROOM)))
    alike = 1e-12 * float(np.abs(y).max())  # equal draws stay equal, whatever is rounded
    return float(((far >= far[0] - alike).sum() + (~known).sum()) / len(effect))
