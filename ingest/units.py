"""One unit of a recording: its prompts go through the model, batch by batch, into one slab a site."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..store.moments import masked_moments
from .batches import batches, run_fitting
from .capture import DTYPES, FLOAT16_MAX, Collected, Kept, Slab, captured, moments_of
from .forward import Generation, read
from .plan import Plan
from .tokens import Tokens
from .writing import Buffers, Transfer, host_buffer


class Float16OverflowError(Exception):
    """A value that float16 does not hold came up in a recording that chose float16 by itself."""


@dataclass
class Unit:
    """What was recorded of one unit.

    Attributes
    ----------
    labels
        Values of the root variables.
    slabs
        Per site; on the host once `wait` has returned.
    wait
        Waits for the copies to the host.
    counts
        What was counted: batches that had to be halved, values clipped or not finite.
    """

    labels: dict[str, npt.NDArray[Any]]
    slabs: dict[str, Slab]
    logprob: torch.Tensor
    wait: Callable[[], None] = lambda: None
    counts: dict[str, int] = field(default_factory=dict)


def make_buffers(plan: Plan, dtype: str, n_prompts: int) -> Buffers:
    """Allocate the host's memory for one unit: sums, cube and log probabilities."""
    n_kept, device = int(plan.kept_tokens.max()), plan.model.device
    buffers = {"logprob": host_buffer((n_prompts, n_kept), torch.float32, device)}
    for site, taps in plan.taps.items():
        n_neurons = len(plan.neurons(site))
        buffers[f"{site}/sums"] = host_buffer((len(taps), 4, n_prompts, n_neurons), torch.float32, device)
        if plan.settings.keep == "full":
            shape = (len(taps), n_prompts, n_kept, n_neurons)
            buffers[f"{site}/cube"] = host_buffer(shape, DTYPES[dtype], device)
    return buffers


def run_unit(plan: Plan, prompts: slice, batch_tokens: int, buffers: Buffers, transfer: Transfer) -> Unit:
    """Run the prompts of a unit; the copies to the host are under way when this returns."""
    n_prompts = prompts.stop - prompts.start
    tokens = plan.prompts[prompts]
    labels = _empty_labels(plan, prompts)
    slabs = {}
    for site in plan.taps:
        cube = buffers.get(f"{site}/cube")
        sums = _in_one_piece(buffers[f"{site}/sums"], n_prompts)
        slabs[site] = Slab(plan.settings.neurons, sums, None if cube is None else cube[:, :n_prompts])
    unit = Unit(labels, slabs, buffers["logprob"][:n_prompts].fill_(torch.nan))
    if plan.has_logprob:
        labels["logprob"] = unit.logprob.numpy()  # filled later
    on_device = unit.logprob if plan.model.device.type == "cpu" else unit.logprob.to(plan.model.device)

    def run(rows: npt.NDArray[np.int64]) -> None:
        if plan.settings.selection.is_generated:
            _generate(plan, unit, tokens, rows, prompts.start, on_device)
        else:
            _prefill(plan, unit, tokens, rows, on_device)

    groups = batches(plan.lengths(tokens.n_tokens), batch_tokens, plan.settings.batch_size)
    unit.counts["split_batches"] = run_fitting(groups, run, plan.model.device)
    copies = [pair for slab in slabs.values() for pair in slab.hand_over()]
    if on_device is not unit.logprob:
        copies.append((on_device, unit.logprob))
    unit.wait = transfer.begin(copies)
    return unit


def _in_one_piece(sums: torch.Tensor, n_prompts: int) -> torch.Tensor:
    """Room for the sums of so many prompts, without gaps: a GPU copies into it without waiting."""
    n_layers, n_sums, _, n_neurons = sums.shape
    shape = (n_layers, n_sums, n_prompts, n_neurons)
    return sums.flatten()[: math.prod(shape)].view(shape)


def _empty_labels(plan: Plan, prompts: slice) -> dict[str, npt.NDArray[Any]]:
    table = plan.paradigm.table.iloc[prompts]
    labels = {str(c): table[c].to_numpy() for c in table}
    shape = (len(table), int(plan.kept_tokens.max()))
    for name in ("token_id", "position", "char_start", "char_end"):
        labels[name] = np.full(shape, -1, dtype=np.int32)
    labels["generated"] = np.zeros(shape, dtype=bool)
    if plan.settings.selection.is_generated:
        labels["completion"] = np.full(len(table), "", dtype=object)
    return labels


def _prefill(
    plan: Plan, unit: Unit, tokens: Tokens, rows: npt.NDArray[np.int64], logprob: torch.Tensor
) -> None:
    """Read one batch of prompts, and keep what was chosen of their tokens."""
    positions = [plan.settings.selection.positions(int(n)) for n in tokens.n_tokens[rows]]
    kept = Kept.of(rows, positions)
    with captured(plan.taps, unit.slabs, kept):
        scores = read(plan.model, tokens.token_id[rows], logprob=plan.has_logprob)
    for i, (row, places) in enumerate(zip(rows, positions, strict=True)):
        n = len(places)
        unit.labels["token_id"][row, :n] = tokens.token_id[row, places]
        unit.labels["char_start"][row, :n] = tokens.char_start[row, places]
        unit.labels["char_end"][row, :n] = tokens.char_end[row, places]
        unit.labels["position"][row, :n] = places
        if plan.has_logprob:
            where = slice(None, n) if n == places[-1] + 1 else torch.from_numpy(places).to(scores.device)
            logprob[row, :n] = scores[i, where]


def _generate(
    plan: Plan,
    unit: Unit,
    tokens: Tokens,
    rows: npt.NDArray[np.int64],
    first: int,
    logprob: torch.Tensor,
) -> None:
    """Let the model continue one batch of prompts, and keep its own tokens."""
    generation = Generation(
        plan.model, tokens.token_id[rows], (rows + first).tolist(), plan.settings.sampling
    )
    collected = Collected(plan.taps, len(rows))
    with collected.listening():
        while not generation.is_over:
            generation.step()
    written = generation.result()
    n_new = (written.token_id != -1).sum(axis=1)
    collected.hand_over(unit.slabs, Kept.of(rows, [np.arange(n) for n in n_new]))
    for i, (row, n) in enumerate(zip(rows, n_new, strict=True)):
        unit.labels["token_id"][row, :n] = written.token_id[i, :n]
        unit.labels["position"][row, :n] = tokens.n_tokens[row] + np.arange(n)
        unit.labels["generated"][row, :n] = True
        text = plan.model.tokenizer.decode(written.token_id[i, :n].tolist(), skip_special_tokens=True)
        unit.labels["completion"][row] = text
        if plan.has_logprob:
            logprob[row, :n] = torch.from_numpy(written.logprob[i, :n]).to(logprob.device)


def finish(unit: Unit, *, clip: bool) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Wait for a unit, finish its moments and blank its padding: labels, activations, moments.

    Parameters
    ----------
    unit
        From `run_unit`; its counts are completed.
    clip
        Keep what float16 cannot hold at its limit; otherwise it is an error.

    Raises
    ------
    Float16OverflowError
        There is such a value, and it must not be clipped.
    """
    unit.wait()
    labels = unit.labels
    labels["n_tokens"] = n_tokens = (labels["token_id"] != -1).sum(axis=1)
    activations, moments = {}, {}
    unit.counts |= {"clipped": 0, "nonfinite": 0}
    for site, slab in unit.slabs.items():
        moments[site] = moments_of(slab.sums.numpy(), n_tokens)
        if slab.cube is not None:
            cube = slab.cube.numpy()
            for prompt, n in enumerate(n_tokens):
                cube[:, prompt, n:] = np.nan
            activations[site] = np.moveaxis(cube, 0, 2)
        odd = np.flatnonzero(~_is_finite(moments[site]).all(axis=(1, 2)))
        if len(odd):
            _mend(unit.counts, moments[site], activations.get(site), odd, n_tokens, clip=clip)
    return labels, activations, moments


def _is_finite(moments: dict[str, npt.NDArray[Any]]) -> npt.NDArray[np.bool_]:
    """Where the moments are numbers; a square may be beyond float32 though the value is not."""
    return np.asarray(np.isfinite(moments["mean_abs"]) & np.isfinite(moments["m2"]))


def _mend(
    counts: dict[str, int],
    moments: dict[str, npt.NDArray[Any]],
    activation: npt.NDArray[Any] | None,
    prompts: npt.NDArray[np.int64],
    n_tokens: npt.NDArray[np.int64],
    *,
    clip: bool,
) -> None:
    """Count what is not finite in some prompts, and clip what only float16 could not hold."""
    if activation is None:
        counts["nonfinite"] += int((~_is_finite(moments)[prompts]).sum())
        return
    for prompt in prompts:
        rows = activation[prompt, : n_tokens[prompt]]
        infinite = np.isinf(rows)
        if rows.dtype == np.float16 and infinite.any():
            if not clip:
                raise Float16OverflowError
            counts["clipped"] += int(infinite.sum())
            rows[infinite] = np.sign(rows[infinite]) * FLOAT16_MAX
        counts["nonfinite"] += int((~np.isfinite(rows)).sum())
        with np.errstate(invalid="ignore"):  # they are counted
            mended = masked_moments(rows[None], np.ones((1, len(rows)), dtype=bool))
        for name in ("mean", "m2", "mean_abs"):
            moments[name][prompt] = mended[name][0]
