"""Importance: how much the loss of each condition rests on each single weight of a model."""

import os
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr
from tqdm import tqdm

from ..store.arguments import whole_number
from ..store.errors import InputError
from ..store.location import Location
from ..store.paradigm import Paradigm, as_paradigm
from ..store.provenance import library_versions, now
from ..store.selection import Selection
from ..store.tensors import TensorWriter, allocate_tensors, is_allocated
from ..store.trees import open_tree
from ..store.unit_archive import check_place
from .batches import batches, fitting_batch_tokens
from .gradients import GradientSum, summed_loss
from .models import LoadedModel, ModelLike, load_model
from .parameters import Parameter, Which, as_rows, find_parameters
from .structure import text_config
from .tokens import Prompting, Prompts

_VARIABLE = "importance"


def importance(
    model: ModelLike,
    paradigm: Paradigm | str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    by: str = "condition",
    parameters: Which = "blocks",
    per_sample: bool = False,
    batch_tokens: int | None = None,
    device: str | None = None,
    progress: bool | None = None,
) -> xr.DataTree:
    """Find how important every weight is for every condition: |gradient of its loss * weight|.

    To first order, it is what the loss of a condition would change by if the weight were zero [1]_ [2]_.
    The loss is the mean over the condition's scored tokens (all but the first of each prompt; padding is
    none) of their next-token loss in nats, so that every condition weighs alike however long its texts
    are. Over a pass the weight stays as it is: the sum over samples of gradient times weight is the weight
    times the summed gradient, and costs one forward and backward pass a batch. Gradients are summed in
    float32.

    A run that was interrupted goes on with the first condition that is not complete; the numbers are
    those of a run in one go.

    Parameters
    ----------
    model, device
        As for `record`.
    paradigm
        The texts.
    out
        Where the importance is kept; what was made there by the same call is opened, or gone on with.
    by
        The label of the prompts whose values are the conditions.
    parameters
        "blocks": the matrices of the blocks; "all": also norms, biases, embeddings and the head. Tied
        weights count once, under the first of their names.
    per_sample
        Sum |gradient * weight| of every prompt by itself, in place of the magnitude of the sum: what
        helps one text and hurts another then counts. One backward pass a prompt.
    batch_tokens
        Most tokens in a batch, padding included; by default what the memory suggests.
    progress
        Show a progress bar; by default only on a terminal.

    Returns
    -------
    DataTree, lazy. Its root has ``condition``, ``n_prompts``, ``n_tokens`` (scored) and ``loss`` (nats per
    token), along ``condition``. One group a weight tensor, named as the model names it:

    importance : (condition, row, column) float32, nats per token; of a tensor of more than two dimensions
        all but the last are rows, a vector is one row

    with the attributes ``matrix`` (its type: "q", "k", "v", "o", "gate", "up", "down", ...), ``layer``,
    ``rows`` ("out" or "in": whether rows are the neurons that the matrix writes or reads) and ``shape``.

    Raises
    ------
    InputError, InputTypeError
        The model foretells no next token, is quantised, or has no parameters of that kind; the paradigm
        lacks the label; a condition has no second token; `out` cannot be written or holds something else.

    Warns
    -----
    UserWarning
        The loss of a condition is not finite.

    References
    ----------
    .. [1] Zhang et al. (2023), arXiv:2310.14928.
    .. [2] Molchanov et al. (2019), CVPR, 11264-11272.
    """
    paradigm = as_paradigm(paradigm)
    if by not in paradigm.table:
        raise InputError(f"the paradigm has no column {by!r}; it has {list(paradigm.table.columns)}")
    if batch_tokens is not None:
        batch_tokens = whole_number(batch_tokens, "batch_tokens", least=1)
    location = Location.of(out)
    check_place(location, _VARIABLE, _VARIABLE)
    loaded = load_model(model, device=device)
    if not loaded.is_causal:
        raise InputError(
            f"{loaded.name!r} gives no probability of a next token, so there is no loss to take gradients "
            "of; give a causal language model"
        )
    tensors = find_parameters(loaded.module, parameters)
    prompts = Prompts(loaded, paradigm.table, Prompting())
    conditions = _conditions(paradigm, prompts, by)
    inputs = {
        **loaded.identity(),
        "paradigm_digest": paradigm.digest, "tokens_digest": prompts.digest,
        "by": by, "parameters": parameters, "per_sample": per_sample, "batch_tokens": batch_tokens,
    }  # fmt: skip
    with location.claimed():
        if not is_allocated(location):
            longest = int(prompts.n_tokens.max())
            attrs = {
                "kind": _VARIABLE,
                "by": by,
                "per_sample": per_sample,
                "loss": "mean over the scored tokens of a condition, nats",
                "inputs": inputs,
                "batch_tokens": batch_tokens or _fitting_tokens(loaded, longest),
                **Selection.of(paradigm.table).attrs,
                "licence": paradigm.licence,
                "environment": library_versions(),
                "created": now(),
            }
            allocate_tensors(location, _VARIABLE, list(conditions), [p.stored() for p in tensors], attrs)
        writer = TensorWriter(location, _VARIABLE)
        writer.check_inputs(inputs)
        with loaded.evaluating():
            _run(loaded, tensors, prompts, conditions, writer, progress)
        writer.finalise()
    return open_tree(location)


def _conditions(paradigm: Paradigm, prompts: Prompts, by: str) -> dict[str, npt.NDArray[np.int64]]:
    """Numbers of the prompts of each condition, those with a token to score."""
    values = paradigm.table[by].astype(str).to_numpy()
    out = {c: np.flatnonzero((values == c) & (prompts.n_tokens > 1)) for c in dict.fromkeys(values)}
    empty = [c for c, rows in out.items() if not len(rows)]
    if empty:
        raise InputError(f"no prompt of {empty} has a second token, so there is no loss; give longer texts")
    return out


def _run(
    loaded: LoadedModel,
    tensors: list[Parameter],
    prompts: Prompts,
    conditions: dict[str, npt.NDArray[np.int64]],
    writer: TensorWriter,
    progress: bool | None,
) -> None:
    pending = writer.pending()
    if not pending:
        return
    rows_of = list(conditions.values())
    total = GradientSum(tensors, absolute=bool(writer.attrs["per_sample"]))
    losses = []
    hidden = None if progress is None else not progress
    with tqdm(
        total=sum(len(rows_of[i]) for i in pending), unit="prompt", desc="importance", disable=hidden
    ) as bar:
        for i in pending:
            total.clear()
            rows = rows_of[i]
            loss = _accumulate(loaded, total, prompts, rows, int(writer.attrs["batch_tokens"]), bar)
            n_tokens = int((prompts.n_tokens[rows] - 1).sum())
            labels = {"n_prompts": len(rows), "n_tokens": n_tokens, "loss": loss / n_tokens}
            writer.write(i, labels, ((p.name, _on_host(total, k, n_tokens)) for k, p in enumerate(tensors)))
            losses.append(labels["loss"])
    if not np.isfinite(losses).all():
        warnings.warn(
            f"the loss of some conditions of {writer.location} is not finite, nor is their importance: the "
            "model overflows or holds NaN weights",
            stacklevel=3,
        )


def _accumulate(
    loaded: LoadedModel,
    total: GradientSum,
    prompts: Prompts,
    rows: npt.NDArray[np.int64],
    batch_tokens: int,
    bar: Any,
) -> float:
    """Add up the gradients over some prompts; return their summed loss."""
    loss = torch.zeros((), dtype=torch.float64, device=loaded.device)
    size = 1 if total.absolute else None
    with total.listening(loaded), torch.enable_grad():
        for group in batches(prompts.n_tokens[rows], batch_tokens, size):
            one = summed_loss(loaded, prompts[rows[group]].token_id)
            one.backward()
            loss += one.detach().to(loss)
            bar.update(len(group))
    return float(loss)


def _on_host(total: GradientSum, k: int, n_tokens: int) -> npt.NDArray[np.float32]:
    values: npt.NDArray[np.float32] = as_rows(total.importance(k, n_tokens)).cpu().numpy()
    return values


def _fitting_tokens(model: LoadedModel, longest: int) -> int:
    """Tokens of a batch whose activations, which all wait for the backward pass, fit into the memory."""
    config: Any = text_config(model.module)
    hidden = int(config.hidden_size)
    inner = int(getattr(config, "intermediate_size", None) or 4 * hidden)
    heads = int(getattr(config, "num_attention_heads", 1))
    waiting = int(config.num_hidden_layers) * (12 * hidden + 4 * inner + 2 * heads * longest)
    return fitting_batch_tokens(model, longest, logits=True, kept=waiting)
