"""The effects of scores that are reported without any."""

from dataclasses import replace

import xarray as xr

from ...store.errors import InputError, InputTypeError
from ..perturbation.rows import inputs_of
from ..perturbation.suited import SUITED, metrics_of, suited_effects
from .gather import Results


def with_effects(results: Results) -> Results:
    """Add the effects of scores that no given effects belong to, or say why there are none."""
    given = {str(ds.attrs.get("source", "")) for kind in SUITED for ds in results.of(kind)}
    by_kind = {kind: list(found) for kind, found in results.by_kind.items()}
    refusals: list[str] = []
    for scores in results.of("scores"):
        if "logprob" not in scores or str(scores.attrs.get("manifest_digest", "")) in given:
            continue
        try:
            found = _effects(scores)
        except (InputError, InputTypeError) as error:  # of the scores: all else can still be shown
            refusals.append(f"No effects of these scores: {str(error).rstrip('.')}.")
            continue
        for ds in found:
            by_kind.setdefault(str(ds.attrs["kind"]), []).append(ds)
    return replace(results, by_kind=by_kind, refusals=tuple(refusals))


def _effects(scores: xr.Dataset) -> list[xr.Dataset]:
    seed = int(str(inputs_of(scores).get("seed", 0)))  # as of the command that saves them
    return [suited_effects(scores, metric=metric, seed=seed) for metric in metrics_of(scores)]
