"""How long scoring under lesions takes, as a speed-up over one whole forward pass for each mask.

``python -m benchmarks.lesion [--inputs short long] [--rounds N] [--masks N] [--device cuda] [--layers N]``

A Llama with random weights; short (1 x 32) and long (4 x 128) inputs; masks that lie in one layer each,
as many in every layer, and masks that touch all layers. Each round runs every contender once, in an order
drawn anew; a ratio is to the naive loop of its own round, and the median over the rounds is printed.

The prefix ceiling is measured in the same rounds: the naive loop on models that really lack the layers
before each mask's, so that skipping costs nothing at all. "of the ceiling" is the speed-up of ours, prefix
alone, over that of the ceiling. "into the archive" is all of `actome.score` but loading and the digest of
the weights: it also draws the masks' places, allocates, writes and finalises.
"""

import argparse
import copy
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

import actome
from actome.ingest.lesions.change import Change
from actome.ingest.lesions.draws import ByPrompt
from actome.ingest.models import LoadedModel
from actome.ingest.scoring.grouping import Group, most_tokens
from actome.ingest.scoring.passes import PromptBatch, Subject
from actome.ingest.sites import find_taps
from benchmarks.ingest import SMALL, make_model

Masks = np.ndarray[Any, np.dtype[np.bool_]]
SHARE = 0.01  # of a layer's neurons
INPUTS = {"short": (1, 32), "long": (4, 128)}  # prompts x tokens


def make_masks(n: int, n_layers: int, width: int, *, one_layer: bool) -> Masks:
    """Draw masks: (mask, layer, neuron)."""
    rng = np.random.default_rng(0)
    masks = rng.random((n, n_layers, width)) < SHARE
    masks[:, :, 0] = True
    if one_layer:
        own = np.arange(n)[:, None] % n_layers == np.arange(n_layers)
        masks &= own[:, :, None]
    return masks


def sum_of_losses(module: Any, ids: torch.Tensor) -> torch.Tensor:
    """Run and score, as plainly as it is done by hand."""
    logits = module(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
    flat = logits[:, :-1].flatten(0, 1).float()
    return torch.nn.functional.cross_entropy(flat, ids[:, 1:].flatten(), reduction="none")


def naive(modules: list[Any], ids: torch.Tensor, masks: Masks) -> None:
    """One forward pass a mask; each on the model at the place of its first layer in `modules`."""
    for mask in masks:
        first = int(np.flatnonzero(mask.any(axis=1))[0])
        module, skipped = modules[first], len(masks[0]) - len(modules[first].model.layers)
        handles = []
        for layer in np.flatnonzero(mask.any(axis=1)):
            where = torch.from_numpy(np.flatnonzero(mask[layer])).to(ids.device)

            def zero(m: Any, args: Any, where: torch.Tensor = where) -> Any:
                x = args[0].clone()
                x[..., where] = 0
                return (x,)

            down = module.model.layers[layer - skipped].mlp.down_proj
            handles.append(down.register_forward_pre_hook(zero))
        with torch.inference_mode():
            sum_of_losses(module, ids).cpu()
        for handle in handles:
            handle.remove()


def without_first_layers(module: Any) -> list[Any]:
    """Make the model, and those that lack its first layer, its first two, ...; the weights are shared."""
    out = []
    for first in range(len(module.model.layers)):
        weights = {id(p): p for p in (*module.parameters(), *module.buffers())}
        cut = copy.deepcopy(module, memo=dict(weights))
        cut.model.layers = cut.model.layers[first:]
        out.append(cut)
    return out


def ours(subject: Subject, ids: Any, masks: Masks, *, prefix: bool = True, batch: bool = True) -> None:
    prompts = PromptBatch(subject, ids, ByPrompt(0, [""] * len(ids)))
    groups = None
    if not batch:
        groups = [Group((i,), subject.n_skipped(mask)) for i, mask in enumerate(masks)]
    elif not prefix:
        per_pass = max(1, most_tokens(subject.model.device.type) // ids.size)
        groups = [
            Group(tuple(range(i, min(i + per_pass, len(masks)))), 0) for i in range(0, len(masks), per_pass)
        ]
    prompts.score(masks, [None] * len(masks), groups=groups)


@contextmanager
def same_identity(model: LoadedModel) -> Iterator[None]:
    """Take the digest of the weights once, outside what is timed."""
    known, method = model.identity(), LoadedModel.identity
    LoadedModel.identity = lambda self: known  # type: ignore[method-assign]
    try:
        yield
    finally:
        LoadedModel.identity = method  # type: ignore[method-assign]


def archived(model: LoadedModel, paradigm: actome.Paradigm, masks: xr.DataArray) -> None:
    with tempfile.TemporaryDirectory() as folder, same_identity(model):
        actome.score(model, paradigm, Path(folder) / "s.zarr", masks, controls=0, progress=False)


def case(
    model: LoadedModel, cut: list[Any], shape: tuple[int, int], masks: Masks
) -> dict[str, Callable[[], None]]:
    ids = np.random.default_rng(1).integers(0, model.vocabulary, shape).astype(np.int32)
    on_device = torch.from_numpy(ids.astype(np.int64)).to(model.device)
    subject = Subject(model, find_taps(model.module, "mlp"), Change("zero"), "mlp")
    paradigm = actome.Paradigm([{"text": " ".join(f"w{i}" for i in row)} for row in ids])
    coords = {d: range(n) for d, n in zip(("network", "layer", "neuron"), masks.shape, strict=True)}
    array = xr.DataArray(masks, dims=("network", "layer", "neuron"), coords=coords, attrs={"selected_on": []})
    return {
        "naive loop": partial(naive, [model.module] * len(cut), on_device, masks),
        "prefix ceiling": partial(naive, cut, on_device, masks),
        "ours, prefix alone": partial(ours, subject, ids, masks, batch=False),
        "ours, batched alone": partial(ours, subject, ids, masks, prefix=False),
        "ours": partial(ours, subject, ids, masks),
        "ours, into the archive": partial(archived, model, paradigm, array),
    }


def timed(run: Callable[[], None], device: torch.device) -> float:
    begun = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", nargs="+", choices=list(INPUTS), default=list(INPUTS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--masks", type=int, default=88)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    shape = SMALL | {"num_hidden_layers": options.layers}
    model = make_model(shape, 8192, options.device)
    cut, order = without_first_layers(model.module), random.Random(0)
    for n_prompts, n_tokens in (INPUTS[name] for name in options.inputs):
        for one_layer in (True, False):
            masks = make_masks(options.masks, options.layers, shape["intermediate_size"], one_layer=one_layer)
            runs = case(model, cut, (n_prompts, n_tokens), masks)
            seconds: dict[str, list[float]] = {name: [] for name in runs}
            for i in range(options.rounds + 1):
                for name, run in order.sample(list(runs.items()), len(runs)):
                    elapsed = timed(run, model.device)
                    if i:  # the first round warms up
                        seconds[name].append(elapsed)
            report(f"{n_prompts} x {n_tokens}, {'one layer' if one_layer else 'all layers'}", seconds)


def report(title: str, seconds: dict[str, list[float]]) -> None:
    base = seconds["naive loop"]
    print(f"{title}: naive loop {statistics.median(base):.2f} s ({min(base):.2f} to {max(base):.2f})")
    for name, times in seconds.items():
        ratios = sorted(b / t for t, b in zip(times, base, strict=True))
        print(f"  {statistics.median(ratios):5.2f}  ({ratios[0]:.2f} to {ratios[-1]:.2f})  {name}")
    pairs = zip(seconds["prefix ceiling"], seconds["ours, prefix alone"], strict=True)
    shares = sorted(ceiling / own for ceiling, own in pairs)
    print(f"  {statistics.median(shares):5.2f}  ({shares[0]:.2f} to {shares[-1]:.2f})  of the ceiling")


if __name__ == "__main__":
    main()
