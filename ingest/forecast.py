"""Before a recording starts: what it will take, from one batch that is run and timed."""

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from ..store.allocate import MOMENTS_BYTES
from ..store.index.build import BYTES_PER_NEURON
from ..store.location import Location
from .batches import batches, run_fitting
from .capture import FLOAT16_MAX, Hook, hooked
from .forward import Generation, read
from .plan import Plan

_MARGIN = 4.0  # another batch may hold values that many times larger
_TOKEN_BYTES = 21  # token_id, position, span, generated, logprob
_PROBE_STEPS = 2


@dataclass(frozen=True)
class Probe:
    """What one batch of the longest prompts showed.

    Attributes
    ----------
    largest
        Largest magnitude of an activation.
    tokens_per_second
        Of the model with nothing written: tokens that it read, or that it generated.
    """

    largest: float
    tokens_per_second: float

    @property
    def dtype(self) -> str:
        """float16, unless the values come within a factor of four of its limit."""
        return "float16" if self.largest < FLOAT16_MAX / _MARGIN else "float32"

    @classmethod
    def run(cls, plan: Plan) -> "Probe":
        """Run the longest prompts, once to warm up and once to look."""
        order = np.argsort(plan.prompts.n_tokens, kind="stable")
        longest = order[-min(len(order), plan.settings.batch_size or 64) :]
        tokens = plan.prompts[longest]
        groups = batches(plan.lengths(tokens.n_tokens), plan.batch_tokens, plan.settings.batch_size)[-1:]
        found = []

        def look(rows: npt.NDArray[np.int64]) -> None:
            found.append(_look(plan, tokens.token_id[rows], longest[rows].tolist()))

        run_fitting(groups, look, plan.model.device)
        return cls(found[-1][0], found[-1][1])


def _look(plan: Plan, token_id: npt.NDArray[np.int32], prompts: list[int]) -> tuple[float, float]:
    largest: list[torch.Tensor] = []

    def hook_of(site: str, layer: int) -> Hook:
        return lambda x: largest.append(x.detach().abs().max().float().cpu())

    def run(token_id: npt.NDArray[np.int32], prompts: list[int]) -> int:
        if not plan.settings.selection.is_generated:
            read(plan.model, token_id, logprob=plan.has_logprob)
            return int((token_id != -1).sum())
        generation = Generation(plan.model, token_id, prompts, plan.settings.sampling)
        n_steps = min(_PROBE_STEPS, plan.settings.sampling.max_new_tokens)
        for _ in range(n_steps):
            generation.step()
        return len(token_id) * n_steps

    with hooked(plan.taps, hook_of):
        run(token_id[:1], prompts[:1])
        begun = time.perf_counter()
        n = run(token_id, prompts)
        seconds = time.perf_counter() - begun
    return max(map(float, largest)), n / seconds


@dataclass(frozen=True)
class Forecast:
    """What a recording will take.

    Attributes
    ----------
    n_prompts, n_recorded
        Of the paradigm, and those that are there already.
    n_tokens
        That will be kept, of the prompts that are left.
    sites
        Name -> (layers, neurons).
    dtype
        In the store.
    n_bytes
        On disk, at most: compression saves from a few to thirty percent of it.
    index_bytes
        Of the index of every neuron, at most.
    seconds
        At the speed of the model alone; None where it was not timed.
    free_bytes
        On the disk; None where that cannot be known.
    """

    n_prompts: int
    n_recorded: int
    n_tokens: int
    sites: dict[str, tuple[int, int]]
    dtype: str
    keep: str
    n_bytes: int
    index_bytes: int
    seconds: float | None
    free_bytes: int | None

    @classmethod
    def of(
        cls,
        plan: Plan,
        location: Location,
        recorded: npt.NDArray[np.bool_],
        dtype: str,
        tokens_per_second: float | None,
    ) -> "Forecast":
        """Estimate from the plan, which prompts are recorded already (prompt,), and the speed."""
        left = ~recorded
        n_tokens = int(plan.kept_tokens[left].sum())
        sites = {site: (len(taps), len(plan.neurons(site))) for site, taps in plan.taps.items()}
        per_token = np.dtype(dtype).itemsize if plan.settings.keep == "full" else 0
        values = sum(layers * neurons for layers, neurons in sites.values())
        runs = n_tokens if plan.settings.selection.is_generated else int(plan.prompts.n_tokens[left].sum())
        return cls(
            n_prompts=len(recorded),
            n_recorded=int(recorded.sum()),
            n_tokens=n_tokens,
            sites=sites,
            dtype=dtype,
            keep=plan.settings.keep,
            n_bytes=n_tokens * (values * per_token + _TOKEN_BYTES) + int(left.sum()) * values * MOMENTS_BYTES,
            index_bytes=values * BYTES_PER_NEURON if plan.settings.keep == "full" else 0,
            seconds=None if tokens_per_second is None else runs / tokens_per_second,
            free_bytes=_free_bytes(location),
        )

    @property
    def fits(self) -> bool:
        """Whether the disk can hold it."""
        return self.free_bytes is None or self.n_bytes + self.index_bytes <= self.free_bytes

    def __str__(self) -> str:
        """Return some lines for a person to read."""
        there = f", {self.n_recorded} of them recorded already" if self.n_recorded else ""
        what = f"{self.dtype}, with moments" if self.keep == "full" else "moments of each prompt alone"
        free = "unknown" if self.free_bytes is None else size(self.free_bytes)
        lines = [
            f"prompts    {self.n_prompts}{there}",
            f"tokens     {self.n_tokens} to keep",
            *(
                f"{site:<10} {layers} layers x {neurons} neurons"
                for site, (layers, neurons) in self.sites.items()
            ),
            f"kept       {what}",
            f"on disk    at most {size(self.n_bytes)}; free: {free}",
            *([f"index      at most {size(self.index_bytes)}"] if self.index_bytes else []),
        ]
        if self.seconds is not None:
            lines.append(f"time       about {_duration(self.seconds)}, at the speed of the model alone")
        return "\n".join(lines)


def _free_bytes(location: Location) -> int | None:
    if not location.is_local:
        return None
    folder = Path(location.root)
    return shutil.disk_usage(next(p for p in (folder, *folder.parents) if p.exists())).free


def size(n_bytes: float) -> str:
    """Write a number of bytes.

    >>> size(2_500_000)
    '2.5 MB'
    """
    for unit in ("bytes", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.3g} TB"


def _duration(seconds: float) -> str:
    """Write a time.

    >>> _duration(45), _duration(600), _duration(9000)
    ('45 s', '10 min', '2.5 h')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
