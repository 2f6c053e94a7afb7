"""Cross-fitting: a network's effect is estimated on other prompts than those that selected it."""

from collections.abc import Mapping, Sequence
from itertools import compress
from typing import Literal

import numpy as np
import scipy.stats
import xarray as xr
from dask.array.core import slices_from_chunks

from ...store.blocks import neuron_blocks, prompt_level, with_tokens
from ...store.errors import InputError, InputTypeError
from ...store.moments import Measure, check_measure
from ...store.selection import SELECTION, Selection
from ..threshold import Control, check_fraction, threshold
from .folds import held_out
from .model import FoldModel, one_neuron, silent

_BLOCK_BYTES = 2**26  # the means of all prompts and some neurons; their fit takes some ten times as much


def cross_fit(
    ds: xr.Dataset,
    contrast: str | Mapping[str, float],
    *,
    formula: str = "condition",
    control: Control = "fdr",
    alpha: float = 0.05,
    by: str = "run",
    n_folds: int | None = None,
    measure: Measure = "magnitude",
    noise: Literal["cluster", "cr2"] = "cr2",
    confounds: Sequence[str] | None = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> xr.Dataset:
    """Select a network on some prompts and estimate its effect on the others, fold by fold.

    Neurons that a contrast selects look stronger in the prompts that selected them than they are: even
    a network of chance has an effect there. In each fold the network is selected on all prompts but the
    fold's, by `fit_glm`, `compute_contrast` and `threshold` (one-sided: neurons that the contrast
    raises), and the contrast of the mean over its neurons is estimated on the fold's prompts.

    Parameters
    ----------
    ds
        A recording at either level.
    contrast
        An expression or name -> weight, as for `compute_contrast`; a t contrast.
    formula, measure, noise, confounds
        As for `fit_glm`, but for regressors that vary from token to token. The default noise, "cr2", is the
        one that suits the few prompts of a fold. A confound that does not vary in a fold is left out there.
    control, alpha
        As for `threshold`; not "maxt".
    by
        The label whose values are the folds. A recording without runs, or of one run, is parted in two.
    n_folds
        Instead: draw so many folds of equal size, balanced by the formula's label, condition and run.
    confidence
        Of the intervals.
    seed
        Draws the folds, where they are drawn.

    Returns
    -------
    Dataset, computed here

    mask : bool (fold, layer, neuron), the networks; a neuron that is NaN or infinite in any prompt is in none
    size : (fold), neurons of each
    effect, variance, dof, low, high : (fold), of the network's mean on the fold's prompts, in units of the
        activation; the variance is cluster-robust, low to high its interval; NaN for an empty network
    naive : (fold), the same effect on the prompts that selected the network
    effect_combined, low_combined, high_combined, naive_combined : means over the folds with a network. A
        network depends on the other folds' prompts, so errors of the folds may go together: the mean of
        their limits allows for that, and is no narrower than the folds' own intervals are on average
    selected_on, estimated_on : bool (fold, prompt); prompts without tokens are in neither

    Raises
    ------
    InputError, InputTypeError
        An option is unknown, the label is missing, the prompts of a fold, or the others, do not suffice,
        or the contrast is not the same in all of them, as where a fold lacks a condition.

    References
    ----------
    .. [1] Kriegeskorte et al. (2009), Nat. Neurosci. 12:535-540.
    .. [2] Chernozhukov et al. (2018), Econom. J. 21:C1-C68.
    """
    _check_options(contrast, measure, noise)
    check_fraction("confidence", confidence)
    moments = with_tokens(prompt_level(ds))
    labels = moments.drop_dims(["layer", "neuron"])
    folds = held_out(labels, by, n_folds, formula, seed)
    model = FoldModel(contrast, formula, noise, confounds)
    model.check(labels, folds)
    # refuses a control that it does not know before anything is read
    threshold(model.test(silent(labels), measure), control=control, alpha=alpha)
    mask = _select(moments, folds, model, measure, control, alpha)
    means = _network_means(moments["mean_abs" if measure == "magnitude" else "mean"], mask)
    out = _estimates(labels, means, folds, model, confidence)
    return out.assign(
        mask=mask.assign_attrs(Selection.of(labels).attrs),
        size=mask.sum(("layer", "neuron"), keep_attrs=False),
        selected_on=~folds,
        estimated_on=folds,
    ).assign_attrs(
        mask.attrs,
        kind="crossfit",
        formula=formula,
        confounds=model.removed(labels),
        folds=folds.attrs["folds"],
        seed=seed,
        confidence=confidence,
        exchangeability="prompts are independent of each other, also between folds",
    )


def fold_network(fitted: xr.Dataset, fold: object) -> xr.DataArray:
    """Return the network of one fold, with the prompts that selected it: a lesion is not scored on those.

    Parameters
    ----------
    fitted
        From `cross_fit`.
    fold
        A value of its coordinate ``fold``.

    Returns
    -------
    DataArray bool (network, layer, neuron)
        One network, as `score` takes it; attrs ``selected_on`` lists prompt ids, ``selected_texts`` digests
        of their texts.

    Raises
    ------
    InputError, InputTypeError
        There is no such fold, or `fitted` is something else.
    """
    if not isinstance(fitted, xr.Dataset) or not {"mask", "selected_on"} <= set(fitted):
        raise InputTypeError("fold_network takes a result of actome.cross_fit")
    names = fitted["fold"].to_numpy().tolist()
    if fold not in names:
        raise InputError(f"there is no fold {fold!r}; there are {names}")
    one = fitted.isel(fold=names.index(fold))
    mask = one["mask"].drop_vars("fold").expand_dims(network=[f"fold {fold}"])
    every, shown = Selection.noted(mask.attrs) or Selection(), Selection.of(one)
    if every.attrs["selected_on"] != shown.attrs["selected_on"]:
        every = shown  # of some prompts alone, or in another order
    selecting = compress(every.prompts, one["selected_on"].to_numpy())
    mask.attrs = {k: v for k, v in mask.attrs.items() if k not in SELECTION}
    return mask.assign_attrs(Selection(tuple(selecting)).attrs)


def _check_options(contrast: object, measure: str, noise: str) -> None:
    if not isinstance(contrast, str | Mapping):
        raise InputTypeError(
            "cross_fit takes a contrast as an expression or as name -> weight, since the folds have other "
            f"confounds than the whole; got {type(contrast).__name__}"
        )
    check_measure(measure)
    if noise not in ("cluster", "cr2"):
        raise InputError(f"noise must be 'cluster' or 'cr2' in cross_fit, got {noise!r}")


def _select(
    moments: xr.Dataset,
    folds: xr.DataArray,
    model: FoldModel,
    measure: Measure,
    control: Control,
    alpha: float,
) -> xr.DataArray:
    """Select the network of each fold on the prompts outside it, in one go through the recording."""
    # texts are noted once, of all folds, and not for every block of neurons
    moments = moments[["count", "mean", "m2", "mean_abs"]].drop_vars("text", errors="ignore")
    blocks = neuron_blocks(moments["mean"], _BLOCK_BYTES).chunks[1:]
    layers, neurons = ([s for (s,) in slices_from_chunks((sizes,))] for sizes in blocks)  # type: ignore[no-untyped-call]
    rows = [[_tests(moments.isel(layer=i, neuron=j), folds, model, measure) for j in neurons] for i in layers]
    return threshold(_joined([_joined(row, "neuron") for row in rows], "layer"), control=control, alpha=alpha)


def _tests(moments: xr.Dataset, folds: xr.DataArray, model: FoldModel, measure: Measure) -> xr.Dataset:
    """Test a block of neurons outside every fold: (fold, layer, neuron), NaN unless finite throughout."""
    moments = moments.compute()
    tests = [model.test(moments.isel(prompt=np.flatnonzero(~fold)), measure) for fold in folds]
    maps = [test[["stat", "p_value", "z_score"]].reset_coords(drop=True) for test in tests]
    return _joined(maps, folds["fold"]).where((abs(moments["mean"]) < np.inf).all("prompt"))


def _joined(parts: Sequence[xr.Dataset], dim: str | xr.DataArray) -> xr.Dataset:
    """Put maps side by side, with the attrs that they share."""
    return xr.concat(parts, dim, combine_attrs="drop_conflicts")


def _network_means(values: xr.DataArray, mask: xr.DataArray) -> xr.DataArray:
    """Mean over the neurons of each network: (fold, prompt), NaN for an empty one."""
    size = mask.sum(("layer", "neuron"))
    # a neuron that is not finite is in no network, and must not spoil those of others
    finite = values.where(np.isfinite(values), 0.0)
    total = xr.dot(mask.astype(np.float64), finite, dim=("layer", "neuron"))
    means: xr.DataArray = (total / size.where(size > 0)).compute()
    return means


def _estimates(
    labels: xr.Dataset, means: xr.DataArray, folds: xr.DataArray, model: FoldModel, confidence: float
) -> xr.Dataset:
    """Effects of the networks' means inside and outside their folds, with intervals."""
    rows = []
    for mean, fold in zip(means, folds, strict=True):
        if mean.isnull().any():
            rows.append([np.nan] * 4)
            continue
        network = one_neuron(labels, mean.drop_vars("fold"))
        other, same = (
            model.test(network.isel(prompt=np.flatnonzero(part)), "signed").squeeze()
            for part in (fold, ~fold)
        )
        values = (other["effect"], other["variance"], other["dof"], same["effect"])
        rows.append([float(v) for v in values])
    effect, variance, dof, naive = np.array(rows).T
    half = scipy.stats.t.ppf((1 + confidence) / 2, dof) * np.sqrt(variance)
    each = {"effect": effect, "low": effect - half, "high": effect + half, "naive": naive}
    some = ~np.isnan(effect)
    combined = {f"{k}_combined": v[some].mean() if some.any() else np.nan for k, v in each.items()}
    along = {k: ("fold", v) for k, v in {**each, "variance": variance, "dof": dof}.items()}
    return xr.Dataset({**along, **combined}, coords={"fold": folds["fold"]})
