"""How fast a linear model is fitted to an archive, beside reading it, nilearn, Dask and statsmodels.

    python benchmarks/glm.py [--gb 10] [--rounds 3] [--folder F]

A cube of float16 (prompt, 128 tokens, 8 layers, 12,800 neurons) on disk, a design of twelve regressors
some of which vary from token to token. Each round runs every contender once, in an order drawn anew, each
in a process of its own: MB of float16 gone through in a second, and the peak of memory. nilearn and
statsmodels get some of the columns, in memory and in float64, and are not charged for reading them.

    python benchmarks/glm.py --summaries

times contrasts from stored summaries, of 2,000 prompts by 50,000 and by 350,000 neurons.
"""

import argparse
import json
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import xarray as xr

import actome
from actome.store.encoding import COMPRESSORS

N_TOKENS, N_LAYERS, N_NEURONS = 128, 8, 12_800
PROMPT_MB = N_TOKENS * N_LAYERS * N_NEURONS * 2 / 1e6
OPTIONS: dict[str, Any] = {
    "formula": "condition",
    "confounds": ("run", "token_position", "log_frequency", "n_words", "quality"),
}
CONTRAST = "c0 - mean(rest)"


def make(path: Path, n_prompts: int) -> None:
    """Write an archive of noise with a little of the token before in it."""
    rng = np.random.default_rng(0)

    def block(block_info: Any = None) -> Any:
        (start, _), *_ = block_info[None]["array-location"]
        noise = np.random.default_rng(start).standard_normal((16, N_TOKENS, 1, N_NEURONS), dtype=np.float32)
        noise[:, 1:] += 0.3 * noise[:, :-1]
        return noise.astype(np.float16)

    chunks = ((16,) * (n_prompts // 16), (N_TOKENS,), (1,) * N_LAYERS, (N_NEURONS,))
    cube = da.map_blocks(block, chunks=chunks, dtype=np.float16)
    ds = xr.Dataset(
        {"activation": (("prompt", "token", "layer", "neuron"), cube)},
        coords={
            "condition": ("prompt", np.array([f"c{i % 6}" for i in range(n_prompts)], dtype=object)),
            "run": ("prompt", np.arange(n_prompts) // 6 % 3),
            "quality": ("prompt", rng.standard_normal(n_prompts)),
            "n_words": ("prompt", rng.uniform(10, 100, n_prompts)),
            "token_id": (("prompt", "token"), rng.integers(0, 500, (n_prompts, N_TOKENS)).astype(np.int32)),
        },
    )
    actome.save(ds, path)


def read(ds: xr.Dataset) -> float:
    """Read and decode every shard, and keep one number of each."""
    cube = ds["activation"].data
    firsts = cube.map_blocks(lambda x: x[:1, :1, :1, :1].copy(), chunks=(1, 1, 1, 1), dtype=cube.dtype)
    firsts.compute()
    return float(ds["activation"].nbytes) / 1e6


def ours(noise: str, **options: Any) -> Callable[[xr.Dataset], float]:
    def run(ds: xr.Dataset) -> float:
        fit = actome.fit_glm(ds, **{**OPTIONS, **options}, noise=noise)
        actome.compute_contrast(fit, CONTRAST)[["stat"]].compute()
        return float(ds["activation"].nbytes) / 1e6

    return run


def rows_of(ds: xr.Dataset, n_neurons: int) -> tuple[Any, Any]:
    """Return rows in memory, (row, neuron) in float64, and their design (row, regressor)."""
    design = actome.fit_glm(ds, **OPTIONS)["design"].to_numpy()
    y = np.abs(ds["activation"][:, :, 0, :n_neurons].to_numpy().astype(np.float64))
    return y.reshape(-1, n_neurons), design.reshape(-1, design.shape[-1])


def with_nilearn(noise: str) -> Callable[[xr.Dataset], float]:
    def fit(ds: xr.Dataset) -> float:
        from nilearn.glm import compute_contrast
        from nilearn.glm.first_level import run_glm

        y, X = rows_of(ds, 512)
        _restart()
        labels, results = run_glm(y, X, noise_model=noise)
        compute_contrast(labels, results, np.eye(X.shape[1])[0], stat_type="t").stat()
        return y.size * 2 / 1e6

    return fit


def with_dask(ds: xr.Dataset) -> float:
    y, X = rows_of(ds, 4096)
    _restart()
    rows = (2048, -1)
    da.linalg.lstsq(da.from_array(X, chunks=rows), da.from_array(y, chunks=rows))[0].compute()
    return y.size * 2 / 1e6


def with_statsmodels(ds: xr.Dataset) -> float:
    import statsmodels.api as sm

    y, X = rows_of(ds, 16)
    _restart()
    for v in range(y.shape[1]):
        sm.OLS(y[:, v], X).fit().t_test(np.eye(X.shape[1])[0])
    return y.size * 2 / 1e6


CONTENDERS: dict[str, Callable[[xr.Dataset], float]] = {
    "raw read": read,
    "actome ols": ours("ols"),
    "actome ar1": ours("ar1"),
    "actome cluster, two passes": ours("cluster"),
    "actome cluster, of conditions": ours("cluster", confounds=("run",)),
    "nilearn ols": with_nilearn("ols"),
    "nilearn ar1": with_nilearn("ar1"),
    "dask lstsq": with_dask,
    "statsmodels ols": with_statsmodels,
}

_started = [0.0]


def _restart() -> None:
    """Forget the time until now: what came before was preparation."""
    _started[0] = time.perf_counter()


def one(path: str, name: str, n_prompts: int) -> dict[str, float]:
    """Run one contender in this process: MB in a second, and the peak of memory in MB."""
    dask.config.set(scheduler="threads")
    ds = actome.open(path).isel(prompt=slice(0, n_prompts))
    _restart()
    mb = CONTENDERS[name](ds)
    elapsed = time.perf_counter() - _started[0]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    return {"speed": mb / elapsed, "seconds": elapsed, "peak": peak}


def measured(path: Path, name: str, n_prompts: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--one", name, "--path", str(path), "--prompts", str(n_prompts)]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found: dict[str, float] = json.loads(out)
    return found


def compare(path: Path, n_prompts: int, rounds: int) -> None:
    order, found = random.Random(0), {name: [] for name in CONTENDERS}  # type: ignore[var-annotated]
    for _ in range(rounds):
        for name in order.sample(list(CONTENDERS), len(CONTENDERS)):
            found[name].append(measured(path, name, n_prompts))
    raw = statistics.median(x["speed"] for x in found["raw read"])
    print(
        f"{n_prompts * PROMPT_MB / 1e3:.1f} GB of float16, {rounds} rounds; MB/s, beside a raw read, peak MB"
    )
    for name, runs in found.items():
        speed = statistics.median(x["speed"] for x in runs)
        print(f"{name:<30} {speed:>8.1f}  {speed / raw:>6.3f}  {max(x['peak'] for x in runs):>6.0f}")
    for name in ("actome ols", "actome ar1", "actome cluster, two passes"):
        parts = [measured(path, name, n_prompts // k) for k in (16, 4) if n_prompts // k > 12]
        peaks = [*(x["peak"] for x in parts), max(x["peak"] for x in found[name])]
        print(f"{name}: peak MB at 1/16, 1/4 and all: " + ", ".join(f"{p:.0f}" for p in peaks))


def summaries(rounds: int) -> None:
    """Time a contrast of stored summaries, as a user waits for it."""
    for n_neurons in (50_000, 350_000):
        rng, n_prompts, n_layers = np.random.default_rng(0), 2000, 10
        with tempfile.TemporaryDirectory() as folder:
            shape = (n_prompts, n_layers, n_neurons // n_layers)
            chunks = (250, 1, n_neurons // n_layers)
            mean = da.random.default_rng(0).standard_normal(shape, chunks=chunks)
            ds = xr.Dataset(
                {
                    "count": ("prompt", rng.integers(20, 100, n_prompts)),
                    **{k: (("prompt", "layer", "neuron"), v) for k, v in _moments(mean).items()},
                },
                coords={
                    "prompt": np.array([f"p{i}" for i in range(n_prompts)], dtype=object),
                    "condition": ("prompt", np.array([f"c{i % 6}" for i in range(n_prompts)], dtype=object)),
                    "run": ("prompt", np.arange(n_prompts) // 6 % 3),
                },
            )
            encoding = {name: {"compressors": COMPRESSORS} for name in ("mean", "m2", "mean_abs")}
            ds.to_zarr(Path(folder, "s.zarr"), zarr_format=3, consolidated=False, encoding=encoding)
            raw = float(np.median([_read_once(Path(folder, "s.zarr")) for _ in range(rounds)]))
            times = []
            for _ in range(rounds):
                stored = xr.open_zarr(Path(folder, "s.zarr"), consolidated=False)
                start = time.perf_counter()
                actome.compute_contrast(actome.fit_glm(stored), CONTRAST).compute()
                times.append(time.perf_counter() - start)
            found = ", ".join(f"{x:.1f}" for x in times)
            print(
                f"a contrast of {n_prompts} prompts by {n_neurons} neurons: {found} s; reading {raw:.1f} s",
                flush=True,
            )
            start = time.perf_counter()
            actome.permutation_test(stored, CONTRAST, n_permutations=1000)
            print(f"1,000 permutations of it: {time.perf_counter() - start:.0f} s", flush=True)


def _read_once(path: Path) -> float:
    """Seconds to read and decode what a contrast of magnitudes needs."""
    start = time.perf_counter()
    means = xr.open_zarr(path, consolidated=False)["mean_abs"].data
    means.map_blocks(lambda x: x[:1, :1, :1].copy(), chunks=(1, 1, 1), dtype=means.dtype).compute()
    return time.perf_counter() - start


def _moments(mean: da.Array) -> dict[str, da.Array]:
    return {"mean": mean, "m2": 50 * abs(mean) + 1, "mean_abs": abs(mean) + 0.5}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gb", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", help="on the disk to write to")
    parser.add_argument("--summaries", action="store_true")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--make", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--path", help=argparse.SUPPRESS)
    parser.add_argument("--prompts", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.make:
        make(Path(options.path), options.prompts)
    elif options.one:
        print(json.dumps(one(options.path, options.one, options.prompts)))
    elif options.summaries:
        summaries(options.rounds)
    else:
        n_prompts = max(64, round(options.gb * 1e3 / PROMPT_MB / 64) * 64)
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            path = Path(folder, "cube.zarr")
            # in a process of its own: the peak of memory of a process counts for those that it starts
            command = [sys.executable, __file__, "--make", "--path", str(path), "--prompts", str(n_prompts)]
            subprocess.run(command, check=True)
            compare(path, n_prompts, options.rounds)


if __name__ == "__main__":
    main()
