"""How long the importance of weights takes, as a ratio to the bare forward and backward of the same batches.

``python -m benchmarks.importance [--prompts N] [--conditions N] [--rounds N] [--device cuda] [--large]``

Each round runs every contender once, in an order drawn anew; a ratio is to the bare run of its own
round, and the median over the rounds is printed. The bare run is what a training loop does without an
optimiser: the model with labels, backward, gradients dropped. What happens once, and not once a batch, is
outside: loading, the digest of the weights, tokenizing. Writing is inside.

``--large`` is a Llama of the shape of 7 B parameters with random weights in bfloat16, for a GPU.
"""

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import actome
from actome.ingest import importance as module
from actome.ingest.importance import importance
from actome.ingest.models import LoadedModel
from actome.ingest.parameters import find_parameters
from benchmarks.ingest import LARGE, N_TOKENS, SMALL, make_model

Run = Callable[[Path], float]


def contenders(
    model: LoadedModel, paradigm: actome.Paradigm, ids: torch.Tensor, batch: int
) -> dict[str, Run]:
    whole: Any = model.module

    def synchronised() -> float:
        if model.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def bare(folder: Path, wanted: set[int] | None = None) -> float:
        for p in whole.parameters():
            p.requires_grad_(wanted is None or id(p) in wanted)
            p.grad = None
        begun = synchronised()
        for rows in ids.split(batch):
            whole(rows, attention_mask=torch.ones_like(rows), labels=rows, use_cache=False).loss.backward()
            whole.zero_grad(set_to_none=True)
        return synchronised() - begun

    def bare_blocks(folder: Path) -> float:
        return bare(folder, {id(p.tensor) for p in find_parameters(whole)})

    def ours(folder: Path, **options: Any) -> float:
        begun: list[float] = []
        real = module._run

        def timed(*args: Any) -> None:
            begun.append(synchronised())
            real(*args)
            begun.append(synchronised())

        module._run = timed  # type: ignore[assignment]
        try:
            importance(model, paradigm, folder / "i.zarr", batch_tokens=batch * N_TOKENS, **options)
        finally:
            module._run = real
        return begun[1] - begun[0]

    return {
        "bare forward and backward, all parameters": bare,
        "bare forward and backward, the blocks' matrices": bare_blocks,
        "actome": ours,
        "actome, parameters='all'": lambda folder: ours(folder, parameters="all"),
        "actome, per_sample=True": lambda folder: ours(folder, per_sample=True),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--conditions", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--folder", help="on the disk to write to")
    parser.add_argument("--large", action="store_true")
    options = parser.parse_args()
    model = make_model(LARGE if options.large else SMALL, 32000 if options.large else 8192, options.device)
    ids = torch.from_numpy(np.random.default_rng(0).integers(0, 8192, (options.prompts, N_TOKENS)))
    paradigm = actome.Paradigm(
        [
            {"text": " ".join(f"w{i}" for i in row), "condition": str(k % options.conditions)}
            for k, row in enumerate(ids.tolist())
        ]
    )
    runs = contenders(model, paradigm, ids.to(options.device), options.batch)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    order = random.Random(0)
    for i in range(options.rounds + 1):
        for name, run in order.sample(list(runs.items()), len(runs)):
            with tempfile.TemporaryDirectory(dir=options.folder) as folder:
                elapsed = run(Path(folder))
            if i:  # the first round warms up
                seconds[name].append(elapsed)
    bare = next(iter(seconds.values()))
    n_parameters = sum(p.numel() for p in model.module.parameters())
    print(f"{n_parameters / 1e6:.1f} M parameters, {ids.numel()} tokens in {options.conditions} conditions")
    print(f"the bare run: median {statistics.median(bare):.2f} s, {min(bare):.2f} to {max(bare):.2f}")
    for name, times in seconds.items():
        ratios = sorted(t / b for t, b in zip(times, bare, strict=True))
        print(f"{statistics.median(ratios):6.2f}  ({ratios[0]:.2f} to {ratios[-1]:.2f})  {name}")


if __name__ == "__main__":
    main()
