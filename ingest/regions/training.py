"""Continued training with a region frozen, with all else frozen, and with nothing frozen."""

import os
from collections.abc import Sequence
from typing import Final

import torch
import xarray as xr
from torch import nn

from ...store.arguments import real_number, whole_number
from ...store.errors import InputError
from ...store.location import Location
from ...store.paradigm import Paradigm, as_paradigm
from ...store.selection import Selection
from ...store.unit_archive import check_place, make_units
from ..held_out import held_out
from ..labels import OF_PROBE, check_labels
from ..models import ModelLike, load_model
from .arms import ARMS, Arm, Settings, Training
from .lesions import check_places, places_of
from .losses import check_scorable, scorable_tokens
from .probe import Probe
from .targets import regions_digest

DTYPE: Final = "float32"  # of the weights: in fewer bits small updates would be rounded away


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

    An arm is saved when it is finished, and its state every minute (values, momentum, what was seen so far;
    safetensors beside the result, removed at its end). An interrupted run goes on from there when the same
    call is made again, to the same numbers; a finished one is opened.

    Parameters
    ----------
    model, device, progress
        As for `record`, in float32: a model that is loaded here is, whatever its files are in.
    paradigm
        The texts by which every condition is followed. Those that selected the region, and texts that are
        trained on, are left out.
    out
        Where the result is saved.
    region
        One region from `actome.region`.
    texts
        What is trained on, such as the texts of one condition.
    arms
        "none": nothing is frozen; "region": the region is; "random": a random region is that has as many
        parameters in each tensor, any of them, without which nothing can be said of the region; "rest":
        everything but the region is.
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
        right answer is the likeliest; ``n_trained`` (arm), parameters that are not frozen; ``shared``
        (arm), the share of the random region's parameters that are the region's own; the labels of the
        prompts.

    Raises
    ------
    InputError, InputTypeError
        The region does not fit the model, or is more than one; a value is not allowed; the model is not in
        float32; no prompt is left, or a label of theirs has a name that the result needs; `out` cannot be
        written or holds something else.

    Warns
    -----
    UserWarning
        The region does not say which prompts selected it.
    """
    settings = Settings(
        whole_number(steps, "steps", least=1), whole_number(every, "every", least=1),
        whole_number(batch_size, "batch_size", least=1), real_number(learning_rate, "learning_rate"),
        real_number(weight_decay, "weight_decay"), whole_number(seed, "seed", least=0),
    )  # fmt: skip
    _check_arms(arms, settings)
    places = places_of(region)
    location = Location.of(out)
    check_place(location, "training", "results of training")
    paradigm, trained_on = as_paradigm(paradigm), as_paradigm(texts)
    check_labels(paradigm, "training", () if probe is None else OF_PROBE)
    evaluated = _evaluated(held_out(paradigm, Selection.noted(region.attrs), "regions"), trained_on)
    asked = None if probe is None else as_paradigm(probe)
    loaded = load_model(model, device=device, dtype=DTYPE)
    check_scorable(loaded)
    check_places(loaded.module, region)
    check_trainable(loaded.module)
    inputs = {
        **loaded.identity(), "device": loaded.device.type,
        "paradigm_digest": evaluated.digest, "texts_digest": trained_on.digest,
        "probe_digest": None if asked is None else asked.digest,
        "region_digest": regions_digest(region), "arms": list(arms), **vars(settings),
    }  # fmt: skip
    training = Training(
        loaded, places, scorable_tokens(loaded, trained_on), scorable_tokens(loaded, evaluated),
        None if asked is None else Probe(loaded, asked), tuple(arms), settings,
    )  # fmt: skip
    return make_units(
        location, inputs, "results of training", lambda: training.allocation(evaluated, region.attrs),
        lambda archive: training.fill(archive, progress),
    )  # fmt: skip


def _check_arms(arms: Sequence[str], settings: Settings) -> None:
    if not arms or isinstance(arms, str) or not set(arms) <= set(ARMS) or len(set(arms)) < len(arms):
        raise InputError(f"arms must be some of {list(ARMS)}, each once; got {arms!r}")
    rate, decay = settings.learning_rate, settings.weight_decay
    if not (0 < rate < float("inf") and 0 <= decay < float("inf")):
        raise InputError(f"learning_rate must be above 0 and weight_decay 0 or more, got {rate} and {decay}")


def check_trainable(module: nn.Module) -> None:
    """Refuse a model whose weights are too coarse for the updates of a training.

    Raises
    ------
    InputError
        They are not in float32.
    """
    kinds = {p.dtype for p in module.parameters()}
    if kinds != {torch.float32}:
        raise InputError(
            f"the weights are {', '.join(sorted(str(k).removeprefix('torch.') for k in kinds))}: small "
            "updates would be rounded away; load the model in float32"
        )


def _evaluated(paradigm: Paradigm, texts: Paradigm) -> Paradigm:
    """Leave out the texts that are trained on; ids say nothing, two paradigms may number theirs alike."""
    seen = paradigm.table["text"].isin(texts.table["text"])
    left = paradigm.table["prompt"][~seen].tolist()
    if not left:
        raise InputError(
            "every prompt of the paradigm selected the region or is trained on; give other prompts"
        )
    return paradigm.select(prompt=left)
