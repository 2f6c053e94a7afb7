"""One unit of a recording in memory, without a store: all prompts can then share one padded batch."""

from typing import Any

from actome import Paradigm
from actome.ingest.models import ModelLike, load_model
from actome.ingest.plan import Plan, Settings
from actome.ingest.tokens import Selection
from actome.ingest.units import finish, make_buffers, run_unit
from actome.ingest.writing import Transfer

from .architectures import text_of


def paradigm_of(prompts: list[list[int]]) -> Paradigm:
    """Prompts of the architectures' tokenizer, by their ids, of two conditions."""
    return Paradigm([{"text": text_of(ids), "condition": "ab"[i % 2]} for i, ids in enumerate(prompts)])


def plan_of(model: ModelLike, paradigm: Paradigm, *, sites: Any = ("mlp",), tokens="prompt", **options: Any):
    settings = {
        "sites": dict.fromkeys(sites),
        "selection": Selection.of(tokens),
        "dtype": "float32",
    } | options
    return Plan(load_model(model), paradigm, Settings(**settings))


def one_unit(model: ModelLike, paradigm: Paradigm, *, clip: bool = False, **options: Any):
    """Labels, activations and moments of all prompts; one batch, unless `batch_size` says else."""
    plan, n = plan_of(model, paradigm, **options), len(paradigm)
    with plan.model.evaluating():
        unit = run_unit(plan, slice(0, n), 4096, make_buffers(plan, plan.settings.dtype, n), Transfer())
        return finish(unit, clip=clip)
