"""What a component stands for: the conditions that it follows, the contrasts that it looks like."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import xarray as xr

from ... import _version
from ...store.arguments import check_seed
from ...store.errors import InputError, InputTypeError
from ...store.moments import Float64
from ...store.provenance import ORIGIN
from ...store.schema import text_array
from ..overlap.matching import correlate_maps
from ..permutation.prompt_values import permute_prompt_values
from ..threshold import check_fraction

Int = npt.NDArray[np.int64]


def label_components(
    components: xr.Dataset,
    courses: xr.Dataset | None = None,
    contrasts: xr.Dataset | Mapping[str, xr.Dataset] | None = None,
    *,
    by: str = "condition",
    confounds: Sequence[str] | None = None,
    alpha: float = 0.05,
    n_permutations: int = 1000,
    seed: int = 0,
) -> xr.Dataset:
    """Label components by the conditions that they follow, and by the contrasts that they look like.

    Parameters
    ----------
    components
        From `group_ica`.
    courses
        From `dual_regression` with the same components: ``time_course`` (component, prompt, token). Courses
        of prompts that the components were not made from make the labels honest about new prompts.
    contrasts
        From `compute_contrast`: one, or name -> contrast; maps (layer, neuron). Of ``measure="signed"``, as
        components are: magnitudes look like none of them.
    by
        The label of the prompts whose values are the conditions.
    confounds
        Labels within whose values the prompts exchange their conditions. [``("run",)``, where there are runs]
    alpha
        Chance that any component gets a label where no course follows any condition.
    n_permutations, seed
        As of `permutation_test`.

    Returns
    -------
    Dataset, computed here; with `courses`

    correlation : (component, condition), Pearson's over prompts, of the mean course of each prompt with
        being of the condition; NaN for a course that never changes
    p_value : (component, condition), two-sided, of the condition against the mean of the others: a
        permutation test over prompts
    p_corrected : (component, condition), for the largest statistic of all components, times the number of
        conditions (two conditions are one test)
    label : (component), the condition with the correlation of largest magnitude among those with
        p_corrected of at most `alpha`; "" without
    label_sign : (component), of that correlation: -1 where the component falls in its condition; 0 without

    and with `contrasts`

    map_correlation : (component, contrast), Pearson's over neurons, of the component's map with the
        contrast's z (its statistic if it has none). No p is given: neurons are not independent, and a
        contrast of the same prompts shares their noise
    map_label : (component), the contrast of the largest magnitude; "" where there is none

    Raises
    ------
    InputError, InputTypeError
        Neither courses nor contrasts were given, they are of other components or neurons, the label is
        missing or has one value only.
    """
    check_fraction("alpha", alpha)
    check_seed(seed)
    if not isinstance(components, xr.Dataset) or "component_map" not in components:
        raise InputTypeError("label_components takes components from actome.group_ica")
    if courses is None and contrasts is None:
        raise InputError("label_components needs courses (from dual_regression) or contrasts to label by")
    out = xr.Dataset(coords={"component": components["component"].to_numpy()})
    attrs: dict[str, object] = {}
    if courses is not None:
        means = _prompt_means(components, courses)
        followed, test = _followed(means, by, confounds, alpha, n_permutations, seed)
        out, attrs = out.merge(followed), test
    if contrasts is not None:
        out = out.merge(_alike(components, contrasts))
    origin = {k: components.attrs[k] for k in ORIGIN if k in components.attrs}
    return out.assign_attrs(
        **origin, **attrs, kind="component_labels", by=by, alpha=alpha, seed=seed, actome=_version.__version__
    )


def _prompt_means(components: xr.Dataset, courses: xr.Dataset) -> xr.DataArray:
    """Mean course of each prompt over its tokens: (prompt, component)."""
    if not isinstance(courses, xr.Dataset) or "time_course" not in courses:
        raise InputTypeError("courses must come from actome.dual_regression")
    course = courses["time_course"]
    if "component" not in course.dims or not np.array_equal(course["component"], components["component"]):
        raise InputError(
            "the courses are not of these components; make them with dual_regression(ds, components)"
        )
    labels = {c: course[c].variable for c in course.coords if course[c].dims == ("prompt",)}
    mean: xr.DataArray = course.mean("token", skipna=True).transpose("prompt", "component")
    return mean.assign_coords(labels)


def _followed(
    means: xr.DataArray,
    by: str,
    confounds: Sequence[str] | None,
    alpha: float,
    n_permutations: int,
    seed: int,
) -> tuple[xr.Dataset, dict[str, object]]:
    if by not in means.coords:
        labels = sorted(str(c) for c in means.coords if means[c].dims == ("prompt",))
        raise InputError(f"the courses have no label {by!r} of the prompts; they have {labels}")
    shown = text_array(means[by].to_numpy())
    names = np.unique(shown)
    if len(names) < 2:
        raise InputError(f"{by!r} must have two values or more to be told apart, got {names.tolist()}")
    tests = []
    for name in names:
        weights = {str(n): 1.0 if n == name else -1.0 / (len(names) - 1) for n in names}
        tests.append(
            permute_prompt_values(
                means, weights, formula=by, confounds=confounds, n_permutations=n_permutations, seed=seed
            )
        )
    p_corrected = np.stack([t["p_corrected"].to_numpy() for t in tests], axis=1)
    p_corrected = np.minimum(1.0, p_corrected * (len(names) if len(names) > 2 else 1))
    r = _correlation(means.to_numpy(), (shown[:, None] == names).astype(np.float64))
    label, sign = _strongest(np.where(p_corrected <= alpha, r, np.nan), names.tolist())
    dims = ("component", "condition")
    found = xr.Dataset(
        {
            "correlation": (dims, r),
            "p_value": (dims, np.stack([t["p_value"].to_numpy() for t in tests], axis=1)),
            "p_corrected": (dims, p_corrected),
            "label": ("component", label),
            "label_sign": ("component", sign),
        },
        coords={"condition": names.astype(object)},
    )
    keep = ("confounds", "exchangeability", "n_permutations", "smallest_p_corrected")
    return found, {k: tests[0].attrs[k] for k in keep}


def _alike(components: xr.Dataset, contrasts: xr.Dataset | Mapping[str, xr.Dataset]) -> xr.Dataset:
    if isinstance(contrasts, xr.Dataset):
        contrasts = {str(contrasts.attrs.get("contrast", "contrast")): contrasts}
    maps = []
    for name, contrast in contrasts.items():
        if not isinstance(contrast, xr.Dataset) or "stat" not in contrast:
            raise InputTypeError(f"contrast {name!r} must come from actome.compute_contrast")
        z = contrast["z_score"] if "z_score" in contrast else contrast["stat"]
        if set(z.dims) != {"layer", "neuron"}:
            raise InputError(f"contrast {name!r} must be one map (layer, neuron), got {z.dims}; choose one")
        maps.append(z.transpose("layer", "neuron").reset_coords(drop=True).expand_dims(network=[name]))
    shown = xr.concat(maps, "network")
    # one by one, as components of different windows of layers have no neuron in common
    own = [components["component_map"].isel(component=[i]) for i in range(components.sizes["component"])]
    r = np.concatenate([correlate_maps(component, shown) for component in own])
    names = list(contrasts)
    return xr.Dataset(
        {
            "map_correlation": (("component", "contrast"), r),
            "map_label": ("component", _strongest(r, names)[0]),
        },
        coords={"contrast": np.array(names, dtype=object)},
    )


def _correlation(X: Float64, Y: Float64) -> Float64:
    """Pearson's correlation over rows of the columns of X and Y; NaN where one never changes."""
    X, Y = X - X.mean(axis=0), Y - Y.mean(axis=0)
    size = np.outer(np.linalg.norm(X, axis=0), np.linalg.norm(Y, axis=0))
    return np.asarray(np.divide(X.T @ Y, size, out=np.full(size.shape, np.nan), where=size > 0))


def _strongest(r: Float64, names: list[str]) -> tuple[npt.NDArray[np.object_], Int]:
    """Name and sign of the value of largest magnitude in each row, of two equal ones the positive."""
    label, sign = np.full(len(r), "", dtype=object), np.zeros(len(r), dtype=np.int64)
    for i, row in enumerate(r):
        there = np.flatnonzero(np.isfinite(row))
        if len(there):
            best = max(there.tolist(), key=lambda j: (round(abs(row[j]), 9), row[j]))
            label[i], sign[i] = names[best], int(np.sign(row[best]))
    return label, sign
