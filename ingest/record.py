"""Recording: a model is shown a paradigm, and its activations become a recording, unit by unit."""

import os
import warnings
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr
from tqdm import tqdm

from ..store.archive import open as open_recording
from ..store.errors import InputError, InputTypeError
from ..store.location import Location
from ..store.paradigm import Paradigm, as_paradigm
from ..store.provenance import library_versions, now
from ..store.writer import RecordingWriter, SiteSpec
from .models import LoadedModel, ModelLike, load_model
from .sites import Tap, find_taps
from .tokens import Tokens, batches, score_tokens, tokenize

_TOKEN_VARIABLES = ("token_id", "char_start", "char_end", "generated", "logprob")
_FLOAT16_MAX = float(np.finfo(np.float16).max)
_DTYPES = {"float16": torch.float16, "float32": torch.float32}


def record(
    model: ModelLike,
    paradigm: Paradigm | str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    sites: Sequence[str] = ("mlp",),
    layers: Sequence[int] | None = None,
    neurons: Sequence[int] | None = None,
    batch_size: int | None = None,
    dtype: str | None = None,
    device: str | None = None,
    seed: int = 0,
    resume: bool = True,
    progress: bool | None = None,
) -> xr.Dataset:
    """Show a paradigm to a model and keep the activations of every prompt token.

    An interrupted run goes on where it stopped when the same command is given again; a finished
    one is opened at once.

    Parameters
    ----------
    model
        ``"demo"``, a Hugging Face id, a local folder, a loaded module, or (module, tokenizer).
    paradigm
        What to show, or the path of its YAML.
    out
        Where the recording goes: ``NAME.zarr``.
    sites
        Places in the network, keys of ``store.schema.SITES``.
    layers, neurons
        Which ones; all by default.
    batch_size
        Prompts in a forward pass; by default as many as make some 4,000 tokens.
    dtype
        Type in the store: "float16" or "float32"; by default float16, unless the first batch holds
        values near its limit.
    device
        Where the model runs; by default the GPU where there is one.
    seed
        Kept in the provenance; recording a prompt's own tokens draws nothing.
    resume
        False refuses a path that holds a recording already.
    progress
        Show a progress bar; by default only on a terminal.

    Returns
    -------
    Dataset
        As ``actome.open(out, site=sites[0])`` gives it.

    Warns
    -----
    UserWarning
        Values were clipped to what the store's type holds, or the model gave values that are not
        finite. The numbers of both stay with the recording.

    Raises
    ------
    InputError
        An argument that does not fit the model, a path that cannot be written, or a recording at
        `out` that was made with another model, tokenizer, paradigm or setting; the message names
        what differs.
    MissingFileError
        There is no such model or paradigm.
    """
    if dtype is not None and dtype not in _DTYPES:
        raise InputError(f"dtype must be one of {list(_DTYPES)} or None, got {dtype!r}")
    if batch_size is not None and batch_size < 1:
        raise InputError(f"batch_size must be at least 1, got {batch_size}")
    if isinstance(sites, str):
        raise InputTypeError(f"sites must be a sequence of names, such as ({sites!r},), got a text")
    if not sites:
        raise InputError("sites must name at least one place in the network, got none")
    paradigm = as_paradigm(paradigm)
    location = Location.of(out)
    if RecordingWriter.is_allocated(location) and not resume:
        raise InputError(f"{location} holds a recording already; choose another path, or resume=True")
    if not location.exists():
        location.check_new()
    loaded = load_model(model, device=device)
    tokens = tokenize(loaded, paradigm.table)
    plan = _Plan(
        loaded,
        paradigm,
        tokens,
        {site: _choose_taps(loaded, site, layers) for site in sites},
        neurons if neurons is None else tuple(int(n) for n in neurons),
        batch_size,
    )
    inputs = plan.inputs(seed=seed, dtype=dtype)
    there = RecordingWriter.is_allocated(location)
    with loaded.evaluating():
        writer = RecordingWriter(location) if there else _create(location, plan, inputs, dtype)
        _check_same(writer, inputs)
        _record_units(plan, writer, progress)
    writer.finalise()
    _warn_of_losses(writer)
    return open_recording(str(location), site=sites[0])


@dataclass(frozen=True)
class _Plan:
    """What is recorded from what."""

    model: LoadedModel
    paradigm: Paradigm
    tokens: Tokens
    taps: dict[str, list[tuple[int, Tap]]]  # site -> (layer, tap)
    neurons: tuple[int, ...] | None
    batch_size: int | None

    def inputs(self, *, seed: int, dtype: str | None) -> dict[str, Any]:
        """Everything that decides the numbers; compared when a recording is resumed."""
        return {
            **self.model.identity(),
            "paradigm": self.paradigm.name,
            "paradigm_digest": self.paradigm.digest,
            "special_tokens": "as the tokenizer adds them",
            "padding_side": "right",
            "device": self.model.device.type,
            "sites": {site: [layer for layer, _ in taps] for site, taps in self.taps.items()},
            "neurons": None if self.neurons is None else list(self.neurons),
            "batch_size": self.batch_size,
            "dtype": dtype or "automatic",
            "seed": seed,
        }

    def neuron_numbers(self, site: str) -> tuple[int, ...]:
        """Neurons kept of a site."""
        return tuple(range(self.taps[site][0][1].width)) if self.neurons is None else self.neurons


def _choose_taps(loaded: LoadedModel, site: str, layers: Sequence[int] | None) -> list[tuple[int, Tap]]:
    taps = find_taps(loaded.module, site)
    chosen = range(len(taps)) if layers is None else layers
    wrong = [i for i in chosen if not 0 <= i < len(taps)]
    if wrong or not len(chosen) or len(set(chosen)) < len(chosen):
        raise InputError(f"layers must be some of 0 to {len(taps) - 1}, each once, got {list(chosen)}")
    return [(int(i), taps[i]) for i in chosen]


def _create(location: Location, plan: _Plan, inputs: dict[str, Any], dtype: str | None) -> RecordingWriter:
    storage = dtype or _fitting_dtype(plan)
    specs = {}
    for site, taps in plan.taps.items():
        width, numbers = taps[0][1].width, plan.neuron_numbers(site)
        wrong = not numbers or min(numbers) < 0 or max(numbers) >= width
        if wrong or len(set(numbers)) < len(numbers):
            got = f"{list(numbers)[:5]} ..." if len(numbers) > 5 else list(numbers)
            raise InputError(
                f"neurons must be some of 0 to {width - 1} at site {site!r}, each once, got {got}"
            )
        specs[site] = SiteSpec(
            tuple(layer for layer, _ in taps), numbers, tuple(tap.name for _, tap in taps), storage
        )
    provenance = {
        "inputs": inputs,
        "storage_dtype": storage,
        "licence": plan.paradigm.licence,
        "environment": library_versions(),
        "created": now(),
    }
    return RecordingWriter.create(
        location,
        labels=plan.paradigm.table,
        n_tokens=plan.tokens.token_id.shape[1],
        sites=specs,
        token_variables=_TOKEN_VARIABLES,
        provenance=provenance,
        paradigm=plan.paradigm.source,
    )


def _check_same(writer: RecordingWriter, inputs: dict[str, Any]) -> None:
    before = writer.attrs.get("provenance", {}).get("inputs", {})
    changed = [k for k in sorted(inputs.keys() | before.keys()) if inputs.get(k) != before.get(k)]
    if changed:
        what = "; ".join(f"{k}: {_short(before.get(k))} there, {_short(inputs.get(k))} now" for k in changed)
        raise InputError(
            f"{writer.location} was recorded differently ({what}); choose another path or remove it"
        )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _fitting_dtype(plan: _Plan) -> str:
    """float16, unless the first batch comes within a factor of four of its limit."""
    rows = batches(plan.tokens.n_tokens, plan.batch_size)[-1]
    largest = 0.0

    def measure(x: torch.Tensor) -> None:
        nonlocal largest
        largest = max(largest, float(x.detach().abs().max()))

    _forward(plan, rows, {site: [measure] * len(taps) for site, taps in plan.taps.items()})
    return "float16" if largest < _FLOAT16_MAX / 4 else "float32"


def _forward(
    plan: _Plan, rows: npt.NDArray[np.int64], hooks: dict[str, list[Any]]
) -> npt.NDArray[np.float32]:
    """Run some prompts with one hook a tapped layer; return their logprob (prompt, token of the batch)."""
    handles = [
        tap.hook(hook)
        for site, taps in plan.taps.items()
        for (_, tap), hook in zip(taps, hooks[site], strict=True)
    ]
    try:
        return score_tokens(plan.model, plan.tokens.token_id[rows])
    finally:
        for handle in handles:
            handle.remove()


def _record_units(plan: _Plan, writer: RecordingWriter, progress: bool | None) -> None:
    """Record what is missing; one unit is written while the next one runs."""
    pending = writer.pending()
    n_prompts = sum(writer.units[i].stop - writer.units[i].start for i in pending)
    hidden = None if progress is None else not progress
    with (
        ThreadPoolExecutor(1) as pool,
        tqdm(total=n_prompts, unit="prompt", desc="record", disable=hidden) as bar,
    ):
        writing: Future[None] | None = None
        for i in pending:
            writer.clear_unit(i)
            labels, activations, counts = _run_unit(plan, writer, i)
            if writing is not None:
                writing.result()
            writing = pool.submit(writer.write_unit, i, labels, activations, counts)
            bar.update(writer.units[i].stop - writer.units[i].start)
        if writing is not None:
            writing.result()


def _warn_of_losses(writer: RecordingWriter) -> None:
    counts = writer.counts()
    if counts.get("clipped"):
        warnings.warn(
            f"{counts['clipped']} activations of {writer.location} are beyond what float16 holds and are "
            f"kept as {_FLOAT16_MAX:.0f}, the largest; record with dtype='float32' to keep them",
            stacklevel=3,
        )
    if counts.get("nonfinite"):
        warnings.warn(
            f"{counts['nonfinite']} activations of {writer.location} are not finite: the model overflows or "
            "holds NaN weights",
            stacklevel=3,
        )


def _run_unit(
    plan: _Plan, writer: RecordingWriter, i: int
) -> tuple[dict[str, npt.NDArray[Any]], dict[str, npt.NDArray[Any]], dict[str, int]]:
    """Run the prompts of a unit into one slab a site: labels, activations, counts."""
    unit = writer.units[i]
    table = plan.paradigm.table.iloc[unit]
    labels = {str(c): table[c].to_numpy() for c in table} | plan.tokens.labels(unit)
    labels["logprob"] = np.full(labels["token_id"].shape, np.nan, dtype=np.float32)
    slabs = {site: _slab(plan, writer, site, unit) for site in plan.taps}
    for rows in batches(labels["n_tokens"], plan.batch_size):
        hooks = {site: _slab_hooks(plan, site, slab, rows) for site, slab in slabs.items()}
        logprob = _forward(plan, rows + unit.start, hooks)
        labels["logprob"][rows, : logprob.shape[1]] = logprob
    padding = torch.from_numpy(labels["token_id"] == -1)
    counts = {"clipped": 0, "nonfinite": 0}
    for slab in slabs.values():
        _count_and_clip(slab, padding.to(slab.device), counts)
    return labels, {site: slab.cpu().numpy() for site, slab in slabs.items()}, counts


def _slab(plan: _Plan, writer: RecordingWriter, site: str, unit: slice) -> torch.Tensor:
    """One buffer (prompt, token, layer, neuron) on the device, in the type of the store."""
    storage = _DTYPES[writer.attrs["provenance"]["storage_dtype"]]
    shape = (
        unit.stop - unit.start,
        plan.tokens.token_id.shape[1],
        len(plan.taps[site]),
        len(plan.neuron_numbers(site)),
    )
    return torch.full(shape, torch.nan, dtype=storage, device=plan.model.device)


def _slab_hooks(plan: _Plan, site: str, slab: torch.Tensor, rows: npt.NDArray[np.int64]) -> list[Any]:
    where = torch.from_numpy(rows).to(slab.device)
    neurons = None if plan.neurons is None else torch.tensor(plan.neurons, device=slab.device)

    def hook_of(position: int) -> Any:
        def keep(x: torch.Tensor) -> None:
            x = x.reshape(len(rows), -1, x.shape[-1])  # OPT flattens prompts and tokens into one axis
            x = x if neurons is None else x[..., neurons]
            slab[where, : x.shape[1], position] = x.to(slab.dtype)

        return keep

    return [hook_of(position) for position in range(slab.shape[2])]


def _count_and_clip(slab: torch.Tensor, padding: torch.Tensor, counts: dict[str, int]) -> None:
    """Keep what float16 cannot hold at its limit, count it and what is not finite; blank the padding."""
    slab[padding] = torch.nan
    infinite = torch.isinf(slab)
    n_infinite = int(infinite.sum())
    counts["nonfinite"] += int(torch.isnan(slab).sum()) - int(padding.sum()) * slab.shape[2] * slab.shape[3]
    if slab.dtype == torch.float16:
        counts["clipped"] += n_infinite
        slab[infinite] = torch.sign(slab[infinite]) * _FLOAT16_MAX
    else:
        counts["nonfinite"] += n_infinite
