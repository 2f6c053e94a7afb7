"""Continued training with a region frozen, with all else frozen, and with nothing frozen."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr
from torch import nn
from tqdm import tqdm

from ...store.archive import open as open_result
from ...store.errors import InputError
from ...store.location import Location
from ...store.paradigm import Paradigm, as_paradigm
from ...store.provenance import digest_json, library_versions, now
from ...store.results import save_result
from ..arguments import real_number, whole_number
from ..gradients import summed_loss
from ..held_out import held_out
from ..models import LoadedModel, ModelLike, load_model
from ..parameters import parameters_by_name
from ..tokens import Tokens
from .controls import control_places
from .lesions import check_places, places_of
from .probe import Probe
from .scores import check_scorable, regions_digest, reopen, scorable_tokens, score_all
from .sweep import summed_losses

Arm = Literal["none", "region", "random", "rest"]
ARMS: Final[tuple[Arm, ...]] = ("none", "region", "random", "rest")


@dataclass(frozen=True)
class _Settings:
    steps: int
    every: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    seed: int


def train_frozen(
    model: ModelLike,
    paradigm: Paradigm | str | os.PathLike[str],
    out: str | os.PathLike[str],
    region: xr.DataTree,
    *,
    texts: Paradigm | str | os.PathLike[str],
    arms: Sequence[Arm] = ARMS,
    steps: int = 100,
    every: int = 10,
    batch_size: int = 8,
    learning_rate: float = 1e-4,
    weight_decay: float = 0.01,
    probe: Paradigm | str | os.PathLike[str] | None = None,
    seed: int = 0,
    device: str | None = None,
    progress: bool | None = None,
) -> xr.Dataset:
    """Train a model further on some texts, and follow what becomes of every condition.

    Every arm starts from the model as it is, sees the same batches, and is trained with AdamW on the mean
    next-token loss of a batch's tokens, with dropout off. A frozen parameter keeps its bits: its gradient
    is zero, and neither momentum nor weight decay moves it. At the end the model has the bits that it
    had.

    Parameters
    ----------
    model, device, progress
        As for `record`. In float32.
    paradigm
        The texts by which every condition is followed. Those that selected the region, and those that are
        trained on, are left out.
    out
        Where the result is saved; one that was made there by the same call is opened.
    region
        One region from `actome.region`.
    texts
        What is trained on, such as the texts of one condition.
    arms
        "none": nothing is frozen; "region": the region is; "random": a random region is that has as many
        parameters in each tensor and none of the region's, without which nothing can be said of the region;
        "rest": everything but the region is.
    steps, batch_size
        Updates, and texts in each, drawn in a new order every time that all were seen.
    every
        Updates between two evaluations; there is one before the first and one after the last.
    learning_rate, weight_decay
        Of AdamW.
    probe
        Questions with several answers, one prompt an answer: columns ``item`` and ``correct``.
    seed
        Draws the batches and the random region.

    Returns
    -------
    Dataset
        ``loss`` (arm, step, prompt), nats, summed over the scored tokens of a prompt, NaN where the model
        gives one of them no probability; ``n_scored`` (prompt), their number; ``train_loss`` (arm, update),
        nats per token of the batch, before the update; with a probe ``right`` (arm, step, item), whether the
        right answer is the likeliest; ``n_trained`` (arm), parameters that are not frozen; the labels of
        the prompts.

    Raises
    ------
    InputError, InputTypeError
        The region does not fit the model, or is more than one; a value is not allowed; the model is not in
        float32; no prompt is left; `out` cannot be written or holds something else.

    Warns
    -----
    UserWarning
        The region does not say which prompts selected it.
    """
    settings = _Settings(
        whole_number(steps, "steps", least=1), whole_number(every, "every", least=1),
        whole_number(batch_size, "batch_size", least=1), real_number(learning_rate, "learning_rate"),
        real_number(weight_decay, "weight_decay"), whole_number(seed, "seed", least=0),
    )  # fmt: skip
    _check_arms(arms, settings)
    places = places_of(region)
    location = Location.of(out)
    if not location.exists():
        location.check_new()
    trained_on = as_paradigm(texts)
    evaluated = _evaluated(
        held_out(as_paradigm(paradigm), region.dataset.attrs.get("selected_on"), "regions"), trained_on
    )
    asked = None if probe is None else as_paradigm(probe)
    loaded = load_model(model, device=device)
    check_scorable(loaded)
    check_places(loaded.module, region)
    _check_precision(loaded.module)
    inputs = {
        **loaded.identity(),
        "paradigm_digest": evaluated.digest, "texts_digest": trained_on.digest,
        "probe_digest": None if asked is None else asked.digest,
        "region_digest": regions_digest(region), "arms": list(arms), **vars(settings),
    }  # fmt: skip
    if location.exists():
        return reopen(location, inputs, "results of training")
    shown, read = scorable_tokens(loaded, trained_on), scorable_tokens(loaded, evaluated)
    questions = None if asked is None else Probe(loaded, asked)
    hidden = None if progress is None else not progress
    curves = []
    with (
        tqdm(total=len(arms) * settings.steps, desc="train", unit="update", disable=hidden) as bar,
        loaded.evaluating(),
        restored(loaded.module),
    ):
        for arm in arms:
            frozen = places if arm != "random" else control_places(
                places, parameters_by_name(loaded.module), match="size", seed=[settings.seed]
            )  # fmt: skip
            free = trainable(loaded.module, frozen, arm)
            curves.append(_train(loaded, free, shown, read, questions, settings, bar))
    ds = _dataset(curves, list(arms), evaluated, questions, settings, inputs, region)
    save_result(ds, str(location), derived_from=region.attrs.get("manifest_digest"))
    return open_result(str(location))


def _check_arms(arms: Sequence[str], settings: _Settings) -> None:
    if not arms or isinstance(arms, str) or not set(arms) <= set(ARMS) or len(set(arms)) < len(arms):
        raise InputError(f"arms must be some of {list(ARMS)}, each once; got {arms!r}")
    if settings.learning_rate <= 0 or settings.weight_decay < 0:
        raise InputError(
            "learning_rate must be above 0 and weight_decay 0 or more, got "
            f"{settings.learning_rate} and {settings.weight_decay}"
        )


def _check_precision(module: nn.Module) -> None:
    kinds = {p.dtype for p in module.parameters()}
    if kinds != {torch.float32}:
        raise InputError(
            f"the weights are {', '.join(sorted(str(k).removeprefix('torch.') for k in kinds))}: small "
            "updates would be rounded away; load the model in float32"
        )


def _evaluated(paradigm: Paradigm, texts: Paradigm) -> Paradigm:
    """Leave out what is trained on, by id and by text."""
    seen = paradigm.table["prompt"].isin(texts.table["prompt"]) | paradigm.table["text"].isin(
        texts.table["text"]
    )
    left = paradigm.table["prompt"][~seen].tolist()
    if not left:
        raise InputError(
            "every prompt of the paradigm selected the region or is trained on; give other prompts"
        )
    return paradigm.select(prompt=left)


@contextmanager
def restored(module: nn.Module) -> Iterator[None]:
    """Give every parameter its bits, its gradient and its wish for one back at the end."""
    before = [(p, p.detach().clone(), p.requires_grad, p.grad) for p in module.parameters()]
    try:
        yield
    finally:
        with torch.no_grad():
            for p, values, wanted, gradient in before:
                p.copy_(values)
                p.requires_grad_(wanted)
                p.grad = gradient


def trainable(
    module: nn.Module, region: Mapping[str, npt.NDArray[np.int64]], arm: str
) -> list[tuple[nn.Parameter, torch.Tensor | None]]:
    """Say what an arm trains: each parameter, and which of its values; None: all of them."""
    known = parameters_by_name(module)
    inside: dict[int, torch.Tensor] = {}
    for name, own in region.items():
        p = known[name]
        mask = inside.setdefault(id(p), torch.zeros(p.shape, dtype=torch.bool, device=p.device))
        mask.view(-1)[torch.from_numpy(own).to(p.device)] = True
    out: list[tuple[nn.Parameter, torch.Tensor | None]] = []
    for p in module.parameters():
        mask = inside.get(id(p), torch.zeros((), dtype=torch.bool, device=p.device))
        if arm == "none" or not (mask.any() or arm == "rest"):
            out.append((p, None))
        elif arm in ("region", "random"):
            out.append((p, ~mask))
        elif mask.any():
            out.append((p, mask))
    return out


def _train(
    model: LoadedModel,
    free: list[tuple[nn.Parameter, torch.Tensor | None]],
    shown: Tokens,
    read: Tokens,
    probe: Probe | None,
    settings: _Settings,
    bar: Any,
) -> dict[str, Any]:
    """Train one arm, from the model as it is to the model as it was."""
    scored = (read.token_id != -1) & (np.arange(read.token_id.shape[1]) > 0)
    rows = _batches(shown, settings)
    losses, right, trained = [], [], []
    with restored(model.module), torch.enable_grad():
        chosen = {id(p) for p, _ in free}
        for p in model.module.parameters():
            p.requires_grad_(id(p) in chosen)
            p.grad = None
        start = [(p, mask, p.detach().clone()) for p, mask in free if mask is not None]
        optimiser = torch.optim.AdamW(
            [p for p, _ in free], lr=settings.learning_rate, weight_decay=settings.weight_decay
        ) if free else None  # fmt: skip
        for step in range(settings.steps + 1):
            if step % settings.every == 0 or step == settings.steps:
                losses.append(summed_losses(score_all(model, read), scored))
                right.append(probe.ask() if probe is not None else None)
            if step == settings.steps:
                break
            token_id = shown.token_id[next(rows)]
            loss = summed_loss(model, token_id) / max(1, int((token_id != -1)[:, 1:].sum()))
            trained.append(float(loss.detach()))
            if optimiser is not None:
                loss.backward()
                update(optimiser, start)
            bar.update()
    n_trained = sum(p.numel() if mask is None else int(mask.sum()) for p, mask in free)
    return {"loss": losses, "right": right, "train_loss": trained, "n_trained": n_trained, "scored": scored}


def update(
    optimiser: torch.optim.Optimizer, start: list[tuple[nn.Parameter, torch.Tensor, torch.Tensor]]
) -> None:
    """Take one step, in which the values that are frozen keep their bits.

    Parameters
    ----------
    optimiser
        With the gradients of the batch.
    start
        Of each parameter with frozen values: it, which of its values are trained, and all as they were.
    """
    for p, mask, _ in start:
        if p.grad is not None:
            p.grad.masked_fill_(~mask, 0.0)
    optimiser.step()
    with torch.no_grad():
        for p, mask, before in start:  # weight decay moves what has no gradient too
            p.copy_(torch.where(mask, p, before))
    optimiser.zero_grad(set_to_none=True)


def _batches(tokens: Tokens, settings: _Settings) -> Iterator[npt.NDArray[np.int64]]:
    """Draw batches for ever: all texts in a new order, again and again."""
    rng = np.random.default_rng(settings.seed)
    usable = np.flatnonzero(tokens.n_tokens > 1)
    waiting: npt.NDArray[np.int64] = np.empty(0, dtype=np.int64)
    while True:
        while len(waiting) < settings.batch_size:
            waiting = np.concatenate([waiting, rng.permutation(usable)])
        yield waiting[: settings.batch_size]
        waiting = waiting[settings.batch_size :]


def _dataset(
    curves: list[dict[str, Any]],
    arms: list[str],
    paradigm: Paradigm,
    probe: Probe | None,
    settings: _Settings,
    inputs: dict[str, Any],
    region: xr.DataTree,
) -> xr.Dataset:
    steps = sorted({*range(0, settings.steps, settings.every), settings.steps})
    out = {
        "loss": (("arm", "step", "prompt"), np.stack([c["loss"] for c in curves]), {"units": "nats"}),
        "train_loss": (("arm", "update"), np.array([c["train_loss"] for c in curves])),
        "n_scored": ("prompt", curves[0]["scored"].sum(axis=1)),
        "n_trained": ("arm", np.array([c["n_trained"] for c in curves])),
    }
    coords: dict[str, Any] = {str(c): ("prompt", paradigm.table[c].to_numpy()) for c in paradigm.table}
    if probe is not None:
        out["right"] = (("arm", "step", "item"), np.stack([c["right"] for c in curves]))
        coords["item"] = np.array(probe.items, dtype=object)
    return xr.Dataset(
        out,
        coords={**coords, "arm": np.array(arms, dtype=object), "step": steps},
        attrs={
            "kind": "training", "inputs": inputs, "inputs_digest": digest_json(inputs),
            "selected_on": list(region.attrs.get("selected_on", [])),
            "environment": library_versions(), "created": now(),
        },
    )  # fmt: skip
