"""The state of a training that was interrupted, kept as safetensors beside its result."""

import json
import time
from collections.abc import Mapping
from typing import Any

import numpy.typing as npt
import torch
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from ...store.location import Location
from .freezing import Free

_FOLDER = "actome/checkpoint"
_SECONDS = 60.0  # from one to the next: a training that is shorter needs none
Seen = Mapping[str, npt.NDArray[Any]]


class Checkpoint:
    """What one arm of a training goes on from: the values that it trains, AdamW's moments, what was seen.

    No random number is drawn but by the batches, which the seed and the step decide. One file a parameter
    is written, then the one that names the step: it always names a checkpoint that is whole. Another
    one is only made a minute later.

    Parameters
    ----------
    location
        The result.
    arm
        Its name.
    """

    def __init__(self, location: Location, arm: str) -> None:
        self._location, self._arm = location, arm
        self._saved = time.monotonic()

    def save(self, step: int, free: Free, optimiser: torch.optim.Optimizer, seen: Seen) -> None:
        """Keep the state before an update, where the last one was kept long enough ago.

        Parameters
        ----------
        step
            Updates that were made.
        free, optimiser
            What is trained, and by what.
        seen
            Numbers that were collected on the way.
        """
        if time.monotonic() - self._saved < _SECONDS:
            return
        for i, (p, _) in enumerate(free):
            held = {"value": p.detach(), **optimiser.state[p]}
            content = save_tensors({name: value.contiguous().cpu() for name, value in held.items()})
            self._location.write(self._key(step, str(i)), content)
        self._location.write(self._key(step, "seen"), save_arrays(dict(seen)))
        self._location.write(self._last, json.dumps({"step": step}).encode())
        current = {self._key(step, name) for name in (*map(str, range(len(free))), "seen")}
        for key in set(self._keys()) - current - {self._last}:
            self._location.remove(key)
        self._saved = time.monotonic()

    def load(self, free: Free, optimiser: torch.optim.Optimizer) -> tuple[int, Seen]:
        """Put values and moments as they were; return the step and what was seen, (0, {}) without any."""
        if not self._location.exists(self._last):
            return 0, {}
        step = int(json.loads(self._location.read(self._last))["step"])
        with torch.no_grad():
            for i, (p, _) in enumerate(free):
                held = load_tensors(self._location.read(self._key(step, str(i))))
                p.copy_(held.pop("value"))
                # the count of steps stays on the host, as AdamW has it
                optimiser.state[p] = {n: v.to(p.device) if v.ndim else v for n, v in held.items()}
        return step, load_arrays(self._location.read(self._key(step, "seen")))

    def remove(self) -> None:
        """Remove what is there of this arm: it is finished."""
        for key in sorted(self._keys(), key=lambda key: key != self._last):
            self._location.remove(key)

    @property
    def _last(self) -> str:
        return f"{_FOLDER}/{self._arm}.json"

    def _key(self, step: int, name: str) -> str:
        return f"{_FOLDER}/{self._arm}-{step}/{name}.safetensors"

    def _keys(self) -> list[str]:
        start = f"{_FOLDER}/{self._arm}"
        return [key for key in self._location.keys(_FOLDER) if key.startswith((f"{start}-", f"{start}."))]
