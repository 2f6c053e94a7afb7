"""Computing a recording again: random prompts go through the model, and the numbers are compared."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from ..store.arguments import real_number, whole_number
from ..store.errors import InputError, MissingFileError
from ..store.paradigm import Paradigm
from ..store.provenance import library_versions
from .capture import DTYPES
from .comparison import Comparison, Computed
from .forward import Sampling
from .models import LoadedModel, ModelLike, load_model
from .plan import Plan, Settings
from .probe import measure_widths
from .recorded import Recorded
from .sites import Tap
from .tokens import Prompting, Selection
from .units import finish, make_buffers, run_unit
from .verdict import Recomputed, changes, likely_cause
from .writing import Transfer

_PIECE_BYTES = 2**28  # of activations on the host at a time


def recompute(
    path: str | os.PathLike[str],
    *,
    model: ModelLike | None = None,
    n_prompts: int = 20,
    seed: int = 0,
    device: str | None = None,
    tolerance: float | None = None,
) -> Recomputed:
    """Run random prompts of a recording again, and say whether its numbers hold.

    Everything that is needed lies in the recording: its texts, and the settings in its provenance.
    Nothing is written.

    Parameters
    ----------
    path
        A recording that `record` made; also one that is not complete, or was cast, rechunked, merged or
        cut since, where its texts are not hidden.
    model
        What `load_model` takes; by default the model that the provenance names, at its commit. A model
        that is loaded here gets the type in which it was recorded.
    n_prompts
        How many prompts; all where there are fewer.
    seed
        Draws them.
    device
        Where the model runs; by default the GPU where there is one.
    tolerance
        Largest difference allowed between two computations of an activation, relative to its magnitude
        plus the root mean square of its prompt's layer, without the largest sixty-fourth of the neurons
        and without silent ones. By default 1e-4 where the model was recorded in float32, 0.031 in
        float16 and 0.25 in bfloat16 (64 times their spacing): what batches of another size and other
        kernels explain in single values. All values of a prompt's layer together, as a root mean square,
        may use a quarter of that, more where they are few. Where errors average, less is allowed:
        divided by the root of the number of tokens, up to 64, in the moments of a prompt; an eighth in
        log probabilities, relative to their magnitude plus the logarithm of the size of the vocabulary.
        The rounding of the storage type is allowed besides.

    Returns
    -------
    Recomputed
        ``holds``, the agreement of every variable of every site (activations, moments of each prompt,
        log probabilities, tokens), what differs between then and now, and the likely cause.

    Raises
    ------
    InputError, InputTypeError
        `path` is a result, has no recorded prompts, or was imported or saved, so that nothing tells how
        to compute it; its texts are hidden; its tokens were drawn, and its prompts merged or cut; the
        model lacks a module that was recorded; an argument is not allowed.
    DamagedError
        A part of the recording cannot be read.
    MissingFileError
        There is no such recording or model.
    """
    n_prompts = whole_number(n_prompts, "n_prompts", least=1)
    seed = whole_number(seed, "seed", least=0)
    relative = None if tolerance is None else real_number(tolerance, "tolerance")
    if relative is not None and not 0 <= relative < np.inf:
        raise InputError(f"tolerance must be a number of at least 0, got {tolerance}")
    recording = Recorded(path)
    n_there = len(recording.numbers)
    drawn = np.random.default_rng(seed).choice(n_there, min(n_prompts, n_there), replace=False)
    places = np.sort(drawn)
    loaded = _load(model, recording.inputs, device)
    with loaded.evaluating():
        plan = _plan(loaded, recording, places)
        comparison = Comparison(recording, plan, relative)
        for first, piece in _run(plan, recording.storage_dtype):
            for i in range(piece.n_prompts):
                comparison.add(int(places[first + i]), piece, i)
        return _result(recording, plan, comparison)


def _load(model: ModelLike | None, inputs: Mapping[str, Any], device: str | None) -> LoadedModel:
    """Load the model, one that is given by name in the type in which it was recorded."""
    dtype = inputs["compute_dtype"] if inputs["compute_dtype"] in ("float32", "float16", "bfloat16") else None
    if isinstance(model, (str, os.PathLike)):
        return load_model(model, device=device, dtype=dtype)
    if model is not None:
        return load_model(model, device=device)
    name, how = inputs["model"], "give it with model=, or --model on the command line"
    if name == inputs["architecture"]:
        raise InputError(f"the recording was made with a loaded {name} that had no name; {how}")
    try:
        return load_model(name, device=device, revision=inputs["revision"], dtype=dtype)
    except MissingFileError as error:
        raise MissingFileError(f"{error}. Where the model is elsewhere now, {how}") from error


def _plan(model: LoadedModel, recording: Recorded, places: npt.NDArray[np.int64]) -> Plan:
    """Plan some of the prompts as they were recorded, but with every neuron of a layer."""
    inputs = recording.inputs
    sampling = inputs["sampling"] or {"seed": inputs["seed"]}
    settings = Settings(
        sites=dict.fromkeys(recording.moments),
        selection=Selection.of(inputs["tokens"]),
        sampling=_Renumbered(**sampling, numbers=tuple(recording.numbers[places].tolist())),
        prompting=Prompting(inputs["chat"], inputs["special_tokens"], inputs["truncate"]),
        keep=inputs["keep"],
        logprob=inputs["logprob"],
    )
    if inputs["logprob"] and not model.is_causal:
        raise InputError(f"{model.name!r} gives no next token, and the recording has log probabilities")
    taps = {site: _taps(model.module, site, recording.modules(site)) for site in settings.sites}
    for site, found in taps.items():
        last = int(recording.moments[site]["neuron"].max())
        if last >= found[0].width:
            raise InputError(
                f"neuron {last} of site {site!r} was recorded; {model.name!r} has {found[0].width}"
            )
    paradigm = Paradigm(recording.table.iloc[places], name="drawn")
    return Plan(model, paradigm, settings, known_taps=taps)


@dataclass(frozen=True)
class _Renumbered(Sampling):
    """Sampling of some of the prompts, each with the draws of its number in the whole paradigm."""

    numbers: tuple[int, ...] = ()

    def uniforms(self, prompts: Sequence[int]) -> npt.NDArray[np.float64]:
        """Draw one number in [0, 1) for each token of each prompt: (prompt, token)."""
        return super().uniforms([self.numbers[p] for p in prompts])


def _taps(module: nn.Module, site: str, names: Sequence[str]) -> list[Tap]:
    """Find the modules that were recorded, by their names."""
    parts = dict(module.named_modules(remove_duplicate=False))
    missing = [name for name in names if name not in parts]
    if missing:
        raise InputError(
            f"{missing[0]!r} was recorded, and {type(module).__name__} has no such module; give the model of "
            "the recording"
        )
    side: Any = "input" if site == "mlp" else "output"
    widths = measure_widths(module, [(name, parts[name]) for name in names], side)
    return [Tap(name, parts[name], side, width) for name, width in zip(names, widths, strict=True)]


def _run(plan: Plan, dtype: str) -> Iterator[tuple[int, Computed]]:
    """Run the prompts, as many at a time as memory allows: number of the first, and what they gave."""
    n_prompts, n_kept = len(plan.paradigm), int(plan.kept_tokens.max())
    n_values = n_kept * sum(len(taps) * taps[0].width for taps in plan.taps.values())
    step = min(n_prompts, max(1, _PIECE_BYTES // (n_values * DTYPES[dtype].itemsize)))
    buffers = make_buffers(plan, dtype, step)
    for first in range(0, n_prompts, step):
        prompts = slice(first, min(first + step, n_prompts))
        unit = run_unit(plan, prompts, plan.batch_tokens, buffers, Transfer())
        yield first, Computed(*finish(unit, clip=True))


def _result(recording: Recorded, plan: Plan, comparison: Comparison) -> Recomputed:
    now = plan.inputs | {"paradigm_digest": recording.digest or recording.inputs["paradigm_digest"]}
    changed = changes(recording.provenance, {"inputs": now, "environment": library_versions()})
    prompts = tuple(plan.paradigm.table["prompt"])
    found = comparison.other_tokens, list(comparison.agreements.values())
    return Recomputed(
        recording=str(recording.location),
        model=plan.model.name,
        device=str(plan.model.device),
        prompts=prompts,
        tolerance=comparison.tolerance,
        other_tokens=found[0],
        agreements=tuple(found[1]),
        changes=changed,
        cause=likely_cause(changed, prompts, *found, generated=plan.settings.selection.is_generated),
    )
