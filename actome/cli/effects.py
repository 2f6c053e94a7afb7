"""The effects of lesions that a command saves beside the scores, and prints."""

from math import isfinite
from typing import Any

from ..store.errors import InputError
from .options import beside, digests, refuse_taken


def refuse_taken_effects(out: str) -> None:
    """Refuse before any work where effects could not be saved after it."""
    from ..analyze.perturbation.measures import METRICS
    from ..store.location import Location

    location = Location.of(out)
    if location.exists() and location.group().attrs.get("manifest_digest"):
        return  # nothing is left to score, and effects that are there may be of these scores
    for metric in METRICS:
        refuse_taken(_path(out, metric))


def saved_effects(scores: Any, out: str, seed: int) -> dict[str, Any]:
    """Find the effects by every metric that finished scores allow, and save them: path -> effects.

    Those that were saved before are opened. Of several processes that end together one saves.

    Raises
    ------
    InputError
        Where one is to be saved there is something else.
    """
    from ..analyze.perturbation.suited import metrics_of, suited_effects
    from ..store.archive import open as open_result
    from ..store.location import Location
    from ..store.results import save_result

    found = {}
    with Location.of(out).claimed(wait=True):
        for metric in metrics_of(scores):
            path = _path(out, metric)
            if Location.of(path).exists():
                found[path] = open_result(path).load()
                if not _is_of(found[path], scores, metric, seed):
                    raise InputError(
                        f"{path} holds something else than the effects of {out}; remove it, and the same "
                        "command goes on"
                    )
                continue
            found[path] = suited_effects(scores, metric=metric, seed=seed)
            save_result(found[path], path, derived_from=digests(scores))
    return found


def _path(out: str, metric: str) -> str:
    return beside(out, "effects" if metric == "loss" else f"effects-{metric}")


def _is_of(ds: Any, scores: Any, metric: str, seed: int) -> bool:
    """Whether saved effects are whole, and what would be computed anew."""
    expected = {"source": scores.attrs["manifest_digest"], "metric": metric, "seed": seed, "by": "condition"}
    return bool(ds.attrs.get("manifest_digest")) and expected.items() <= ds.attrs.items()


def effects_text(ds: Any) -> str:
    """Tabulate effects and selectivity, each with its interval and its p where it has them."""
    better = ", small where the network holds up better" if ds.attrs.get("keep_only") else ""
    p_of = f"; p against {n} controls{better}" if (n := ds.sizes["draw"]) else ""
    units = ds["effect"].attrs["units"]
    out = [f"{ds.attrs['metric']}: harm beyond the whole model, {units}{p_of}"]
    if "dose" in ds.dims:
        for dose in ds["dose"].to_numpy().tolist():
            out += [f"amount {dose:g}", _table(ds.sel(dose=dose), "effect", "low", "high", "p_value")]
        slopes = ("slope", "slope_low", "slope_high", "slope_p")
        of = f"distance from {ds.attrs['neutral']:g}" if "neutral" in ds.attrs else "the amount"
        return "\n".join([*out, f"slope, per unit of {of}", _table(ds, *slopes)])
    if "point" in ds.dims:
        ds = ds.assign_coords(point=[_kept(ds, i) for i in range(ds.sizes["point"])])
    out.append(_table(ds, "effect", "low", "high", "p_value"))
    if "selectivity" in ds and ds["selectivity"].notnull().any():
        known = ("selectivity", "selectivity_low", "selectivity_high", "selectivity_p")
        out += ["selectivity: on the own condition, less the mean on the others"]
        out += [_selectivity(ds.isel(network=i), *known) for i in range(ds.sizes["network"])]
    return "\n".join(out)


def _table(ds: Any, *names: str) -> str:
    """Tabulate an estimate with the ends of its interval and p, given the variables' names."""
    import pandas as pd

    from ..analyze.report.wording import probability

    value, low, high, p = (ds[name].to_series() for name in names)
    columns = {names[0]: [f"{v:z.3f}" for v in value]}
    if low.notna().any():
        ends = zip(low, high, strict=True)
        columns["95 % interval"] = [f"{a:z.3f} to {b:z.3f}" if isfinite(a) else "" for a, b in ends]
    if p.notna().any():
        columns["p"] = [probability(v) if isfinite(v) else "" for v in p]
    return str(pd.DataFrame(columns, value.index.rename([None] * value.index.nlevels)).to_string())


def _told(value: float, low: float, high: float, p: float) -> str:
    from ..analyze.report.wording import probability

    known = [f"{low:z.3f} to {high:z.3f}"] * isfinite(low) + [f"p {probability(p)}"] * isfinite(p)
    return f"{value:z.3f}" + (f" ({'; '.join(known)})" if known else "")


def _selectivity(one: Any, *names: str) -> str:
    """Say of one network how selective it is for which condition."""
    own = str(one["own"].item())
    how = f" for {own}" if own else ""
    return f"{one['network'].item()}{how}: {_told(*(float(one[name]) for name in names))}"


def _kept(ds: Any, i: int) -> str:
    """Name a point of the curve with the neurons that it keeps."""
    return f"{ds['point'][i].item()} ({int(ds['n_kept'][i]):,} neurons kept)"
