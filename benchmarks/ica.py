"""Group ICA of an archive, beside the same pipeline in memory with scikit-learn, and the study's.

    python benchmarks/ica.py [--components 20 64] [--subjects 20] [--tokens 1000] [--neurons 50000]

A cube of float16 on disk, one prompt a subject, with as many sparse networks as there are components, of
unequal variance, in noise. Each contender runs in a process of its own: seconds, the peak of memory and
the worst recovery of a planted network. The in-memory pipelines get the cube from disk too.

- actome, one run; ten runs with stability and halves; ten runs, stability and the null
- scikit-learn: StandardScaler, PCA of each subject, PCA of all their components, FastICA over neurons
- the study's (2502.20408): FastICA over the tokens of all texts, maps from the mixing matrix. It needs the
  singular value decomposition of all tokens by neurons, so it gets the first `--study-tokens` of them

    python benchmarks/ica.py --memory

gives the peak of one run with 1x, 4x and 16x the subjects.
"""

import argparse
import json
import resource
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

N_LAYERS = 5


def make(path: Path, n_subjects: int, n_tokens: int, n_neurons: int, n_networks: int) -> None:
    """Write an archive of planted networks in noise, and the networks beside it."""
    rng = np.random.default_rng(0)
    maps = np.zeros((n_networks, n_neurons), dtype=np.float32)
    for row in maps:
        row[rng.choice(n_neurons, n_neurons // 50, replace=False)] = 1.0
    gain = np.linspace(2.0, 1.0, n_networks, dtype=np.float32)

    def block(block_info: Any = None) -> Any:
        (prompt, _), _, (layer, _), _ = block_info[None]["array-location"]
        courses = np.random.default_rng([1, prompt]).laplace(size=(n_tokens, n_networks)).astype(np.float32)
        per = n_neurons // N_LAYERS
        noise = np.random.default_rng([2, prompt, layer]).standard_normal((n_tokens, per), dtype=np.float32)
        signal = (courses * gain) @ maps[:, layer * per : (layer + 1) * per]
        return (signal + noise).astype(np.float16)[None, :, None]

    chunks = ((1,) * n_subjects, (n_tokens,), (1,) * N_LAYERS, (n_neurons // N_LAYERS,))
    cube = da.map_blocks(block, chunks=chunks, dtype=np.float16)
    ds = xr.Dataset(
        {"activation": (("prompt", "token", "layer", "neuron"), cube)},
        coords={"token_id": (("prompt", "token"), np.ones((n_subjects, n_tokens), dtype=np.int32))},
    )
    actome.save(ds, path)
    np.save(path.with_suffix(".npy"), maps)


def ours(**options: Any) -> Callable[[xr.Dataset, argparse.Namespace], Any]:
    def run(ds: xr.Dataset, given: argparse.Namespace) -> Any:
        result = actome.group_ica(ds, n_components=given.components[0], **options)
        return result["component_map"].to_numpy()

    return run


def in_memory(ds: xr.Dataset, n_tokens: int | None = None) -> Any:
    """Return tokens by neurons, in float64, as scikit-learn's FastICA needs them."""
    cube = ds["activation"].to_numpy()
    return cube.reshape(-1, cube.shape[2] * cube.shape[3])[:n_tokens].astype(np.float64)


def with_sklearn(ds: xr.Dataset, given: argparse.Namespace) -> Any:
    from sklearn.decomposition import PCA, FastICA
    from sklearn.preprocessing import StandardScaler

    K = given.components[0]
    X = StandardScaler(copy=False).fit_transform(in_memory(ds))
    reduced = []
    for subject in np.split(X, ds.sizes["prompt"]):
        pca = PCA(2 * K, random_state=0).fit(subject)
        reduced.append(pca.components_ * pca.singular_values_[:, None])
    group = PCA(K, random_state=0).fit(np.concatenate(reduced)).components_
    return FastICA(K, whiten="unit-variance", random_state=0).fit_transform(group.T).T


def the_study(ds: xr.Dataset, given: argparse.Namespace) -> Any:
    from sklearn.decomposition import FastICA

    X = in_memory(ds, given.study_tokens)
    ica = FastICA(given.components[0], whiten="unit-variance", random_state=0).fit(X)
    return ica.mixing_.T


CONTENDERS: dict[str, Callable[[xr.Dataset, argparse.Namespace], Any]] = {
    "actome, one run": ours(n_runs=1),
    "actome, ten runs": ours(n_runs=10, null=0),
    "actome, ten runs, null": ours(n_runs=10),
    "scikit-learn, one run": with_sklearn,
    "the study's, fewer tokens": the_study,
}


def recovery(maps: Any, truth: Any) -> float:
    """Return the smallest, over true networks, of the largest |correlation| with a map."""
    maps = maps.reshape(len(maps), -1)
    return float(np.abs(np.corrcoef(maps, truth)[: len(maps), len(maps) :]).max(axis=0).min())


def one(path: Path, name: str, given: argparse.Namespace) -> dict[str, float]:
    """Run one contender in this process."""
    dask.config.set(scheduler="threads")
    ds = actome.open(path).isel(prompt=slice(0, given.subjects))
    before = time.perf_counter()
    maps = CONTENDERS[name](ds, given)
    elapsed = time.perf_counter() - before
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    return {"seconds": elapsed, "peak": peak, "recovery": recovery(maps, np.load(path.with_suffix(".npy")))}


def measured(path: Path, name: str, K: int, given: argparse.Namespace, subjects: int | None = None) -> Any:
    command = [sys.executable, __file__, "--one", name, "--path", str(path), "--components", str(K)]
    command += ["--subjects", str(subjects or given.subjects), "--study-tokens", str(given.study_tokens)]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return json.loads(out)


def prepare(path: Path, K: int, n_subjects: int, given: argparse.Namespace) -> None:
    """Write the archive in a process of its own: the peak of a process counts for those that it starts."""
    command = [sys.executable, __file__, "--make", "--path", str(path), "--components", str(K)]
    command += ["--subjects", str(n_subjects), "--tokens", str(given.tokens), "--neurons", str(given.neurons)]
    subprocess.run(command, check=True)


def compare(folder: Path, K: int, given: argparse.Namespace) -> None:
    path = folder / f"k{K}.zarr"
    prepare(path, K, given.subjects, given)
    print(f"{given.subjects} subjects x {given.tokens} tokens x {given.neurons} neurons, K = {K}")
    print(f"{'':<28}{'seconds':>9}{'of one run':>12}{'peak MB':>9}{'worst recovery':>16}", flush=True)
    base = None
    for name in given.only or CONTENDERS:
        found = measured(path, name, K, given)
        base = base or found["seconds"]
        line = f"{name:<28}{found['seconds']:>9.1f}{found['seconds'] / base:>12.2f}"
        print(f"{line}{found['peak']:>9.0f}{found['recovery']:>16.4f}", flush=True)


def flat(folder: Path, K: int, given: argparse.Namespace) -> None:
    """Print the peak with more and more subjects of one archive."""
    path = folder / "many.zarr"
    prepare(path, K, 16 * given.subjects, given)
    for factor in (1, 4, 16):
        found = measured(path, "actome, one run", K, given, factor * given.subjects)
        n = factor * given.subjects
        print(f"K = {K}, {n} subjects: {found['seconds']:.1f} s, peak {found['peak']:.0f} MB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--components", type=int, nargs="+", default=[20, 64])
    parser.add_argument("--subjects", type=int, default=20)
    parser.add_argument("--tokens", type=int, default=1000)
    parser.add_argument("--neurons", type=int, default=50_000)
    parser.add_argument("--study-tokens", type=int, default=2000)
    parser.add_argument("--memory", action="store_true", help="1x, 4x and 16x the subjects")
    parser.add_argument("--only", nargs="+", choices=list(CONTENDERS), help="some contenders")
    parser.add_argument("--folder", help="on the disk to write to")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--make", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--path", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.make:
        make(given.path, given.subjects, given.tokens, given.neurons, given.components[0])
    elif given.one:
        print(json.dumps(one(given.path, given.one, given)))
    else:
        for K in given.components:
            with tempfile.TemporaryDirectory(dir=given.folder) as folder:
                (flat if given.memory else compare)(Path(folder), K, given)


if __name__ == "__main__":
    main()
