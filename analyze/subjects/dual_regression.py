"""Dual regression: each subject's time courses of the group's components, and its maps of them."""

import dask.array as da
import numpy as np
import xarray as xr

from ...store.blocks import activation_array, valid_tokens
from ...store.errors import InputTypeError
from ...store.moments import Bool, Float64
from ...store.provenance import source_attrs
from ...store.selection import kept_selection
from ..components.scaling import scaling
from .checks import Int, check_neurons, labels_of, recording_with_tokens, subjects_of
from .projection import over_tokens_of_groups, over_tokens_of_prompts
from .time_courses import regressed


def dual_regression(
    ds: xr.Dataset,
    components: xr.Dataset,
    *,
    subject: str = "prompt",
    demean: bool = False,
    normalize: bool = True,
    standardize: bool | None = None,
) -> xr.Dataset:
    """Give every subject its own time courses and maps of the group's components.

    First the neurons of every token are regressed on the maps and a constant: the time courses. Then the
    tokens of every subject are regressed on its time courses: its maps.

    Parameters
    ----------
    ds
        A recording at the level of tokens, of the neurons of the components; it need not be the one that
        they come from.
    components
        From `group_ica`: ``component_map`` (component, layer, neuron). Components of one window of layers
        are regressed together, and apart from those of other windows.
    subject
        "prompt", or a label whose values make the subjects.
    demean
        Take each subject's own mean off its neurons and time courses before the second step, as is usual
        in imaging. By default they are only centred over all tokens, as in `group_ica`: what a prompt
        does to the mean of a neuron is what a condition is.
    normalize
        Give every map zero mean and unit variance over neurons, as group maps have; `networks` then
        applies. Otherwise maps are regression coefficients, of neurons in standard deviations.
    standardize
        Give every neuron unit variance over the tokens of `ds`; by default as the components were made.

    Returns
    -------
    Dataset. The time courses are computed here, in two passes over the cube; the maps take one more

    time_course : (component, prompt, token), NaN on padding
    component_map : (subject, component, layer, neuron), lazy; NaN for a neuron without a finite value
        somewhere, and for a map that is the same everywhere
    similarity : (subject, component), lazy: Pearson's correlation of the subject's map with the group's
    rank : (subject), of its time courses, summed over windows; below the number of components its maps are
        not unique, and those of the smallest norm are given
    subject_tokens : (subject), how many each has

    The labels of prompts and tokens are kept; prompts without tokens are left out. What is regressed on
    the group's maps resembles them: that a subject's map is like the group's is no evidence that the
    component recurs in it; `individual_components` look for that without knowing the group's.

    Raises
    ------
    InputError, InputTypeError
        The recording has no tokens, or other neurons than the maps; the maps are linearly dependent;
        there is no such label.

    References
    ----------
    .. [1] Beckmann et al. (2009), NeuroImage 47, Supplement 1:S148.
    .. [2] Nickerson et al. (2017), Frontiers in Neuroscience 11:115.

    Examples
    --------
    >>> from actome.store.phantom import phantom
    >>> ds = phantom(n_networks=2, network_gain=3.0)
    >>> maps = ds["true_network"].astype(float).rename(network="component").assign_coords(component=[0, 1])
    >>> dual = dual_regression(ds, maps.to_dataset(name="component_map"), subject="condition")
    >>> dict(dual["component_map"].sizes)["subject"], bool((dual["similarity"] > 0.9).all())
    (3, True)
    """
    group = _group_maps(components)
    ds = recording_with_tokens(ds, "dual_regression")
    check_neurons(ds, group, "components")
    names, code = subjects_of(ds, subject)
    if standardize is None:
        standardize = bool(components.attrs.get("standardize", True))
    valid, scale = valid_tokens(ds), scaling(ds, standardize=standardize)
    maps = group.to_numpy().astype(np.float64)
    window = _windows(group)
    usable = scale.usable.reshape(maps.shape[1:]) & _finite(maps, window)
    courses = regressed(ds, valid, scale, maps, usable, window)
    weights, rank = _second_step(courses, valid, code, len(names), demean, window)
    cube, lazy = activation_array(ds), da.from_array(weights)  # type: ignore[no-untyped-call]
    if subject == "prompt":
        own = over_tokens_of_prompts(cube, valid, scale, lazy)
    else:
        own = over_tokens_of_groups(cube, valid, scale, lazy, code)
    similarity, own = _compared(own, maps, usable, normalize)
    coords = {"subject": names, "component": group["component"].to_numpy()}
    return xr.Dataset(
        {
            "time_course": (("prompt", "token", "component"), courses),
            "component_map": (("subject", "component", "layer", "neuron"), own),
            "similarity": (("subject", "component"), similarity),
            "rank": ("subject", rank),
            "subject_tokens": ("subject", np.bincount(code, valid.sum(axis=1)).astype(np.int64)),
        },
        coords={
            **coords,
            **labels_of(ds, "prompt", "token"),
            **labels_of(ds, "layer"),
            **labels_of(ds, "neuron"),
        },
        attrs={
            "kind": "dual_regression",
            "subject": subject,
            "demean": demean,
            "normalize": normalize,
            "standardize": standardize,
            "components": components.attrs.get("source", ""),
            **kept_selection(components.attrs),
            **source_attrs(ds.attrs),
        },
    ).transpose("subject", "component", "prompt", "token", "layer", "neuron")


def _group_maps(components: xr.Dataset) -> xr.DataArray:
    if not isinstance(components, xr.Dataset) or "component_map" not in components:
        raise InputTypeError("dual_regression takes components from actome.group_ica")
    maps = components["component_map"]
    if set(maps.dims) != {"component", "layer", "neuron"}:
        raise InputTypeError(
            f"dual_regression takes the group's maps (component, layer, neuron), got {maps.dims}"
        )
    return maps.transpose("component", "layer", "neuron")


def _windows(group: xr.DataArray) -> Int:
    """Give each component the number of its window of layers: 0 where there are none."""
    if "window" not in group.coords or group["window"].dims != ("component",):
        return np.zeros(group.sizes["component"], dtype=np.int64)
    return np.unique(group["window"].to_numpy(), return_inverse=True)[1].reshape(-1).astype(np.int64)


def _finite(maps: Float64, window: Int) -> Bool:
    """Where all maps of a map's window have values: (component, layer, neuron)."""
    out = np.empty(maps.shape, dtype=bool)
    for w in np.unique(window):
        out[window == w] = np.isfinite(maps[window == w]).all(axis=0)
    return out


def _second_step(
    courses: Float64, valid: Bool, code: Int, n_subjects: int, demean: bool, window: Int
) -> tuple[Float64, Int]:
    """Return what the tokens of each subject are multiplied by to give its maps, and the rank of its courses.

    (prompt, token, component), 0 on padding: the pseudo-inverse of the subject's courses.
    """
    weights = np.zeros(courses.shape)
    rank = np.zeros(n_subjects, dtype=np.int64)
    order = np.argsort(code, kind="stable")
    bounds = np.searchsorted(code[order], np.arange(n_subjects + 1))
    for s in range(n_subjects):
        prompts = order[bounds[s] : bounds[s + 1]]
        T = courses[prompts][valid[prompts]]  # (token of the subject, component)
        if demean:
            T = T - T.mean(axis=0)
        inverse = np.empty(T.T.shape)
        for w in np.unique(window):
            inverse[window == w], found = _pseudo_inverse(T[:, window == w])
            rank[s] += found
        own = np.zeros((len(prompts), *courses.shape[1:]))
        own[valid[prompts]] = inverse.T
        weights[prompts] = own
    return weights, rank


def _pseudo_inverse(T: Float64) -> tuple[Float64, int]:
    """Pseudo-inverse, and the rank that it takes T to have; singular values are cut as by `lstsq`."""
    U, s, V = np.linalg.svd(T, full_matrices=False)
    kept = s > np.finfo(np.float64).eps * max(T.shape) * s.max(initial=0.0)
    return np.asarray((V[kept].T / s[kept]) @ U[:, kept].T), int(kept.sum())


def _compared(own: da.Array, group: Float64, usable: Bool, normalize: bool) -> tuple[da.Array, da.Array]:
    """Correlation with the group's maps (subject, component); and the maps, put on one scale if asked for."""
    n = usable.sum(axis=(1, 2), keepdims=True)
    away = group - group.mean(axis=(1, 2), where=usable, keepdims=True)
    size = np.sqrt(np.square(away).mean(axis=(1, 2), where=usable, keepdims=True))
    unit = np.where(usable, away / size, 0.0)  # (component, layer, neuron)
    inside = da.where(usable, own, 0.0)
    mean = inside.sum(axis=(2, 3), keepdims=True) / n
    centred = da.where(usable, inside - mean, 0.0)
    sd = da.sqrt((centred**2).sum(axis=(2, 3), keepdims=True) / n)
    sd = da.where(sd > 0, sd, np.nan)
    similarity = ((centred * unit).sum(axis=(2, 3), keepdims=True) / n / sd)[:, :, 0, 0]
    shown = centred / sd if normalize else own
    return similarity, da.where(usable, shown, np.nan)
