"""The effects of some lesions, each beside those of its matched controls."""

from dataclasses import dataclass
from typing import Any

from ...store.moments import Float64
from ..corrections import corrected
from .estimates import bootstrap, intervals, p_against, per_item
from .measures import Int, Measured
from .options import Options
from .rows import Index


@dataclass(frozen=True)
class Comparison:
    """Effects in units of the metric above the baseline; "..." may be doses.

    Attributes
    ----------
    effect, low, high, p_value, p_corrected
        (network, ..., condition).
    control
        (network, draw, ..., condition).
    resampled
        (network, ..., condition, bootstrap): the effect in each resample of the prompts.
    n_prompts
        (condition): how many the resamples are drawn from.
    """

    effect: Float64
    low: Float64
    high: Float64
    control: Float64
    p_value: Float64
    p_corrected: Float64
    resampled: Float64
    n_prompts: Int

    def variables(self, dims: tuple[str, ...], units: str) -> dict[str, Any]:
        """Return what a Dataset is made of; `dims` are those of the effect."""
        first, *rest = dims
        return {
            "effect": (dims, self.effect, {"units": units}),
            "low": (dims, self.low),
            "high": (dims, self.high),
            "control": ((first, "draw", *rest), self.control),
            "p_value": (dims, self.p_value),
            "p_corrected": (dims, self.p_corrected),
        }


def compare(
    change: Float64,
    measured: Measured,
    target: Index,
    control: Index,
    options: Options,
    *,
    better: bool = False,
) -> Comparison:
    """Compare lesions with their controls.

    Parameters
    ----------
    change
        (lesion, prompt): the total of each prompt above the baseline's.
    target, control
        (network, ...) and (network, draw, ...): places along ``lesion``.
    better
        p asks which do as little harm, not as much.
    """
    effects = per_item(change, measured)  # (lesion, condition)
    effect, null = effects[target], effects[control]
    resampled, n_prompts = bootstrap(change[target], measured, options.n_bootstrap, options.seed)
    low, high = intervals(resampled, n_prompts)
    p = p_against(-effect, -null) if better else p_against(effect, null)
    return Comparison(effect, low, high, null, p, corrected(p, options.correction), resampled, n_prompts)
