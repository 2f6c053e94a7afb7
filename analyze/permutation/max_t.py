"""Permutation inference: the statistic of every neuron against itself under other labels."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import dask.array as da
import numpy as np
import numpy.typing as npt
import xarray as xr
from dask.base import compute
from dask.delayed import delayed

from ...store.arguments import check_seed, whole_number
from ...store.blocks import level_of, neuron_blocks, one_blas_thread, prompt_level, with_tokens
from ...store.errors import InputError
from ...store.moments import Float64, Measure
from ...store.provenance import ORIGIN
from ...store.selection import SELECTION
from ..contrasts import compute_contrast
from ..design.parts import confound_names
from ..design.variables import Variables
from ..fitting.sandwich import cr1_inflation
from ..glm import fit_glm
from .exchange import Labels, Signs, exchange_labels, exchange_signs
from .studentised import freed, observed, studentised

_BLOCK_BYTES = 2**25  # all prompts of some neurons, held by one task
_BATCH_BYTES = 2**24  # their products with some permutations
_MAPS = ("effect", "stat", "p_value")
_EQUAL = 1e-8  # statistics this near are ties that rounding has parted


def permutation_test(
    ds: xr.Dataset,
    contrast: str | Mapping[str, float] | npt.ArrayLike,
    *,
    formula: str = "condition",
    measure: Measure = "magnitude",
    scheme: Literal["labels", "signs"] = "labels",
    confounds: Sequence[str] | None = None,
    unit: Literal["token", "prompt"] = "token",
    n_permutations: int = 1000,
    seed: int = 0,
    two_sided: bool = False,
) -> xr.Dataset:
    """Test a contrast by permuting prompts, corrected for all neurons by the largest statistic.

    The statistic is the t of `fit_glm` with clustered noise, its variance computed anew in every
    permutation.

    Parameters
    ----------
    ds
        A recording at either level; the prompts' means are read, block by block of neurons.
    contrast
        As of `compute_contrast`, of one row.
    formula, measure, confounds, unit
        As of `fit_glm`. All regressors must be constant within a prompt.
    scheme
        "labels": the labels in the formula are permuted between prompts within the values of the
        confounds that are categories, and each prompt keeps its activations, its tokens and its other
        confounds; conditions that the contrast leaves out keep theirs. Exact where labels are
        exchangeable so. "signs": the residuals of the model without the contrast get random signs, one a
        prompt (restricted wild cluster bootstrap); for contrasts with zero or between runs, and where
        conditions of unequal size vary unequally. Measured on nulls of 24 prompts, with a variance nine
        times as large in the 6 of one condition, "signs" found false neurons at .06 for a nominal .05,
        "labels" at .22; with equal variances both at .05 to .06.
    n_permutations
        Permutations beside the recorded labels. Where there are no more than that, each is taken once.
    seed
        Draws the permutations, by prompt id: the order of prompts does not matter.
    two_sided
        Correct for effects of either sign; by default only for positive ones.

    Returns
    -------
    Dataset, computed here; NaN for a neuron that `fit_glm` has no statistic for, which counts nowhere

    effect : (layer, neuron), in units of the activation
    stat : (layer, neuron), t
    p_value : (layer, neuron), uncorrected: twice the smaller tail, as the p of `compute_contrast` has
        two sides
    p_corrected : (layer, neuron), the chance that any neuron reaches this t (single-step max-T), of the
        side or sides tested; for `threshold` with ``control="maxt"``
    null_max : (permutation), largest t over neurons, or largest magnitude

    The recorded labels count as a permutation: p is (1 + those that reach it) / (1 + all). A permutation
    that leaves a neuron no variance, but an effect, reaches everything. attrs state what is taken to be
    ``exchangeability``, how many permutations there are (``n_distinct``, at most 2^53), and the smallest p
    that they allow.

    Raises
    ------
    InputError
        An option is unknown, the design is not constant within prompts, or permuting cannot test the
        contrast.

    References
    ----------
    .. [1] Westfall & Young (1993), Resampling-Based Multiple Testing.
    .. [2] Winkler et al. (2014), NeuroImage 92:381-397.
    .. [3] Cameron, Gelbach & Miller (2008), Rev. Econ. Stat. 90:414-427.
    .. [4] Phipson & Smyth (2010), Stat. Appl. Genet. Mol. Biol. 9:39.

    Examples
    --------
    >>> from actome.store.phantom import phantom
    >>> result = permutation_test(phantom(n_prompts=6), "a - rest", n_permutations=99)
    >>> result.attrs["exchangeability"], result.attrs["smallest_p_corrected"]
    ('the labels a, rest are exchangeable between prompts of one run', 0.01)
    """
    _check_options(scheme, n_permutations, seed)
    moments = _lazy(prompt_level(ds))
    rows = ds if level_of(ds) == "token" else moments
    fit = fit_glm(rows, formula, measure=measure, unit=unit, confounds=confounds)
    _check_constant(fit)
    tested = compute_contrast(fit, contrast)
    if "effect" not in tested:
        raise InputError("permutation_test takes a contrast of one row; test the rows of an F one by one")
    moments = with_tokens(moments)
    by = confound_names(confounds, Variables.of(moments))
    exchange, assumption = _exchange(moments, fit, tested, by, scheme, n_permutations, seed)
    values = moments["mean_abs" if measure == "magnitude" else "mean"]
    inflation = cr1_inflation(fit.sizes["prompt"], fit.attrs["rows"], fit.attrs["rank"])
    maps, null_max = _permute(neuron_blocks(values, _BLOCK_BYTES), exchange, inflation, two_sided)
    maps["p_corrected"] = _corrected(maps["stat"], null_max, two_sided)
    variables = {name: (("layer", "neuron"), value) for name, value in maps.items()}
    return xr.Dataset(
        {**variables, "null_max": ("permutation", null_max)},
        coords={d: values[d].variable for d in ("layer", "neuron") if d in values.coords},
        attrs={
            **_described(tested, exchange),
            "confounds": fit.attrs["confounds"],
            "scheme": scheme,
            "seed": seed,
            "two_sided": two_sided,
            "exchangeability": assumption,
        },
    )


def _check_options(scheme: str, n_permutations: int, seed: int) -> None:
    if scheme not in ("labels", "signs"):
        raise InputError(f"scheme must be 'labels' or 'signs', got {scheme!r}")
    whole_number(n_permutations, "n_permutations", least=1)
    check_seed(seed)


def _check_constant(fit: xr.Dataset) -> None:
    if "token" not in fit["design"].dims:
        return
    changing = [
        str(name) for name in fit["regressor"].to_numpy() if _changes(fit["design"].sel(regressor=name))
    ]
    raise InputError(
        f"the regressors {changing} vary from token to token; permutation_test exchanges whole prompts. "
        "Leave them out, or test with fit_glm and compute_contrast"
    )


def _changes(column: xr.DataArray) -> bool:
    return bool((column.max("token") > column.min("token")).any())


def _lazy(moments: xr.Dataset) -> xr.Dataset:
    """Let Dask cut what is in memory, so that nothing of the size of the recording is made."""
    names = [n for n in ("mean", "m2", "mean_abs") if moments[n].chunks is None]
    return moments.assign({n: moments[n].chunk() for n in names})


def _exchange(
    moments: xr.Dataset,
    fit: xr.Dataset,
    tested: xr.Dataset,
    confounds: Sequence[str],
    scheme: str,
    n: int,
    seed: int,
) -> tuple[Labels | Signs, str]:
    """Return the permutations, and in a sentence what makes them valid."""
    X = fit["design"].transpose("prompt", "regressor").to_numpy()
    count, weights = fit["count"].to_numpy().astype(np.float64), np.array(tested.attrs["weights"])
    order = np.argsort(moments["prompt"].to_numpy(), kind="stable")  # of the recording, it must not matter
    rng = np.random.default_rng(seed)
    if scheme == "signs":
        signs = exchange_signs(X, count, weights, order=order, n=n, rng=rng)
        return signs, "the error of each prompt is symmetric around 0 and independent of the others'"
    names = [str(r) for r in fit["regressor"].to_numpy()]
    own = fit["role"].to_numpy() != "confound"
    variables = Variables.of(moments)
    by = [c for c in confounds if not variables.is_number(c)]
    by = [c for c in by if len(set(variables.values(c).tolist())) > 1]
    codes = [np.unique(variables.values(c), return_inverse=True)[1] for c in by]
    _, stratum = np.unique(np.c_[np.zeros(len(X)), *codes], axis=0, return_inverse=True)
    conditions = [c for c in fit.attrs["conditions"] if weights[names.index(c)]]
    moving = np.ones(len(X), dtype=bool)
    if conditions:
        moving = np.asarray(X[:, np.isin(names, conditions)].any(axis=1))
    order, stratum = order[moving[order]], stratum.reshape(-1)
    cells = [order[stratum[order] == s] for s in np.unique(stratum[order])]
    labels = exchange_labels(X, count, weights, own=own, cells=cells, n=n, rng=rng)
    what = f"the labels {', '.join(conditions)}" if conditions else "the labels in the formula"
    where = f"prompts of one {' and '.join(by)}" if by else "all prompts"
    return labels, f"{what} are exchangeable between {where}"


def _corrected(stat: Float64, null_max: Float64, two_sided: bool) -> Float64:
    """Share of the permutations, the recorded labels included, whose largest t reaches each."""
    stat, null = abs(stat) if two_sided else stat, np.sort(null_max)
    reaching = len(null) - np.searchsorted(null, stat - _slack(stat))
    return np.where(np.isnan(stat), np.nan, (1 + reaching) / (1 + len(null)))


def _described(tested: xr.Dataset, exchange: Labels | Signs) -> dict[str, Any]:
    """Return what a result says of its contrast and of the permutations that there were."""
    own = ("kind", "contrast", "weights", "regressors", "formula", "measure", "noise", "unit", "level")
    data = (*ORIGIN, *SELECTION, "actome")
    n = len(exchange)
    return {
        **{k: tested.attrs[k] for k in (*own, *data) if k in tested.attrs},
        "test": "permutation",
        "n_permutations": n,
        "n_distinct": min(exchange.n_distinct, 2**53),
        "smallest_p_value": min(1.0, 2 / (1 + n)),
        "smallest_p_corrected": 1 / (1 + n),
    }


def _slack(stat: Float64) -> Float64:
    return np.asarray(_EQUAL * np.maximum(1.0, np.abs(stat)))


def _permute(
    values: da.Array, exchange: Labels | Signs, inflation: float, two_sided: bool
) -> tuple[dict[str, Float64], Float64]:
    """Go through blocks of neurons: maps (layer, neuron), and the largest statistics (permutation,)."""
    blocks = values.to_delayed()[0]  # type: ignore[no-untyped-call]
    task = delayed(one_blas_thread(_permute_block), pure=False)
    shared = delayed(exchange, pure=False, traverse=False)
    tasks = [[task(block, shared, inflation, two_sided) for block in line] for line in blocks]
    (grid,) = compute(tasks)  # type: ignore[no-untyped-call]
    maps = {name: np.block([[block[0][name] for block in line] for line in grid]) for name in _MAPS}
    return maps, np.max([largest for line in grid for _, largest in line], axis=0)


def _permute_block(
    values: Float64, exchange: Labels | Signs, inflation: float, two_sided: bool
) -> tuple[dict[str, Float64], Float64]:
    """Test the neurons of one block (prompt, layer, neuron)."""
    shape, root, n = values.shape[1:], exchange.root, len(exchange)
    with np.errstate(invalid="ignore"):  # of infinite activations, as of NaN, there is no statistic
        Y, scale = freed(values.reshape(len(values), -1), exchange.nuisance, root)
        recorded = exchange.draws(slice(0, 1))
        effect, stat = observed(recorded, Y, scale, root)
    stat /= inflation
    tested = np.isfinite(stat)
    Y, scale, t = Y[:, tested], scale[tested], stat[tested]
    squares, slack = np.square(Y), _slack(t)
    above, below = np.ones((2, len(t)))  # the recorded labels are one of the permutations
    largest = np.empty(n)
    batch = max(1, _BATCH_BYTES // (16 * recorded.basis.shape[2] * max(Y.shape)))
    for start in range(0, n, batch):
        draws = exchange.draws(slice(1 + start, 1 + start + batch))
        null = studentised(draws, Y, squares, scale, root) / inflation
        above += (null >= t - slack).sum(axis=0)
        below += (null <= t + slack).sum(axis=0)
        largest[start : start + batch] = (abs(null) if two_sided else null).max(axis=1, initial=-np.inf)
    p = np.full(len(stat), np.nan)
    p[tested] = np.minimum(1.0, 2 * np.minimum(above, below) / (1 + n))
    return {k: v.reshape(shape) for k, v in zip(_MAPS, (effect, stat, p), strict=True)}, largest
