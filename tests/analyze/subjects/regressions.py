"""Dual regression written out with NumPy's lstsq, everything in memory."""

import numpy as np
import xarray as xr


def maps_of(ds, n=3, seed=0) -> xr.Dataset:
    """Maps of zero mean and unit variance over the neurons of a recording."""
    shape = (n, ds.sizes["layer"], ds.sizes["neuron"])
    values = np.random.default_rng(seed).standard_normal(shape) ** 3
    values -= values.mean(axis=(1, 2), keepdims=True)
    values /= values.std(axis=(1, 2), keepdims=True)
    return xr.Dataset(
        {"component_map": (("component", "layer", "neuron"), values)},
        coords={
            "component": np.arange(n),
            "layer": ds["layer"].to_numpy(),
            "neuron": ds["neuron"].to_numpy(),
        },
        attrs={"kind": "components", "standardize": True, "selected_on": ["q0"], "source": "sha256:1"},
    )


def scaled(ds, standardize=True):
    """Neurons over all valid tokens, centred and scaled, and which are usable: (prompt, token, column)."""
    valid = (ds["token_id"] != -1).to_numpy()
    cube = ds["activation"].transpose("prompt", "token", "layer", "neuron").to_numpy().astype(float)
    cube = cube.reshape(*valid.shape, -1)
    rows = cube[valid]
    usable = np.isfinite(rows).all(axis=0)
    mean, sd = rows[:, usable].mean(axis=0), rows[:, usable].std(axis=0)
    out = np.full(cube.shape, np.nan)
    varies = sd > 1e-12 * np.abs(mean)
    scale = sd if standardize else np.ones_like(sd)
    out[:, :, usable] = np.where(varies, (cube[:, :, usable] - mean) / np.where(varies, scale, 1.0), 0.0)
    out[~valid] = np.nan
    return out, usable, valid


def reference(ds, components, code, *, demean=False, standardize=True, normalize=True):
    """Time courses (prompt, token, component), maps (subject, component, column), ranks (subject)."""
    Z, usable, valid = scaled(ds, standardize)
    M = components["component_map"].to_numpy().reshape(components.sizes["component"], -1)
    usable = usable & np.isfinite(M).all(axis=0)
    k = len(M)
    X = np.column_stack([M[:, usable].T, np.ones(usable.sum())])
    courses = np.full((*valid.shape, k), np.nan)
    courses[valid] = np.linalg.lstsq(X, Z[valid][:, usable].T, rcond=None)[0][:k].T
    maps = np.full((code.max() + 1, k, Z.shape[2]), np.nan)
    ranks = []
    for s in range(len(maps)):
        own = (code == s)[:, None] & valid
        T, Y = courses[own], Z[own][:, usable]
        if demean:
            T, Y = T - T.mean(axis=0), Y - Y.mean(axis=0)
        beta, _, rank, _ = np.linalg.lstsq(T, Y, rcond=None)
        ranks.append(rank)
        if normalize:
            beta = (beta - beta.mean(axis=1, keepdims=True)) / beta.std(axis=1, keepdims=True)
        maps[s][:, usable] = beta
    return courses, maps, ranks
