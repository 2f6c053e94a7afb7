"""The general linear model of every neuron at once.

Rows of the model are tokens, and the prompt is the exchangeable unit: tokens of one prompt are
alike for reasons that the design does not know. Where the design is constant within a prompt, the
prompt's count, mean and sum of squared deviations hold all that the fit needs, so a fit costs one
pass over the cube, or none where the summaries are stored (`moment_fit`); otherwise the cube itself is
gone through (`token_fit`).
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import xarray as xr

from ..store.blocks import level_of, prompt_level, with_tokens
from ..store.errors import InputError
from ..store.moments import Float64, Measure, check_measure
from ..store.provenance import source_attrs
from ..store.selection import Selection
from .design import design_matrix
from .design.drift import Drift
from .fitting.moment_fit import fit_moments
from .fitting.sandwich import Basis
from .fitting.token_fit import fit_tokens

Noise = Literal["cluster", "cr2", "ols", "ar1"]
_NOISES = ("cluster", "cr2", "ols", "ar1")
_UNITS = ("token", "prompt")
_LABELS = ("condition", "run", "block", "layer", "neuron")
_DIMS = {
    2: ("layer", "neuron"),
    3: ("regressor", "layer", "neuron"),
    4: ("regressor", "regressor_other", "layer", "neuron"),
}


def fit_glm(
    ds: xr.Dataset,
    formula: str = "condition",
    *,
    measure: Measure = "magnitude",
    noise: Noise = "cluster",
    unit: Literal["token", "prompt"] = "token",
    confounds: Sequence[str] | None = None,
    drift: Drift | None = None,
    kernel: Sequence[float] | None = None,
    weights: str | None = None,
) -> xr.Dataset:
    """Fit a linear model of labels and tokens to every neuron.

    Parameters
    ----------
    ds
        A recording at either level, whole or in part. Tokens are excluded by leaving them out, as with
        ``ds.isel(token=slice(1, None))``.
    formula
        A label (one column per value) or a formula over labels and what varies from token to token,
        such as ``token_position``; see `design_matrix`.
    measure
        "magnitude": |activation|, how strongly a neuron is used; "signed": the activation.
    noise
        "cluster": covariance robust to any dependence within a prompt (CR1); "cr2": the same with
        Bell and McCaffrey's bias reduction, to be preferred below some thirty prompts a condition, where
        p-values of "cluster" were measured to be 1.1 to 1.5 times too small and its own to hold; "ar1":
        tokens remember the one before, by generalised least squares; "ols": independent rows of
        equal variance, which tokens of one prompt are not.
    unit
        "token": every token is a row; "prompt": every prompt is one row, its mean.
    confounds
        Labels or variables of tokens (``token_position``, ``log_frequency``, ``n_tokens``) whose effects
        are removed, in place of ``("run",)``, which is removed where there are runs and nothing is given.
    drift, kernel
        Slow changes over the prompts of a run, and a kernel along tokens; see `design_matrix`.
    weights
        A label with the precision of each prompt's tokens, positive numbers: the variance of their noise
        is taken to be inversely proportional to it.

    Prompts without tokens are left out. From the cube, one pass is made, and a second one where noise is
    clustered and a regressor varies inside a prompt.

    Returns
    -------
    Dataset, lazy; NaN for a neuron with any NaN

    beta : (regressor, layer, neuron), in units of the activation
    covariance : (regressor, regressor_other, layer, neuron), of beta
    residual_variance : (layer, neuron)
    r_squared : (layer, neuron), share of the variance about the mean; NaN for a neuron without any
    autocorrelation : (layer, neuron), of residuals one token apart, inside prompts; for "ar1"
    leverage : (prompt), share of the fit that hangs on the prompt, times the number of regressors
    design, role, vif : as `design_matrix` gives them
    count : (prompt), rows that each prompt contributes
    weight : (prompt), where `weights` is given

    attrs ``conditions`` lists the regressors that are cell means, ``confounds`` what was removed,
    ``selected_on`` and ``selected_texts`` the prompts and short digests of their texts.

    Raises
    ------
    InputError
        An option is unknown, or the design does not fit the recording.

    References
    ----------
    .. [1] Liang & Zeger (1986), Biometrika 73:13-22.
    .. [2] Bell & McCaffrey (2002), Survey Methodology 28:169-181.
    .. [3] Worsley et al. (2002), NeuroImage 15:1-15, for "ar1".
    """
    check_measure(measure)
    for name, value, allowed in (("noise", noise, _NOISES), ("unit", unit, _UNITS)):
        if value not in allowed:
            raise InputError(f"{name} must be one of {list(allowed)}, got {value!r}")
    ds, level = with_tokens(ds), level_of(ds)
    design = design_matrix(ds, formula, confounds, drift=drift, kernel=kernel)
    by_prompt = "token" not in design["design"].dims
    _check_unit(unit, noise, level, by_prompt)
    count = np.ones(ds.sizes["prompt"]) if unit == "prompt" else design["count"].to_numpy().astype(np.float64)
    weight = _weight(ds, weights)
    basis = Basis.of(design["design"], count, weight)
    if by_prompt and noise != "ar1":
        maps = fit_moments(prompt_level(ds), basis, count, weight, measure=measure, unit=unit, noise=noise)
    else:
        maps = fit_tokens(ds, basis, count, weight, measure=measure, noise=noise)
    out = {
        **{name: (_DIMS[array.ndim], array) for name, array in maps.items()},
        **{name: design[name] for name in ("design", "role", "vif")},
        "count": ("prompt", count),
        "leverage": ("prompt", np.einsum("prr->p", basis.leverage)),
        **({"weight": ("prompt", weight)} if weights else {}),
    }
    return xr.Dataset(
        out,
        coords={
            "regressor_other": design["regressor"].to_numpy(),
            **{c: ds[c].variable for c in _LABELS if c in ds.coords},
        },
        attrs={
            "kind": "fit",
            "formula": formula,
            "measure": measure,
            "noise": noise,
            "unit": unit,
            "confounds": design.attrs["confounds"],
            **{k: v for k in ("drift", "kernel") if (v := design.attrs[k]) is not None},
            **({"weights": weights} if weights else {}),
            "conditions": design.attrs["conditions"],
            "level": level,
            "rank": basis.rank,
            "rows": basis.n_rows,
            **Selection.of(ds).attrs,
            **source_attrs(ds.attrs),
        },
    )


def _check_unit(unit: str, noise: str, level: str, by_prompt: bool) -> None:
    """Refuse what a unit or a level cannot give."""
    if unit == "prompt" and noise == "ar1":
        raise InputError("noise='ar1' is about tokens; a fit with unit='prompt' has none")
    if unit == "prompt" and not by_prompt:
        raise InputError("a regressor varies inside prompts; fit it with unit='token'")
    if noise == "ar1" and level == "prompt":
        raise InputError("noise='ar1' needs the tokens; open the cube with level='token'")


def _weight(ds: xr.Dataset, name: str | None) -> Float64:
    """Read the precision of each prompt: (prompt,)."""
    if name is None:
        return np.ones(ds.sizes["prompt"])
    if name not in ds.variables or ds[name].dims != ("prompt",) or ds[name].dtype.kind not in "iuf":
        labels = [str(v) for v in ds.variables if ds[v].dims == ("prompt",) and ds[v].dtype.kind in "iuf"]
        raise InputError(f"weights must name a label of the prompts that is a number: {labels}, got {name!r}")
    weight = ds[name].to_numpy().astype(np.float64)
    if not (np.isfinite(weight) & (weight > 0)).all():
        raise InputError(f"weights {name!r} must be positive and finite")
    return weight
