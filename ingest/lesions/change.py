"""The change itself: hooks that give some neurons other values, for one lesion or several side by side."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr

from ...store.provenance import digest_pieces
from ..sites import Tap
from .draws import Draws
from .kinds import Kind
from .reference import Pool, mean_activation, rounded_bytes, standard_deviation, token_pool

Bool = npt.NDArray[np.bool_]
Hook = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Change:
    """What happens to a neuron.

    Attributes
    ----------
    kind
        As for `actome.lesion`.
    mean, sd
        (layer, neuron) of the reference, where the kind puts them in.
    pool
        Tokens of the reference, for "resample".
    """

    kind: Kind
    mean: npt.NDArray[np.float64] | None = None
    sd: npt.NDArray[np.float64] | None = None
    pool: Pool | None = None
    _on_device: dict[tuple[str, int, torch.device, torch.dtype], torch.Tensor] = field(
        default_factory=dict, init=False, repr=False
    )

    @classmethod
    def of(
        cls, kind: Kind, reference: xr.Dataset | None, shape: tuple[int, int], site: str, seed: int
    ) -> "Change":
        """Take what a kind needs from the reference; `check_kind` has passed it."""
        if reference is None or kind not in ("mean", "noise", "resample"):
            return cls(kind)
        if kind == "resample":
            return cls(kind, pool=token_pool(reference, shape, site, seed))
        mean = mean_activation(reference, shape, site)
        return cls(kind, mean, standard_deviation(reference, shape, site) if kind == "noise" else None)

    def digest(self) -> str:
        """Digest of all that is taken from the reference."""
        return digest_pieces(self._pieces())

    def _pieces(self) -> Iterator[bytes]:
        for moments in (self.mean, self.sd):
            if moments is not None:
                yield rounded_bytes(moments)
        if self.pool is not None:
            yield "\0".join(self.pool.prompt.tolist()).encode()
            yield from (token.astype("<f4").tobytes() for token in self.pool.values)

    def values(self, x: torch.Tensor, layer: int, amount: torch.Tensor | None, draws: Draws) -> torch.Tensor:
        """Return what neurons become: (lesion, row, neuron), or what stretches to it.

        Parameters
        ----------
        x
            (lesion, row, neuron): the activations; a row is a token of a prompt.
        layer
            Its number.
        amount
            (lesion, 1, 1), where the kind takes one.
        draws
            Random numbers for the rows.
        """
        if self.kind == "zero":
            return torch.zeros((), dtype=x.dtype, device=x.device)
        if self.kind == "scale" and amount is not None:
            return x * amount
        if self.kind == "add" and amount is not None:
            return x + amount
        if self.kind == "mean" and self.mean is not None:
            return self._row("mean", self.mean, layer, x)
        if self.kind == "resample" and self.pool is not None:
            donors = draws.donors(layer, x.shape[1], self.pool)
            return torch.from_numpy(self.pool.values[donors, layer]).to(x)
        noise = torch.from_numpy(draws.normal(layer, *x.shape[1:])).to(x)
        if self.mean is None or self.sd is None:
            return x + noise * (1.0 if amount is None else amount)
        noise = noise * self._row("sd", self.sd, layer, x)
        return self._row("mean", self.mean, layer, x) + (noise if amount is None else noise * amount)

    def _row(self, name: str, values: npt.NDArray[np.float64], layer: int, x: torch.Tensor) -> torch.Tensor:
        key = (name, layer, x.device, x.dtype)
        if key not in self._on_device:
            self._on_device[key] = torch.from_numpy(values[layer]).to(x)
        return self._on_device[key]


@dataclass(frozen=True)
class Target:
    """Lesions that run side by side: each has its rows of the batch, one lesion after the other.

    Attributes
    ----------
    masks
        (lesion, layer, neuron): the neurons that each changes.
    amounts
        One a lesion; None where the kind takes none.
    """

    masks: Bool
    amounts: tuple[float | None, ...]


@contextmanager
def changed(taps: Sequence[Tap], change: Change, target: Target, draws: Draws) -> Iterator[None]:
    """Apply lesions as long as the ``with`` block lasts."""
    handles: list[Any] = []
    try:
        for layer in np.flatnonzero(target.masks.any(axis=(0, 2))):
            handles.append(taps[int(layer)].hook(_hook(change, target, int(layer), draws)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _hook(change: Change, target: Target, layer: int, draws: Draws) -> Hook:
    masks = torch.from_numpy(np.ascontiguousarray(target.masks[:, layer]))[:, None]  # (lesion, 1, neuron)
    dosed = target.amounts[0] is not None
    amounts = torch.tensor(target.amounts, dtype=torch.float64)[:, None, None] if dosed else None

    def hook(x: torch.Tensor) -> torch.Tensor:
        rows = x.reshape(len(masks), -1, x.shape[-1])  # OPT has one axis for prompts and tokens
        amount = None if amounts is None else amounts.to(x)
        new = change.values(rows, layer, amount, draws)
        return torch.where(masks.to(x.device), new, rows).reshape(x.shape)

    return hook
