"""What every analysis of scores can be asked, and what its result says of where its numbers come from."""

from dataclasses import asdict, dataclass

import xarray as xr

from ...store.arguments import whole_number
from ...store.errors import InputError, InputTypeError
from ...store.provenance import source_attrs
from ..corrections import ASSUMPTIONS, Correction
from .estimates import EXCHANGEABLE
from .measures import METRICS, Metric
from .rows import inputs_of, keeps_only, selection_of


@dataclass(frozen=True)
class Options:
    """As of `lesion_effects`, which explains them.

    Raises
    ------
    InputError, InputTypeError
        One of them is not allowed.
    """

    by: str
    metric: Metric
    correction: Correction
    n_bootstrap: int
    seed: int

    def __post_init__(self) -> None:
        """Check what can be checked without scores."""
        if not isinstance(self.by, str):
            raise InputTypeError(f"by must be the name of a label of the prompts, got {self.by!r}")
        for name, value, allowed in (
            ("metric", self.metric, [*METRICS]),
            ("correction", self.correction, [*ASSUMPTIONS]),
        ):
            if value not in allowed:
                raise InputError(f"{name} must be one of {allowed}, got {value!r}")
        whole_number(self.n_bootstrap, "n_bootstrap", least=1)
        whole_number(self.seed, "seed", least=0)

    @property
    def units(self) -> str:
        """Of an effect."""
        return METRICS[self.metric][1]

    def attrs(self, scores: xr.Dataset, kind: str) -> dict[str, object]:
        """Describe a result: what was asked of which scores, and what the numbers rest on."""
        inputs = inputs_of(scores)
        return {
            "kind": kind,
            **asdict(self),
            "lesion": inputs.get("kind", ""),
            "keep_only": keeps_only(scores),
            "assumption": f"{EXCHANGEABLE}; correction: {ASSUMPTIONS[self.correction]}",
            **selection_of(scores).attrs,
            **source_attrs(scores.attrs),
            "site": inputs.get("site", ""),
            "model": inputs.get("model", ""),
            **{k: scores.attrs[k] for k in ("other_weights",) if k in scores.attrs},
        }
