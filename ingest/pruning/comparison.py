"""A model before and after pruning: parameters, speed, and perplexity per condition."""

import os
import time

import numpy as np
import numpy.typing as npt
import xarray as xr

from ... import _version
from ...store.arguments import whole_number
from ...store.errors import InputError, InputTypeError
from ...store.paradigm import Paradigm, as_paradigm
from ...store.provenance import library_versions
from ...store.selection import Selection
from ..batches import batches
from ..forward import score_tokens
from ..held_out import held_out
from ..models import LoadedModel, ModelLike, load_model
from ..sites import find_taps
from ..tokens import tokenize
from .pruned import PrunedModel

_BATCH_TOKENS = 4096


def compare_pruned(
    model: ModelLike,
    pruned: PrunedModel | str | os.PathLike[str],
    paradigm: Paradigm | str | os.PathLike[str],
    *,
    by: str = "condition",
    repeats: int = 5,
    device: str | None = None,
) -> xr.Dataset:
    """Measure what pruning saved and what it cost, on texts that took no part in choosing the neurons.

    Parameters
    ----------
    model
        The one that was pruned, as for `record`.
    pruned
        From `prune`, or the folder that it wrote.
    paradigm
        The texts; prompts that selected the neurons are left out.
    by
        Label whose values are told apart.
    repeats
        Passes over all texts that are timed, of both models in turn.
    device
        As for `record`.

    Returns
    -------
    Dataset of kind "pruning", in memory

    perplexity : (model, condition), unitless; NaN for a condition without scored tokens
    parameters : (model), numbers in the model, tied ones once
    neurons : (model), of the MLPs, those of zero weights that fill up layers not counted
    width : (model), neurons of each layer's MLP as the configuration holds them
    seconds : (model, repeat), of a pass over all texts on this machine
    tokens_per_second : (model), from the fastest pass
    n_tokens : (condition), scored

    ``model`` is "before" and "after".

    Raises
    ------
    InputError, InputTypeError
        `pruned` was made from another model; the paradigm lacks the label, no prompt is left, or
        none has a second token.
    """
    repeats = whole_number(repeats, "repeats", least=1)
    if isinstance(pruned, (str, os.PathLike)):
        pruned = PrunedModel.read(pruned, device=device)
    if not isinstance(pruned, PrunedModel):
        raise InputTypeError(f"pruned must come from prune, or be its folder; got {type(pruned).__name__}")
    loaded = load_model(model, device=device)
    _check_origin(loaded, pruned)
    selected = Selection.noted(pruned.record)
    paradigm = held_out(as_paradigm(paradigm), selected, "pruned neurons")
    if by not in paradigm.table:
        raise InputError(f"the paradigm has no label {by!r}; it has {sorted(map(str, paradigm.table))}")
    token_id = tokenize(loaded, paradigm.table).token_id
    both = (loaded, pruned)
    logprob = [_score_all(m, token_id) for m in both]  # this also warms them up for the timed passes
    if np.isnan(logprob[0]).all():
        raise InputError(
            "no prompt has a second token, so there is no prediction to score; give longer texts"
        )
    seconds = np.array([[_seconds(m, token_id) for m in both] for _ in range(repeats)]).T
    labels = paradigm.table[by].astype(str).to_numpy()
    values = np.unique(labels)
    scored = ~np.isnan(logprob[0])
    n_tokens = np.array([scored[labels == v].sum() for v in values])
    loss = np.array([[_mean(-lp[labels == v], scored[labels == v]) for v in values] for lp in logprob])
    n_layers = len(pruned.record["removed"])
    before = n_layers * pruned.record["width_before"]
    return xr.Dataset(
        {
            "perplexity": (("model", by), np.exp(loss)),
            "parameters": ("model", [_n_parameters(m) for m in both]),
            "neurons": ("model", [before, before - sum(pruned.record["removed"])]),
            "width": ("model", [find_taps(m.module, "mlp")[0].width for m in both]),
            "seconds": (("model", "repeat"), seconds, {"units": "s"}),
            "tokens_per_second": ("model", (token_id != -1).sum() / seconds.min(axis=1)),
            "n_tokens": (by, n_tokens),
        },
        coords={"model": np.array(["before", "after"], dtype=object), by: values.astype(object)},
        attrs={
            "kind": "pruning",
            "by": by,
            "name": loaded.name,
            "compensate": pruned.record["compensate"],
            "removed": pruned.record["removed"],
            "filled": pruned.record["filled"],
            "mask_digest": pruned.record["mask_digest"],
            **(selected or Selection()).attrs,
            "paradigm_digest": paradigm.digest,
            "device": str(loaded.device),
            "model_identity": pruned.record["model"],
            "environment": library_versions(),
            "actome": _version.__version__,
        },
    )


def _check_origin(loaded: LoadedModel, pruned: PrunedModel) -> None:
    was, now = pruned.record["model"]["weights_digest"], loaded.identity()["weights_digest"]
    if was != now:
        raise InputError(
            f"{pruned.name} was pruned from other weights than those of {loaded.name}: {was} against {now}"
        )


def _score_all(model: LoadedModel, token_id: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
    """Log probability of every token: (prompt, token)."""
    out = np.full(token_id.shape, np.nan, dtype=np.float32)
    with model.evaluating():
        for rows in batches((token_id != -1).sum(axis=1), _BATCH_TOKENS):
            logprob = score_tokens(model, token_id[rows])
            out[rows, : logprob.shape[1]] = logprob
    return out


def _seconds(model: LoadedModel, token_id: npt.NDArray[np.int32]) -> float:
    start = time.perf_counter()
    _score_all(model, token_id)  # ends with the numbers on the host, so nothing is still under way
    return time.perf_counter() - start


def _mean(loss: npt.NDArray[np.float32], scored: npt.NDArray[np.bool_]) -> float:
    return float(loss[scored].astype(np.float64).mean()) if scored.any() else float("nan")


def _n_parameters(model: LoadedModel) -> int:
    return sum(parameter.numel() for parameter in model.module.parameters())
