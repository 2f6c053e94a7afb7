"""What the stages of the demo cost beside the least they could cost; ratios within one run.

Run on an idle machine::

    python benchmarks/demo_chain.py
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import statsmodels.api as sm
import torch

import actome
from actome.demo import PARADIGM
from actome.ingest.batches import batches
from actome.ingest.forward import model_input
from actome.ingest.models import load_model
from actome.ingest.tokens import tokenize


def seconds(function: Callable[[], Any], repeats: int = 3) -> float:
    """Return the shortest wall time of a few runs."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    """Print one line a figure."""
    paradigm = actome.Paradigm.read(PARADIGM)
    model = load_model("demo")
    tokens = tokenize(model, paradigm.table)

    def forward() -> None:
        for rows in batches(tokens.n_tokens, 4096):
            with torch.inference_mode():
                model.module(**model_input(tokens.token_id[rows], model.device), use_cache=False)

    with tempfile.TemporaryDirectory() as folder:
        numbers = iter(range(100))

        def record() -> Any:
            return actome.record(
                (model.module, model.tokenizer), paradigm, Path(folder) / f"{next(numbers)}.zarr"
            )

        bare, recorded = seconds(forward), seconds(record)
        cube = record()
        summary = actome.open(Path(folder) / "0.zarr", level="prompt")

        def contrast(ds: Any) -> Any:
            return actome.compute_contrast(actome.fit_glm(ds), "fr - mean(rest)").compute()

        from_cube, from_summary = seconds(lambda: contrast(cube)), seconds(lambda: contrast(summary))
        reference = seconds(lambda: one_neuron(cube, contrast(summary)), repeats=1)
        ica = seconds(lambda: actome.group_ica(cube, n_components=12), repeats=1)
    neurons = cube.sizes["layer"] * cube.sizes["neuron"]
    print(f"tokens {int(tokens.n_tokens.sum())}, neurons {neurons}, torch threads {torch.get_num_threads()}")
    print(f"record / bare forward pass            {recorded / bare:.2f}  ({recorded:.1f} s / {bare:.1f} s)")
    print(f"contrast from cube / from summary     {from_cube / from_summary:.1f}  ({from_cube:.2f} s)")
    print(f"statsmodels one neuron / ours, all    {reference / from_summary:.2f}  ({from_summary:.2f} s)")
    print(f"group ICA, 12 components, 10 repeats  {ica:.1f} s")


def one_neuron(cube: Any, contrast: Any) -> None:
    """Fit the same model to one neuron with statsmodels."""
    y = np.abs(cube["activation"].isel(layer=0, neuron=0).to_numpy())
    valid = ~np.isnan(y)
    fit = actome.fit_glm(cube)
    groups = np.repeat(np.arange(len(y))[:, None], y.shape[1], axis=1)[valid]
    X = fit["design"].to_numpy()[groups]
    result = sm.OLS(y[valid].astype(float), X).fit(cov_type="cluster", cov_kwds={"groups": groups})
    result.t_test(np.array(contrast.attrs["weights"]))


if __name__ == "__main__":
    main()
