"""Capture: hooks that put activations where they are kept, and reduce them, while the model runs.

One `Slab` holds one site of one unit. A batch passes through the model once; each hooked module
hands its activations to the slab, which converts them to the storage type, keeps them, and reduces
them to per-prompt sums where they are: on the device, while they are still in its cache.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..store.errors import InputError
from .sites import Tap

Taps = Mapping[str, Sequence[Tap]]  # per site, in the order of its layers
Hook = Callable[[torch.Tensor], None]

FLOAT16_MAX = float(np.finfo(np.float16).max)
DTYPES = {"float16": torch.float16, "float32": torch.float32}


@dataclass(frozen=True)
class Kept:
    """Which tokens of a batch are kept, and where they go in the unit.

    Attributes
    ----------
    rows
        (batch,): place of each prompt in the unit.
    positions
        (batch, kept): which of its tokens, right-padded with -1.
    """

    rows: npt.NDArray[np.int64]
    positions: npt.NDArray[np.int64]
    _tensors: dict[torch.device, "_OnDevice"] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def of(cls, rows: npt.NDArray[np.int64], positions: Sequence[npt.NDArray[np.int64]]) -> "Kept":
        """Pad the kept positions of each prompt to the same number."""
        out = np.full((len(rows), max(map(len, positions))), -1, dtype=np.int64)
        for row, places in zip(out, positions, strict=True):
            row[: len(places)] = places
        return cls(rows, out)

    @property
    def n_tokens(self) -> npt.NDArray[np.int64]:
        """Kept tokens of each prompt: (batch,)."""
        return np.asarray((self.positions >= 0).sum(axis=1))

    def on(self, device: torch.device) -> "_OnDevice":
        """Return the same as tensors; made once a device."""
        if device not in self._tensors:
            self._tensors[device] = _OnDevice(self, device)
        return self._tensors[device]


class _OnDevice:
    """What `Kept` says, as tensors.

    Attributes
    ----------
    parts
        What is kept and reduced at a time: prompts of the batch, and their places in the unit.
    n_kept
        Most tokens kept of a prompt.
    valid, n_tokens
        (batch, kept, 1), None where nothing is padding; (batch, 1).
    """

    def __init__(self, kept: Kept, device: torch.device) -> None:
        rows, positions = kept.rows, kept.positions
        self.n_kept = positions.shape[1]
        self.parts: list[tuple[slice, Any]] = []
        if device.type == "cpu":  # what is reduced stays in the cache: several times faster
            self.parts += [(slice(i, i + 1), slice(row, row + 1)) for i, row in enumerate(rows)]
        else:
            in_a_row = np.array_equal(rows, np.arange(rows[0], rows[0] + len(rows)))
            places = slice(rows[0], rows[0] + len(rows)) if in_a_row else _to(rows, device)
            self.parts.append((slice(None), places))
        from_the_first = (
            np.array_equal(positions.max(axis=0), np.arange(self.n_kept))
            and ((positions == -1) | (positions == np.arange(self.n_kept))).all()
        )
        self._place = None if from_the_first else _to(positions.clip(min=0), device)
        self._batch = torch.arange(len(rows), device=device)[:, None]
        complete = (positions >= 0).all()
        self.valid = None if complete else _to(positions[:, :, None] >= 0, device)
        self.n_tokens = _to(kept.n_tokens[:, None].astype(np.float32), device)

    def pick(self, x: torch.Tensor) -> torch.Tensor:
        """Take the kept tokens: (batch, token, neuron) -> (batch, kept, neuron)."""
        return x[:, : self.n_kept] if self._place is None else x[self._batch, self._place]


def _to(values: npt.NDArray[Any], device: torch.device) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values)).to(device, non_blocking=True)


class Slab:
    """One site of one unit.

    Parameters
    ----------
    neurons
        Which are kept; None for all.
    sums
        (layer, 4, prompt, neuron) float32 on the host: per neuron the mean, the sum and the sum of
        squares of the deviations from it, the sum of magnitudes.
    cube
        (layer, prompt, token, neuron) on the host, in the storage type; None keeps the sums alone.
        Padding holds anything.
    """

    def __init__(
        self, neurons: Sequence[int] | None, sums: torch.Tensor, cube: torch.Tensor | None = None
    ) -> None:
        self.sums, self.cube = sums, cube
        self._neurons = None if neurons is None else torch.tensor(neurons)
        self._on_device: dict[tuple[str, int], torch.Tensor] = {}

    def keep(self, layer: int, x: torch.Tensor, batch: Kept) -> None:
        """Take the activations of one batch in one layer: (batch, token, width)."""
        kept = batch.on(x.device)
        x = by_prompt(x, len(batch.rows))
        x = kept.pick(x if self._neurons is None else x[..., self._neurons.to(x.device)])
        sums = self._place("sums", self.sums, layer, x.device)
        cube = None if self.cube is None else self._place("cube", self.cube, layer, x.device)
        for part, places in kept.parts:
            values = x[part]
            if cube is not None:
                values = values.to(cube.dtype)
                cube[places, : x.shape[1]] = values
            valid = None if kept.valid is None else kept.valid[part]
            sums[:, places] = _sums(values.float(), valid, kept.n_tokens[part])

    def _place(self, name: str, host: torch.Tensor, layer: int, device: torch.device) -> torch.Tensor:
        """Where a layer is put: on the device that runs it, which may be the host."""
        if device.type == "cpu":
            return host[layer]
        if (name, layer) not in self._on_device:
            self._on_device[name, layer] = torch.empty_like(host[layer], device=device)
        return self._on_device[name, layer]

    def hand_over(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Return what has to be copied to the host, (source, target), and forget the sources."""
        hosts = {"cube": self.cube, "sums": self.sums}
        pairs = [
            (there, host[layer])
            for (name, layer), there in self._on_device.items()
            if (host := hosts[name]) is not None
        ]
        self._on_device.clear()
        return pairs


def by_prompt(x: torch.Tensor, n_batch: int) -> torch.Tensor:
    """Return activations as (batch, token, width); OPT flattens prompts and tokens into one axis.

    Raises
    ------
    InputError
        They are laid out in another way.
    """
    if x.ndim == 3 and len(x) == n_batch:
        return x.detach()
    if x.ndim == 2 and len(x) % n_batch == 0:
        return x.detach().reshape(n_batch, -1, x.shape[-1])
    raise InputError(
        f"a hooked module gave activations of shape {tuple(x.shape)} for {n_batch} prompts, expected "
        "(prompt, token, neuron); name other modules"
    )


def _sums(x: torch.Tensor, valid: torch.Tensor | None, n_tokens: torch.Tensor) -> torch.Tensor:
    """Reduce float32 activations (batch, token, neuron) over the valid tokens: (4, batch, neuron).

    Two passes: the deviations are summed too, and correct what the first rounded off (Chan, Golub
    and LeVeque 1983, The American Statistician 37:242-247).
    """
    if valid is not None:
        x = x.masked_fill(~valid, 0.0)
    mean = x.sum(dim=1) / n_tokens
    deviation = x - mean[:, None]
    if valid is not None:
        deviation.masked_fill_(~valid, 0.0)
    magnitude = x.abs().sum(dim=1)
    return torch.stack([mean, deviation.sum(dim=1), deviation.square_().sum(dim=1), magnitude])


def moments_of(sums: npt.NDArray[np.float32], n_tokens: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[Any]]:
    """Finish per-prompt moments in float64.

    Parameters
    ----------
    sums
        (layer, 4, prompt, neuron), as `Slab` adds them up.
    n_tokens
        (prompt,), at least 1.

    Returns
    -------
    As `store.moments.masked_moments` gives them.
    """
    mean, first, second, magnitude = np.moveaxis(sums.astype(np.float64), (1, 2), (0, 1))
    n = n_tokens[:, None, None]
    return {
        "count": n_tokens,
        "mean": mean + first / n,
        "m2": np.maximum(second - first**2 / n, 0.0),
        "mean_abs": magnitude / n,
    }


@contextmanager
def captured(taps: Taps, slabs: dict[str, Slab], kept: Kept) -> Iterator[None]:
    """Send what the taps see in one forward pass to the slabs.

    Raises
    ------
    InputError
        A module did not run exactly once, so that what the slabs hold is not one pass.
    """
    runs: Counter[tuple[str, int]] = Counter()

    def hook_of(site: str, layer: int) -> Hook:
        def hook(x: torch.Tensor) -> None:
            runs[site, layer] += 1
            slabs[site].keep(layer, x, kept)

        return hook

    with hooked(taps, hook_of):
        yield
    _check_runs(taps, runs)


def _check_runs(taps: Taps, runs: Counter[tuple[str, int]]) -> None:
    for site, listed in taps.items():
        for layer, tap in enumerate(listed):
            if runs[site, layer] != 1:
                raise InputError(
                    f"module {tap.name!r} ran {runs[site, layer]} times in one forward pass, expected once; "
                    "leave its layer out, or name other modules"
                )


@contextmanager
def hooked(taps: Taps, hook_of: Callable[[str, int], Hook]) -> Iterator[None]:
    """Listen at taps as long as the ``with`` block lasts, each with the hook of its site and place in it."""
    handles = []
    try:
        for site, listed in taps.items():
            handles += [tap.hook(hook_of(site, layer)) for layer, tap in enumerate(listed)]
        yield
    finally:
        for handle in handles:
            handle.remove()


class Collected:
    """Activations of tokens that come one at a time, kept until their number is known."""

    def __init__(self, taps: Taps, n_batch: int) -> None:
        self._taps, self._n_batch = taps, n_batch
        self._steps: dict[tuple[str, int], list[torch.Tensor]] = {
            (site, i): [] for site, listed in taps.items() for i in range(len(listed))
        }

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Collect what the taps see as long as the ``with`` block lasts."""

        def hook_of(site: str, layer: int) -> Hook:
            def hook(x: torch.Tensor) -> None:  # a copy: Falcon adds to the MLP's output in place
                self._steps[site, layer].append(by_prompt(x, self._n_batch).clone())

            return hook

        with hooked(self._taps, hook_of):
            yield

    def hand_over(self, slabs: dict[str, Slab], kept: Kept) -> None:
        """Give everything to the slabs."""
        n_steps = max(map(len, self._steps.values()))
        silent = [self._taps[s][i].name for (s, i), steps in self._steps.items() if len(steps) < n_steps]
        if silent or not n_steps:
            raise InputError(f"modules {silent[:5]} did not run for every token; leave their layers out")
        for (site, layer), steps in self._steps.items():
            slabs[site].keep(layer, torch.cat(steps, dim=1), kept)
            steps.clear()
