"""The tables of a study of parameter regions, as arXiv 2310.14928 shows them."""

import numpy as np
import pandas as pd
import xarray as xr

from ...store.errors import InputError, InputTypeError
from ...store.moments import Float64


def core_table(effects: xr.Dataset) -> pd.DataFrame:
    """Perplexity of every condition without the top, the bottom and a random region of each size.

    Parameters
    ----------
    effects
        From `region_effects`, of regions with the roles "top" (with controls) and "bottom".

    Returns
    -------
    DataFrame
        One row a condition; the columns are (share, role): ("", "base"), then for each share "top",
        "bottom" and "random": of random regions, the perplexity at the mean loss over the controls of the
        top region, or of a region with that role.

    Raises
    ------
    InputError, InputTypeError
        These are no such effects, or none of them is of a top region.
    """
    by = _by(effects)
    columns = {("", "base"): effects["perplexity_baseline"].to_numpy()}
    role, top = effects["role"].to_numpy(), effects["top"].to_numpy()
    shares = sorted(set(top[role == "top"].tolist()))
    if not shares:
        raise InputError(f"no region has the role 'top'; the roles are {sorted(set(role))}")
    for share in shares:
        for kind in ("top", "bottom", "random"):
            rows = np.flatnonzero((role == kind) & (top == share))
            if len(rows):
                mean = effects["effect"].isel(region=rows).mean("region").to_numpy()
            elif kind == "random":
                rows = np.flatnonzero((role == "top") & (top == share))
                mean = _control(effects, int(rows[0]))
            else:
                continue
            columns[f"{100 * share:g}%", kind] = np.exp(mean) * columns["", "base"]
    return pd.DataFrame(columns, index=pd.Index(effects[by].to_numpy(), name=by))


def monolingual_matrix(effects: xr.Dataset) -> pd.DataFrame:
    """How many times a condition's perplexity grows without the region of each condition alone.

    Parameters
    ----------
    effects
        From `region_effects`, of monolingual regions, named as their conditions.

    Returns
    -------
    DataFrame
        One row a region, one column a condition: perplexity over that of the whole model. Where the study's
        claim holds, the largest of each row and of each column is that of the region's own condition.

    Raises
    ------
    InputError, InputTypeError
        These are no such effects, or none of them is of a monolingual region.
    """
    by = _by(effects)
    rows = np.flatnonzero(effects["role"].to_numpy() == "monolingual")
    if not len(rows):
        raise InputError("no region is monolingual; select them with region(..., of='monolingual')")
    ratio = np.exp(effects["effect"].isel(region=rows).to_numpy())
    names = effects["region"].to_numpy()[rows]
    return pd.DataFrame(
        ratio, index=pd.Index(names, name="region"), columns=pd.Index(effects[by].to_numpy(), name=by)
    )


def matrix_table(effects: xr.Dataset) -> pd.DataFrame:
    """Perplexity of every condition without the part of a region in one type of matrix.

    Parameters
    ----------
    effects
        From `region_effects`, of regions from `by_matrix`.

    Returns
    -------
    DataFrame
        One row a region and type of matrix; ``size``, the mean effect on all conditions (``top``, nats per
        token) and that of the controls (``random``), then the perplexity of each condition.

    Raises
    ------
    InputError, InputTypeError
        These are no such effects.
    """
    by = _by(effects)
    names = [str(n) for n in effects["region"].to_numpy()]
    if not all("/" in n for n in names):
        raise InputError(f"these regions are not those of by_matrix, named <region>/<matrix>: {names}")
    perplexity = effects["perplexity"].to_numpy()
    table = pd.DataFrame(perplexity, columns=[str(c) for c in effects[by].to_numpy()])
    table.insert(0, "size", effects["size"].to_numpy())
    table.insert(1, "top", effects["effect"].mean(by).to_numpy())
    table.insert(2, "random", [_control(effects, k).mean() for k in range(len(names))])
    parts = [tuple(n.rsplit("/", 1)) for n in names]
    return table.set_index(pd.MultiIndex.from_tuples(parts, names=["region", "matrix"]))


def scalar_table(effects: xr.Dataset, *, condition: str | None = None) -> pd.DataFrame:
    """Perplexity with a single parameter, row or column multiplied by each factor.

    Parameters
    ----------
    effects
        From `sweep_effects`.
    condition
        The condition; None for the mean loss over all of them.

    Returns
    -------
    DataFrame
        One row a place (``role``, ``tensor``, ``row``, ``column``), one column a factor, and "base".

    Raises
    ------
    InputError, InputTypeError
        These are no effects of a sweep; there is no such condition.
    """
    by = _by(effects, "sweep_effects")
    known = [str(c) for c in effects[by].to_numpy()]
    if condition is not None and condition not in known:
        raise InputError(f"there is no condition {condition!r}; there are {known}")
    chosen = known if condition is None else [condition]
    effect = effects["effect"].sel({by: chosen}).mean(by, skipna=False)
    base = float(np.log(effects["perplexity_baseline"].sel({by: chosen})).mean())
    place = pd.MultiIndex.from_arrays(
        [effects[c].to_numpy() for c in ("role", "tensor", "row", "column")],
        names=["role", "tensor", "row", "column"],
    )
    factors = [f"x{f:g}" for f in effects["factor"].to_numpy()]
    table = pd.DataFrame(np.exp(base + effect.transpose("place", "factor").to_numpy()), place, factors)
    table.insert(0, "base", np.exp(base))
    return table


def _control(effects: xr.Dataset, k: int) -> Float64:
    """Mean effect of a region's controls: (condition,); NaN where it has none."""
    by, n_controls = str(effects.attrs["by"]), int(effects["n_controls"][k])
    if not n_controls:
        return np.full(effects.sizes[by], np.nan)
    draws = effects["control"].isel(region=k, draw=slice(n_controls)).transpose("draw", by)
    return np.asarray(draws.to_numpy().mean(axis=0))


def _by(effects: xr.Dataset, kind: str = "region_effects") -> str:
    if not isinstance(effects, xr.Dataset) or effects.attrs.get("kind") != kind:
        raise InputTypeError(f"expected the Dataset that {kind} gives")
    return str(effects.attrs["by"])
