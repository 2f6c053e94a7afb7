"""Recording: a model is shown a paradigm, and its activations become a recording, unit by unit."""

import operator
import os
import sys
import time
import warnings
from collections.abc import Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np
import xarray as xr
from tqdm import tqdm

from ..store.archive import open as open_recording
from ..store.errors import InputError, InputTypeError
from ..store.location import Location
from ..store.paradigm import Paradigm, as_paradigm
from ..store.provenance import library_versions, now
from ..store.writer import RecordingWriter
from .forecast import Forecast, Probe, size
from .forward import Sampling
from .models import ModelLike, load_model
from .plan import Keep, Plan, Settings, Sites, numbers, site_names
from .tokens import Prompting, Selection, SpecialTokens
from .units import Float16OverflowError, Unit, finish, make_buffers, run_unit
from .writing import Background, Buffers, Threads, Transfer

Part = tuple[int, int]

_POLL_SECONDS = 0.5
_PATIENCE_SECONDS = 900.0  # for the process that begins the recording: it may have to load a large model


def record(
    model: ModelLike,
    paradigm: Paradigm | str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    sites: Sites = ("mlp",),
    layers: Sequence[int] | None = None,
    neurons: Sequence[int] | None = None,
    tokens: str = "prompt",
    max_new_tokens: int = 20,
    temperature: float = 0.0,
    top_p: float = 1.0,
    chat: bool = False,
    special_tokens: SpecialTokens = "tokenizer",
    truncate: int | None = None,
    logprob: bool = True,
    keep: Keep = "full",
    batch_size: int | None = None,
    dtype: str | None = None,
    device: str | None = None,
    trust_remote_code: bool = False,
    part: Part | None = None,
    seed: int = 0,
    resume: bool = True,
    progress: bool | None = None,
) -> xr.Dataset:
    """Show a paradigm to a model and keep its activations.

    An interrupted run goes on where it stopped when the same command is given again; a finished
    one is opened at once.

    Parameters
    ----------
    model
        ``"demo"``, a Hugging Face id, a local folder, a loaded module, (module, tokenizer), or what
        `load_model` gives.
    paradigm
        What to show, the path of its YAML, or the name of one that ships with Actome.
    out
        Where the recording goes: ``NAME.zarr``.
    sites
        Places in the network, keys of ``store.schema.SITES``; or a mapping from them to modules
        named by hand, such as ``{"mlp": "model.layers.{}.mlp.down_proj"}``.
    layers, neurons
        Which ones; all by default.
    tokens
        "prompt"; "last"; a slice of each prompt's tokens as Python writes it ("1:" without the first,
        "::4", "2:10"); or "generated": the tokens with which the model goes on, as it reads them.
    max_new_tokens, temperature, top_p
        Of generated tokens: the most a prompt, what divides the logits (0 takes the likeliest token),
        and the probability that the drawn tokens have together.
    chat
        Show each text in the tokenizer's chat template.
    special_tokens
        "tokenizer": as it adds them by itself; "bos": also the begin-of-sequence token; "none".
    truncate
        Keep this many tokens of a prompt; by default a prompt beyond the model's context is refused.
    logprob
        Keep the log probability of each token. Without it the language-model head is not run.
    keep
        "full": every activation. "summary": the moments of each prompt alone.
    batch_size
        Prompts in a forward pass; by default as many as the memory and the device suggest. A batch
        that does not fit after all is halved.
    dtype
        Type in the store: "float16" or "float32"; by default float16, unless a value comes near its
        limit.
    device
        Where the model runs; by default the GPU where there is one; "auto" spreads it over all.
    trust_remote_code
        Run the code that a model brings with it.
    part
        (k, n): this process is the k-th of n, from 0, that record one archive together. Each takes
        every n-th unit, the last to end finalises; the one with k = 0 begins.
    seed
        Decides the tokens that are drawn.
    resume
        False refuses a path that holds a recording already.
    progress
        Show the forecast and a progress bar; by default only on a terminal.

    Returns
    -------
    Dataset
        As ``actome.open(out, site=sites[0])`` gives it.

    Warns
    -----
    UserWarning
        Values were clipped to what float16 holds, as dtype="float16" asks for; or the model gave
        values that are not finite. The numbers of both stay with the recording. Or a recording that
        chose float16 by itself met a larger value, and was begun again in float32.

    Raises
    ------
    InputError, InputTypeError
        An argument that does not fit the model, a path that cannot be written, a disk that cannot
        hold the recording, one that another process is making, or one at `out` that was made with
        another model, tokenizer, paradigm or setting; the message names what differs.
    MissingFileError
        There is no such model or paradigm.
    """
    settings = Settings(
        sites=site_names(sites),
        layers=numbers(layers, "layers"),
        neurons=numbers(neurons, "neurons"),
        selection=Selection.of(tokens),
        sampling=Sampling(max_new_tokens, temperature, top_p, seed),
        prompting=Prompting(chat, special_tokens, truncate),
        keep=keep,
        logprob=logprob,
        batch_size=batch_size,
        dtype=dtype,
    )
    prepared = prepare(
        model, paradigm, out, settings,
        device=device, trust_remote_code=trust_remote_code, part=part, resume=resume,
    )  # fmt: skip
    shown = sys.stderr.isatty() if progress is None else progress
    if shown and not prepared.is_complete:
        tqdm.write(str(prepared.forecast()), file=sys.stderr)
    return prepared.run(progress=shown)


def prepare(
    model: ModelLike,
    paradigm: Paradigm | str | os.PathLike[str],
    out: str | os.PathLike[str],
    settings: Settings,
    *,
    device: str | None = None,
    trust_remote_code: bool = False,
    part: Part | None = None,
    resume: bool = True,
) -> "Prepared":
    """Check everything and load the model; nothing is written. The arguments are those of `record`."""
    if part is not None:
        part = _checked(part)
    paradigm = as_paradigm(paradigm)
    location = Location.of(out)
    if RecordingWriter.is_allocated(location) and not resume:
        raise InputError(f"{location} holds a recording already; choose another path, or resume=True")
    if not location.exists():
        location.check_new()
    loaded = load_model(model, device=device, trust_remote_code=trust_remote_code)
    with loaded.evaluating():
        return Prepared(Plan(loaded, paradigm, settings), location, part)


def _checked(part: Part) -> Part:
    try:
        k, n = map(operator.index, part)
    except (TypeError, ValueError) as error:
        raise InputTypeError(f"part must be two whole numbers (k, n), got {part!r}") from error
    if not 0 <= k < n:
        raise InputError(f"part must be (k, n) with k from 0 to n - 1, got {part}")
    return k, n


class Prepared:
    """A recording that can begin, or go on.

    Attributes
    ----------
    plan, location
        What is recorded, and where.
    part
        Which share of it this process takes; None for all.
    """

    def __init__(self, plan: Plan, location: Location, part: Part | None = None) -> None:
        self.plan, self.location, self.part = plan, location, part
        self._writer()  # refuses what is there and differs

    def _writer(self) -> RecordingWriter | None:
        """Open what is recorded already, by whomever; it may have come up since the last call."""
        if not RecordingWriter.is_allocated(self.location):
            return None
        writer = RecordingWriter(self.location)
        _check_same(writer, self.plan.inputs)
        return writer

    @cached_property
    def probe(self) -> Probe:
        """What one batch shows of the values and of the time."""
        with self.plan.model.evaluating():
            return Probe.run(self.plan)

    @property
    def is_complete(self) -> bool:
        """Whether every prompt is recorded already."""
        writer = self._writer()
        return writer is not None and not writer.pending()

    def forecast(self, *, timed: bool = True) -> Forecast:
        """Say what the recording will take; without `timed`, not how long."""
        writer = self._writer()
        recorded = np.zeros(len(self.plan.paradigm), dtype=bool)
        if writer is not None:
            recorded[:] = True
            for i in writer.pending():
                recorded[writer.units[i]] = False
        dtype = self._dtype() if writer is None else writer.attrs["provenance"]["storage_dtype"]
        speed = self.probe.tokens_per_second if timed else None
        return Forecast.of(self.plan, self.location, recorded, dtype, speed)

    def _dtype(self) -> str:
        return self.plan.settings.dtype or self.probe.dtype

    def run(self, *, progress: bool = False) -> xr.Dataset:
        """Record what is missing, and open the recording."""
        with self.plan.model.evaluating():
            if self.part is not None and self.part[0] > 0:
                self._wait_for_the_first()
            with self.location.claimed(shared=self.part is not None):
                writer = self._record(progress)
            if not writer.pending():
                with self.location.claimed(wait=True):  # the last parts may end at the same time
                    RecordingWriter(self.location).finalise()
        _warn_of_losses(writer)
        return open_recording(str(self.location), site=next(iter(self.plan.taps)))

    def _record(self, progress: bool) -> RecordingWriter:
        forecast = self.forecast(timed=False)
        if not forecast.fits:
            raise InputError(
                f"the recording needs up to {size(forecast.n_bytes)}, and the disk of {self.location} has "
                f"{size(forecast.free_bytes or 0)} free; choose fewer layers, neurons or tokens, "
                "keep='summary', or another disk"
            )
        writer = self._writer() or self._create(forecast.dtype)
        try:
            self._record_units(writer, progress)
        except Float16OverflowError:
            if self.part is not None:
                raise InputError(
                    f"an activation is larger than float16 holds; remove {self.location} and record again "
                    "with dtype='float32'"
                ) from None
            warnings.warn(
                f"an activation is larger than float16 holds: {self.location} is begun again in float32",
                stacklevel=4,
            )
            writer.discard()
            writer = self._create("float32")
            self._record_units(writer, progress)
        return writer

    def _create(self, dtype: str) -> RecordingWriter:
        plan = self.plan
        provenance = {
            "inputs": plan.inputs,
            "storage_dtype": dtype,
            "batch_tokens": plan.batch_tokens,
            "licence": plan.paradigm.licence,
            "environment": library_versions(),
            "created": now(),
        }
        return RecordingWriter.create(
            self.location,
            labels=plan.labels,
            n_tokens=int(plan.kept_tokens.max()),
            sites=plan.site_specs(dtype),
            token_variables=plan.token_variables,
            provenance=provenance,
            paradigm=plan.paradigm.source,
        )

    def _wait_for_the_first(self) -> None:
        """Wait until another process has begun the recording."""
        begun = time.monotonic()
        while self._writer() is None:
            if time.monotonic() - begun > _PATIENCE_SECONDS:
                raise InputError(
                    f"the part 0 of {self.location} has not begun in {_PATIENCE_SECONDS / 60:.0f} minutes"
                )
            time.sleep(_POLL_SECONDS)

    def _units(self, writer: RecordingWriter) -> list[int]:
        k, n = self.part or (0, 1)
        return [i for i in writer.pending() if i % n == k]

    def _record_units(self, writer: RecordingWriter, progress: bool) -> None:
        """Record this process's units; finished ones are written while the next run."""
        mine = self._units(writer)
        if not mine:
            return
        writer.clear_units(mine)
        provenance = writer.attrs["provenance"]
        dtype, batch_tokens = provenance["storage_dtype"], provenance["batch_tokens"]
        clip = self.plan.settings.dtype == "float16"
        sizes = {i: writer.units[i].stop - writer.units[i].start for i in mine}
        threads, transfer = Threads.beside(self.plan.model.device), Transfer()

        def write(i: int, unit: Unit) -> None:
            labels, activations, moments = finish(unit, clip=clip)
            writer.write_unit(
                i, labels, activations, moments=moments, counts=unit.counts, threads=threads.encoders
            )

        def make() -> Buffers:
            return make_buffers(self.plan, dtype, max(sizes.values()))

        with (
            tqdm(total=sum(sizes.values()), unit="prompt", desc="record", disable=not progress) as bar,
            Background(make, writers=threads.writers) as background,
        ):
            begun = time.perf_counter()
            for i in mine:
                buffers = background.buffers()
                unit = run_unit(self.plan, writer.units[i], batch_tokens, buffers, transfer)
                background.submit(partial(write, i, unit), buffers)
                waited = background.waited / (time.perf_counter() - begun)
                bar.set_postfix_str(f"waiting for the disk {waited:.0%}" if waited > 0.01 else "")
                bar.update(sizes[i])


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


def _warn_of_losses(writer: RecordingWriter) -> None:
    counts = writer.counts()
    if counts.get("clipped"):
        warnings.warn(
            f"{counts['clipped']} activations of {writer.location} are beyond what float16 holds and are "
            "kept as 65504, the largest; record with dtype='float32' to keep them",
            stacklevel=4,
        )
    if counts.get("nonfinite"):
        warnings.warn(
            f"{counts['nonfinite']} activations of {writer.location} are not finite: the model overflows or "
            "holds NaN weights",
            stacklevel=4,
        )
