"""What `lesion_effects` found, in memory, its dims in a known order."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import xarray as xr

from .wording import MISSING, decimal

Float64 = npt.NDArray[np.float64]

METRICS: Final[Mapping[str, str]] = {
    "loss": "the loss",
    "hit": "the share of tokens foretold",
    "accuracy": "the share of questions answered rightly",
    "answer": "the share of written answers that are right",
    "kl": "the divergence of the next token's distribution",
}
_LEVELS = ("perplexity", "accuracy")


@dataclass(frozen=True)
class Effects:
    """Effects (network, condition), with the draws of the controls between.

    Attributes
    ----------
    lesion
        Its kind; "" where nothing is said.
    level, baseline
        What the effect is a change of, (network, condition) and (condition), named `level_name`; NaN and
        "" where there is nothing such.
    own_conditions
        Place of each network's own condition; None where it has none.
    neurons
        (network, condition) where every condition has networks of its own; None elsewhere.
    """

    networks: list[str]
    conditions: list[str]
    by: str
    lesion: str
    units: str
    effect: Float64
    low: Float64
    high: Float64
    control: Float64
    p_value: Float64
    p_corrected: Float64
    level_name: str
    level: Float64
    baseline: Float64
    size: list[int | None]
    own_conditions: list[int | None]
    neurons: Float64 | None

    @classmethod
    def of(cls, ds: xr.Dataset) -> "Effects":
        """Read a Dataset of effects."""
        by = str(ds.attrs.get("by", next(d for d in ds["effect"].dims if d != "network")))
        networks, conditions = ([str(n) for n in ds[d].to_numpy()] for d in ("network", by))
        missing = ds["effect"] * np.nan
        names = ("effect", "low", "high", "p_value", "p_corrected")
        arrays = {v: _array(ds.get(v, missing), "network", by) for v in names}
        level_name = next((v for v in _LEVELS if v in ds), "")
        baseline = ds.get(f"{level_name}_baseline", missing.isel(network=0))
        return cls(
            networks=networks,
            conditions=conditions,
            by=by,
            lesion=str(ds.attrs.get("lesion", "")),
            units=str(ds["effect"].attrs.get("units", "nats per token")),
            control=_array(ds["control"], "network", "draw", by),
            level_name=level_name,
            level=_array(ds.get(level_name, missing), "network", by),
            baseline=_array(baseline, by),
            size=[int(n) for n in ds["size"].to_numpy()] if "size" in ds else [None] * len(networks),
            own_conditions=_own(ds, networks, conditions),
            neurons=_array(ds["neurons"], "network", by) if "neurons" in ds else None,
            **arrays,
        )

    def own(self, i: int) -> int | None:
        """Return which condition a network serves: the one stated, else the one of its name."""
        return self.own_conditions[i]

    @property
    def removes(self) -> bool:
        """Whether a lesioned network is as good as gone."""
        return self.lesion in ("", "zero")

    @property
    def label(self) -> str:
        """What a condition is called: "data set"."""
        return self.by.replace("_", " ")

    @property
    def any_own(self) -> bool:
        """Whether some network has a condition of its own."""
        return any(j is not None for j in self.own_conditions)

    def with_interval(self, i: int, j: int) -> tuple[str, str]:
        """Write an effect, and its interval."""
        return decimal(float(self.effect[i, j])), span(float(self.low[i, j]), float(self.high[i, j]))


def span(low: float, high: float) -> str:
    """Write an interval; a dash where there is none."""
    return f"{decimal(low)} to {decimal(high)}" if np.isfinite([low, high]).all() else MISSING


def _array(values: xr.DataArray, *dims: str) -> Float64:
    return np.asarray(values.transpose(*dims).to_numpy(), dtype=np.float64)


def _own(ds: xr.Dataset, networks: list[str], conditions: list[str]) -> list[int | None]:
    stated = [str(n) for n in ds["own"].to_numpy()] if "own" in ds else networks
    return [conditions.index(n) if n in conditions else None for n in stated]
