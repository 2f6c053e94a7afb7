"""Whether numbers that were computed twice agree, up to what rounding and another kernel explain."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

# Batches of another size moved a value of the demo model, out of millions, by up to 8e-6 in float32, 0.012
# in float16 and 0.09 in bfloat16.
_KERNEL = {"float16": 64 * 2.0**-11, "bfloat16": 64 * 2.0**-8}
_KERNEL_DEFAULT = 1e-4
_AVERAGED = 64  # more terms than this are not taken to be independent
_TOGETHER = 0.25  # of the tolerance of one number, for the root mean square over many


@dataclass(frozen=True)
class Tolerance:
    """How far two computations of one number may be apart.

    A difference is allowed up to ``relative * (|x| + scale) + rounding * |x| + smallest``, where the
    scale is the size of the numbers that x was computed beside: a sum that nearly cancels has their
    error, not its own.

    Attributes
    ----------
    relative
        For another kernel, another order of sums.
    rounding, smallest
        Of the storage type: its spacing relative to a number, and near zero.
    """

    relative: float
    rounding: float
    smallest: float

    @classmethod
    def of(cls, compute: str, storage: str, relative: float | None = None) -> "Tolerance":
        """Choose for numbers computed in one type and stored in another.

        >>> Tolerance.of("float32", "float16").relative, Tolerance.of("bfloat16", "float32").relative
        (0.0001, 0.25)
        """
        spacing = np.finfo(storage)
        chosen = _KERNEL.get(compute, _KERNEL_DEFAULT) if relative is None else relative
        return cls(chosen, float(spacing.eps), float(spacing.smallest_subnormal))

    def averaged(self, n: int) -> "Tolerance":
        """Return that of a mean over `n` numbers, in which the errors of the kernels partly cancel."""
        return replace(self, relative=self.relative / math.sqrt(min(n, _AVERAGED)))

    def allowed(self, size: Any, scale: Any) -> Any:
        """Largest difference allowed between numbers of this magnitude."""
        return self.relative * (size + scale) + self.rounding * size + self.smallest

    def used(self, difference: Any, size: Any, scale: Any) -> Any:
        """Share, from 0 to 1, of what is allowed for the kernel that a difference takes beside rounding."""
        left = difference - self.rounding * size - self.smallest
        share = np.nan_to_num(left / (self.relative * (size + scale)), nan=1.0, posinf=1.0)
        return np.where(left <= 0, 0.0, np.minimum(share, 1.0))

    @staticmethod
    def together(n: int) -> float:
        """Largest root mean square of what is `used` by `n` numbers: of few, one may take most.

        >>> Tolerance.together(1), Tolerance.together(10_000)
        (1.0, 0.2575)
        """
        return _TOGETHER + (1 - _TOGETHER) / math.sqrt(n)


@dataclass
class Agreement:
    """How one variable agrees, added up over prompts.

    Attributes
    ----------
    site
        Site of a recording; "" for a variable that all sites share.
    variable
        What is compared.
    n_values, n_beyond
        Numbers compared, and those further apart than allowed.
    largest
        Largest difference, in the variable's unit; infinite where only one of the two is a number.
    relative
        Largest difference relative to ``|x| + scale``, as `Tolerance` explains it.
    excess
        Largest difference relative to what is allowed: numbers beyond have more than 1.
    worst
        The place that exceeds, or comes nearest to, what is allowed, with both numbers; empty where all
        are equal.
    prompts
        Those with a number or a set beyond.
    n_sets_beyond
        Sets of numbers that were compared at once, such as a layer of a prompt, whose differences are
        too large taken together, though each alone may be allowed.
    set_excess
        Largest root mean square of the differences of a set, relative to what is allowed.
    """

    site: str
    variable: str
    n_values: int = 0
    n_beyond: int = 0
    largest: float = 0.0
    relative: float = 0.0
    excess: float = 0.0
    worst: dict[str, Any] = field(default_factory=dict)
    prompts: list[str] = field(default_factory=list)
    n_sets_beyond: int = 0
    set_excess: float = 0.0

    @property
    def share_beyond(self) -> float:
        """Share of the numbers that are further apart than allowed."""
        return self.n_beyond / self.n_values if self.n_values else 0.0

    def add(
        self,
        prompt: str,
        recorded: npt.NDArray[Any],
        computed: npt.NDArray[Any],
        tolerance: Tolerance,
        *,
        scale: float,
        size: npt.NDArray[Any] | None = None,
        **places: Sequence[int] | npt.NDArray[Any],
    ) -> None:
        """Compare two arrays of one prompt, number by number and as a set.

        Parameters
        ----------
        prompt
            Its id.
        recorded, computed
            Of the same shape; NaN agrees with NaN.
        tolerance, scale
            What is allowed.
        size
            Magnitude of the numbers, float64; by default that of the computed ones.
        **places
            Per axis, in order: its name, and the number of each place along it.
        """
        a, b = recorded.astype(np.float64), computed.astype(np.float64)
        size = np.abs(b) if size is None else size
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            difference = np.where(same, 0.0, np.nan_to_num(np.abs(a - b), nan=np.inf, posinf=np.inf))
            relative = np.where(same, 0.0, difference / (size + scale))
            excess = np.where(same, 0.0, difference / tolerance.allowed(size, scale))
            used = np.where(same, 0.0, tolerance.used(difference, size, scale))
        excess = np.where(np.isnan(excess), np.inf, excess)  # where one of the two is no number
        beyond = int((excess > 1).sum())
        self.n_values += a.size
        self.n_beyond += beyond
        used = used[(a != 0) | (b != 0)]  # what is silent in both says nothing
        together = float(np.sqrt((used**2).mean())) / tolerance.together(used.size) if used.size else 0.0
        self.n_sets_beyond += together > 1
        self.set_excess = max(self.set_excess, together)
        if (beyond or together > 1) and prompt not in self.prompts:
            self.prompts.append(prompt)
        if not a.size or excess.max() == 0:
            return
        self.largest = max(self.largest, float(difference.max()))
        self.relative = max(self.relative, float(np.nan_to_num(relative, nan=np.inf, posinf=np.inf).max()))
        if excess.max() > self.excess:
            self.excess = float(excess.max())
            where = np.unravel_index(int(excess.argmax()), excess.shape)
            at = {
                name: int(numbers[int(i)]) for (name, numbers), i in zip(places.items(), where, strict=True)
            }
            self.worst = {"prompt": prompt, **at, "recorded": float(a[where]), "computed": float(b[where])}

    def __str__(self) -> str:
        """Return one line for a person to read."""
        name = f"{self.site} {self.variable}".strip()
        sizes = f"largest difference {self.largest:.2g} ({self.relative:.2g} relative)"
        line = f"{name}: {self.n_values} values, {sizes}"
        if self.n_sets_beyond:
            line += (
                f"; taken together, those of {self.n_sets_beyond} layers of prompts are up to "
                f"{self.set_excess:.2g} times as far apart as is allowed"
            )
        if not self.n_beyond:
            return line
        place = ", ".join(f"{k} {v}" for k, v in self.worst.items() if k not in ("recorded", "computed"))
        return (
            f"{line}; {self.n_beyond} ({self.share_beyond:.2%}) beyond the tolerance, the worst at {place}: "
            f"{self.worst['recorded']:.6g} recorded, {self.worst['computed']:.6g} now"
        )
