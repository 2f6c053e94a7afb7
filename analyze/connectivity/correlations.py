"""Functional connectivity: how the time courses of networks correlate within prompts, in each condition."""

import numpy as np
import numpy.typing as npt
import scipy.stats
import xarray as xr

from ...store.errors import InputError, InputTypeError
from ...store.moments import Float64
from ...store.provenance import source_attrs, unfinished_of
from ...store.schema import text_array
from ...store.selection import SELECTION
from ..components.networks import component_names
from .kernels import Shrinkage, correlations, fewest_tokens, fisher_z

_LEVEL = 0.95


def connectivity(
    courses: xr.Dataset,
    *,
    by: str | None = "condition",
    partial: bool = False,
    shrinkage: Shrinkage | None = None,
) -> xr.Dataset:
    """Correlate the time courses of networks within each prompt, and average over the prompts of a condition.

    Parameters
    ----------
    courses
        From `dual_regression` or `network_time_courses`: ``time_course`` (component or network, prompt,
        token).
    by
        The label of the prompts whose values are the conditions; None: all prompts together.
    partial
        Correlate two networks given all others.
    shrinkage
        "ledoit_wolf": shrink each prompt's correlations towards none, by as much as their noise calls
        for [1]_; partial correlations of prompts with few tokens need it.

    Returns
    -------
    Dataset, computed here

    fisher_z : (prompt, network, network_other), Fisher's z of the correlation over the tokens of the prompt;
        NaN on the diagonal, for a network whose course does not vary there, and for a prompt with too few
        tokens: 4, or for partial correlations without shrinkage 2 more than there are networks; for partial
        correlations also where courses are linearly dependent. Of courses that are equal it is that of
        1 - 1e-12
    correlation : (condition, network, network_other), of the mean z, each prompt counting once; NaN without a
        prompt, but always 1 on the diagonal
    low, high : (condition, network, network_other), its 95 % interval, from the spread of z over prompts; NaN
        below two prompts
    n_prompts : (condition, network, network_other), prompts averaged

    Tokens of one prompt are alike, so that no error is taken from their number: prompts are the sample.
    The labels of the prompts are kept, their ``condition`` as ``prompt_condition``.

    Raises
    ------
    InputError, InputTypeError
        These are no courses, the label is missing, there are fewer than two networks, or no prompt has
        enough tokens.

    References
    ----------
    .. [1] Ledoit & Wolf (2004), J. Multivariate Analysis 88:365-411.
    """
    course = _courses(courses)
    if shrinkage not in (None, "ledoit_wolf"):
        raise InputError(f"shrinkage must be None or 'ledoit_wolf', got {shrinkage!r}")
    names, code = _conditions(course, by)
    T = course.to_numpy().astype(np.float64)  # (prompt, token, network)
    there = np.asarray(~np.isnan(T).all(axis=2))
    fewest = fewest_tokens(T.shape[2], partial, shrinkage)
    R = np.full((len(T), T.shape[2], T.shape[2]), np.nan)
    for i in np.flatnonzero(there.sum(axis=1) >= fewest).tolist():
        R[i] = correlations(T[i, there[i]], partial, shrinkage)
    if np.isnan(R).all():
        unstable = partial and shrinkage is None
        hint = "; take shrinkage='ledoit_wolf' (--shrinkage ledoit_wolf)" if unstable else ""
        raise InputError(
            f"no prompt has {fewest} tokens and courses that vary, which the correlation of "
            f"{T.shape[2]} networks needs; the longest has {int(there.sum(axis=1).max(initial=0))}{hint}"
        )
    z = fisher_z(R)
    dims = ("condition", "network", "network_other")
    averaged = {name: (dims, values) for name, values in _averaged(z, code, len(names)).items()}
    labels = {c: course[c].variable for c in course.coords if course[c].dims == ("prompt",)}
    network = course["network"].to_numpy()
    return xr.Dataset(
        {"fisher_z": (("prompt", "network", "network_other"), z), **averaged},
        coords={
            **{c: v for c, v in labels.items() if c not in dims},
            **({"prompt_condition": labels["condition"]} if "condition" in labels else {}),
            "condition": names,
            "network": network,
            "network_other": network,
        },
        attrs={
            "kind": "connectivity",
            "by": by or "",
            "partial": partial,
            "shrinkage": shrinkage or "none",
            "fewest_tokens": fewest,
            "n_left_out": int(np.isnan(R).all(axis=(1, 2)).sum()),
            "interval": _LEVEL,
            **{k: courses.attrs[k] for k in (*SELECTION, "subject", "measure") if k in courses.attrs},
            **{k: courses.attrs.get(k, v) for k, v in source_attrs({}).items()},
            **unfinished_of(courses.attrs),
        },
    )


def _courses(courses: xr.Dataset) -> xr.DataArray:
    """Return time courses (prompt, token, network), components named as their networks are."""
    if not isinstance(courses, xr.Dataset) or "time_course" not in courses:
        raise InputTypeError("connectivity takes courses from actome.dual_regression or network_time_courses")
    course = courses["time_course"]
    if "component" in course.dims:
        names = component_names(course["component"])
        course = course.rename(component="network").assign_coords(network=names)
    if course.sizes["network"] < 2:
        raise InputError(f"connectivity is between networks, two at least; got {course.sizes['network']}")
    return course.transpose("prompt", "token", "network")


def _conditions(course: xr.DataArray, by: str | None) -> tuple[npt.NDArray[np.object_], npt.NDArray[np.intp]]:
    """Name the conditions, and say which one each prompt has."""
    if by is None:
        return np.array(["all"], dtype=object), np.zeros(course.sizes["prompt"], dtype=np.intp)
    if by not in course.coords or course[by].dims != ("prompt",):
        labels = sorted(str(c) for c in course.coords if course[c].dims == ("prompt",))
        raise InputError(f"the courses have no label {by!r} of the prompts; they have {labels}, or by=None")
    names, code = np.unique(text_array(course[by].to_numpy()), return_inverse=True)
    return names.astype(object), code.reshape(-1)


def _averaged(
    z: Float64, code: npt.NDArray[np.intp], n_conditions: int
) -> dict[str, npt.NDArray[np.generic]]:
    """Average Fisher's z over the prompts of each condition: (condition, network, network_other) each."""
    mean = np.full((n_conditions, *z.shape[1:]), np.nan)
    n, reach = np.zeros(mean.shape, dtype=np.int64), mean.copy()
    for c in range(n_conditions):
        own = z[code == c]
        there = ~np.isnan(own)
        n[c] = there.sum(axis=0)
        total = np.where(there, own, 0.0).sum(axis=0)
        np.divide(total, n[c], out=mean[c], where=n[c] > 0)
        squares = np.where(there, np.square(own - mean[c]), 0.0).sum(axis=0)
        some = n[c] > 1
        error = np.sqrt(squares[some] / (n[c][some] - 1) / n[c][some])
        reach[c][some] = scipy.stats.t.ppf((1 + _LEVEL) / 2, n[c][some] - 1) * error
    r = np.tanh(mean)
    itself = np.arange(z.shape[1])
    r[:, itself, itself] = 1.0
    return {"correlation": r, "low": np.tanh(mean - reach), "high": np.tanh(mean + reach), "n_prompts": n}
