"""Freeze what statsmodels and nilearn make of one recording: ``python -m tests.reference.make_fits``.

Run once; the files are never made again, so that a change of ours, or of a library, shows. The recording is
unbalanced and ragged, its neurons lie up to 300 standard deviations from zero, one never varies and one is
NaN. The design is written down here by hand, not by our reader of formulas.
"""

import json
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

import nilearn.glm
import nilearn.glm.first_level
import numpy as np
import statsmodels.api as sm
import xarray as xr

import actome
from actome.store.phantom import phantom
from tests.reference.make_recording_v1 import pack

HERE = Path(__file__).parent
CONTRAST, F_ROWS = [1.0, -1.0, 0.0, 0.0, 0.0], [[1.0, -1.0, 0.0, 0.0, 0.0], [0.0, 1.0, -1.0, 0.0, 0.0]]


def recording() -> xr.Dataset:
    """Make conditions of unequal size, prompts of 1 to 100 tokens, and neurons of every kind."""
    ds = phantom(
        n_prompts=9, n_runs=3, n_tokens=(1, 100), n_layers=2, n_neurons=8, fraction=0.2,
        prompt_sd=0.5, autocorrelation=0.5, dtype=np.float64, seed=20,
    )  # fmt: skip
    ds = ds.isel(prompt=[i for i in range(ds.sizes["prompt"]) if i not in (0, 3, 4, 11)])
    ds = ds.drop_dims(["condition_name", "network"], errors="ignore")
    cube = ds["activation"].to_numpy().copy()
    cube += np.linspace(-300, 300, 16).reshape(2, 8)
    cube[..., 0, 3] = np.where(np.isnan(cube[..., 0, 3]), np.nan, 7.0)
    cube[2, 0, 1, 5] = np.nan
    return ds.assign(activation=(ds["activation"].dims, cube))


def rows(ds: xr.Dataset) -> tuple[Any, Any, Any]:
    """Return |activation| (row, neuron), the design (row, 5), and the prompt of each row."""
    prompt, token = np.nonzero((ds["token_id"] != -1).to_numpy())
    condition, run = (ds[c].to_numpy()[prompt] for c in ("condition", "run"))
    X = np.stack([*(condition == c for c in ("a", "b", "rest")), run == 1, run == 2], axis=1)
    y = np.abs(ds["activation"].to_numpy()[prompt, token]).reshape(len(prompt), -1)
    return y, X.astype(np.float64), prompt


def with_statsmodels(ds: xr.Dataset) -> dict[str, Any]:
    y, X, group = rows(ds)
    out: dict[str, list[Any]] = {}
    for v in range(y.shape[1]):
        usable = bool(np.isfinite(y[:, v]).all() and y[:, v].std() > 0)
        for noise, options in (
            ("ols", {}),
            ("cluster", {"cov_type": "cluster", "cov_kwds": {"groups": group}}),
        ):
            fit = sm.OLS(y[:, v], X).fit(**options) if usable else None
            t = None if fit is None else fit.t_test(CONTRAST)
            found = {
                "effect": None if t is None else t.effect.item(),
                "stat": None if t is None else t.tvalue.item(),
            }
            if noise == "ols":  # of clusters, theirs are normal or t(clusters - 1): not the promise made here
                f = None if fit is None else fit.f_test(F_ROWS)
                found |= {
                    "p_value": None if t is None else float(t.pvalue),
                    "f_stat": None if f is None else float(f.fvalue),
                    "f_p_value": None if f is None else float(f.pvalue),
                }
            for name, value in found.items():
                out.setdefault(f"{noise}_{name}", []).append(value)
    return out


def with_nilearn(ds: xr.Dataset) -> dict[str, Any]:
    """AR(1) on the tokens of the longest prompt, against the position."""
    prompt = int(ds["n_tokens"].to_numpy().argmax())
    one = ds.isel(prompt=[prompt])
    y, _, _ = rows(one)
    varies = np.isfinite(y).all(axis=0) & (y.std(axis=0) > 0)
    position = np.arange(len(y), dtype=np.float64)
    X = np.stack([np.ones_like(position), position], axis=1)
    labels, results = nilearn.glm.first_level.run_glm(y[:, varies], X, noise_model="ar1")
    contrast = nilearn.glm.compute_contrast(labels, results, np.array([0.0, 1.0]), stat_type="t")
    return {
        "prompt": prompt,
        "neurons": np.flatnonzero(varies).tolist(),
        "rho_bin": [float(x) for x in labels],
        "stat": contrast.stat().ravel().tolist(),
    }


def main() -> None:
    ds = recording()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "fits.zarr")
        actome.save(ds, path)
        pack(path, HERE / "fits.zarr.zip")
    found = {
        "statsmodels": with_statsmodels(ds),
        "nilearn": with_nilearn(ds),
        "versions": {n: metadata.version(n) for n in ("numpy", "scipy", "statsmodels", "nilearn")},
    }
    (HERE / "fits.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
