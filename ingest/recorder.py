"""The recorder: what is there already, what the rest will take, and recording it unit by unit."""

import os
import time
import warnings
from collections.abc import Sequence
from functools import cached_property, partial

import numpy as np
import xarray as xr
from tqdm import tqdm

from ..store.allocate import allocate, discard, is_allocated
from ..store.archive import open_so_far
from ..store.arguments import whole_number
from ..store.errors import InputError, InputTypeError
from ..store.index.build import is_current, write_index
from ..store.location import Location
from ..store.paradigm import Paradigm, as_paradigm
from ..store.provenance import library_versions, now
from ..store.writer import RecordingWriter
from .forecast import Forecast, Probe, size
from .models import ModelLike, load_model
from .plan import Plan, Settings
from .units import Float16OverflowError, Unit, finish, make_buffers, run_unit
from .writing import Background, Buffers, Threads, Transfer

Part = tuple[int, int]

_POLL_SECONDS = 0.5
_PATIENCE_SECONDS = 900.0  # for the process that begins the recording: it may have to load a large model


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
) -> "Recorder":
    """Check everything and load the model; nothing is written. The arguments are those of `record`."""
    if part is not None:
        part = checked_part(part)
    paradigm = as_paradigm(paradigm)
    location = Location.of(out)
    if is_allocated(location) and not resume:
        raise InputError(
            f"{location} holds a recording already; choose another path, or go on with it: resume=True "
            "(--resume)"
        )
    if not location.exists():
        location.check_new()
    loaded = load_model(model, device=device, trust_remote_code=trust_remote_code)
    with loaded.evaluating():
        return Recorder(Plan(loaded, paradigm, settings), location, part)


def checked_part(part: Part) -> Part:
    """Return (k, n) as whole numbers, and refuse what is no part."""
    if not isinstance(part, Sequence) or len(part) != 2:
        raise InputTypeError(f"part must be two whole numbers (k, n), got {part!r}")
    k, n = (whole_number(number, "part", least=0) for number in part)
    if not 0 <= k < n:
        raise InputError(f"part must be (k, n) with k from 0 to n - 1, got {part}")
    return k, n


class Recorder:
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
        if not is_allocated(self.location):
            return None
        writer = RecordingWriter(self.location)
        writer.check_inputs(self.plan.inputs)
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

    def run(self, *, progress: bool = False, index: bool = True) -> xr.Dataset:
        """Record what is missing, index it when all is there, and open the recording."""
        with self.plan.model.evaluating():
            if self.part is not None and self.part[0] > 0:
                self._wait_for_the_first()
            with self.location.claimed(shared=self.part is not None):
                writer = self._record(progress)
            if not writer.pending():
                with self.location.claimed(wait=True):  # the last parts may end at the same time
                    RecordingWriter(self.location).finalise()
                    if index and not is_current(self.location):
                        write_index(self.location, progress=progress)
        writer.warn_of_losses(
            remedy="record with dtype='float32' to keep them",
            cause=": the model overflows or holds NaN weights",
        )
        # of a part, the others may still be at work
        return open_so_far(str(self.location), site=next(iter(self.plan.taps)))

    def _record(self, progress: bool) -> RecordingWriter:
        forecast = self.forecast(timed=False)
        if not forecast.fits:
            raise InputError(
                f"the recording needs up to {size(forecast.n_bytes)}, and the disk of {self.location} has "
                f"{size(forecast.free_bytes or 0)} free; choose fewer layers, neurons or tokens, "
                "keep='summary' (--keep summary), or another disk"
            )
        writer = self._writer() or self._create(forecast.dtype)
        try:
            self._record_units(writer, progress)
        except Float16OverflowError:
            if self.part is not None:
                raise InputError(
                    f"an activation is larger than float16 holds; remove {self.location} and record again "
                    "with dtype='float32' (--dtype float32)"
                ) from None
            warnings.warn(
                f"an activation is larger than float16 holds: {self.location} is begun again in float32",
                stacklevel=4,
            )
            discard(self.location)
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
        allocate(
            self.location,
            labels=plan.labels,
            n_tokens=int(plan.kept_tokens.max()),
            sites=plan.site_specs(dtype),
            token_variables=plan.token_variables,
            provenance=provenance,
            paradigm=plan.paradigm.source,
        )
        return RecordingWriter(self.location)

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
                bar.set_postfix_str(f"writing {waited:.0%}" if waited > 0.01 else "")
                bar.update(sizes[i])
