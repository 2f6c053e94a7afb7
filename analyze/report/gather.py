"""Sorting what the report is given: each result to its kind, each map and network with its name."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from dask.base import compute

from ...store.errors import InputError, InputTypeError
from ..kept_neurons import TESTS
from .wording import rule

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

_NEEDED: Mapping[str, tuple[str, ...]] = {
    "recording": ("prompt",),
    "fit": ("design",),
    "contrast": ("stat",),
    "design": ("design",),
    "mask": (),
    "components": ("component_map",),
    "overlap": ("intersection",),
    "repeatability": ("dice", "size", "within", "between", "difference", "p_value", "null", "icc2", "icc3"),
    "matching": ("similarity", "partner", "partner_similarity"),
    "discoveries": ("discoveries", "size"),
    "crossfit": ("size", "effect", "low", "high", "naive", "dof", "effect_combined"),
    "recurrence": ("components",),
    "recurrence_across": ("components", "samples", "n_samples"),
    "networks": ("layer_size", "dice", "intersection", "expected", "p_value", "n_networks", "histogram"),
    "component_labels": (),
    "time_courses": ("time_course",),
    "dual_regression": ("similarity", "rank"),
    "individual_components": ("n_found", "converged"),
    "connectivity": ("correlation", "low", "high", "n_prompts"),
    "connectivity_difference": ("effect", "stat", "p_corrected", "null_max"),
    "graph": ("degree", "clustering", "betweenness", "community", "modularity", "n_edges", "edge"),
    "fingerprint": ("score", "share", "p_value", "critical", "null", "correlation", "partner", "matched"),
    "identification": ("confusion", "accuracy", "null", "p_value"),
    "time_course": ("value", "prediction", "correlation"),
    "statements": ("claim", "measured", "verdict", "rule"),
    "scores": ("role", "target", "mismatch", "network"),
    "effects": ("effect", "low", "high", "control", "p_value"),
    "dose_response": ("effect", "low", "high", "control", "slope", "slope_low", "slope_high", "slope_p"),
    "amplification": ("effect", "low", "high", "control", "slope", "slope_low", "slope_high", "slope_p"),
    "preservation": ("effect", "low", "high", "control", "p_value", "baseline", "n_kept", "share_kept"),
    "region_scores": ("completion", "role", "target"),
    "region_effects": ("effect", "low", "high", "control", "p_value", "perplexity", "size", "n_controls"),
    "region_overlap": ("jaccard", "intersection", "expected"),
    "concentration": ("row_share", "column_share", "row_gini", "column_gini"),
    "sweep_effects": ("effect", "low", "high", "perplexity", "perplexity_baseline"),
    "forgetting": ("effect", "low", "high", "perplexity", "perplexity_baseline"),
    "pruning": ("perplexity", "parameters", "neurons", "width", "tokens_per_second"),
}


_OTHERWISE = "give what an analysis of them returns"
_INSTEAD = {  # of trees of tensors
    "importance": "select regions from it with `actome.region`, and score those with `actome.score_regions`",
    "regions": "score them with `actome.score_regions` and give what `region_effects` returns of the scores",
}


@dataclass(frozen=True)
class Map:
    """One layer x neuron map of a contrast or a component, in memory.

    Attributes
    ----------
    name
        How the reader knows it.
    aliases
        Names that a network selected from it may have.
    values
        (layer, neuron): z of a contrast (its statistic if it has no z), or the component's map.
    stat
        (layer, neuron): the test statistic; of a component its map.
    layers
        Number of each layer.
    coords
        Numbers that belong to this map: ``dof``, ``stability`` ...
    title
        What the whole result is called; "" where it says nothing.
    neurons
        Number of each neuron of a contrast.
    tests
        (layer, neuron) each: effect, statistic, p ... of a contrast, what it has of them.
    """

    name: str
    aliases: frozenset[str]
    values: Float32
    stat: Float32
    layers: list[int]
    coords: Mapping[str, float] = field(default_factory=dict)
    title: str = ""
    neurons: Sequence[int] = ()
    tests: Mapping[str, Float32] = field(default_factory=dict)


@dataclass(frozen=True)
class Network:
    """One mask (layer, neuron), the rule that made it, its site and its result's title ("" if unknown)."""

    name: str
    mask: Bool
    rule: str
    two_sided: bool
    layers: list[int]
    site: str = ""
    title: str = ""


@dataclass(frozen=True)
class Results:
    """Everything that was given, by kind, in the order given."""

    by_kind: Mapping[str, list[xr.Dataset]]
    contrasts: list[Map]
    components: list[list[Map]]  # of each decomposition
    networks: list[list[Network]]  # of each set of masks
    refusals: tuple[str, ...] = ()  # why the effects of scores cannot be shown

    def of(self, kind: str) -> list[xr.Dataset]:
        """Return the results of a kind."""
        return self.by_kind.get(kind, [])


def gather(results: Iterable[object]) -> Results:
    """Sort results, and compute the maps of those that are lazy, all in one pass.

    Raises
    ------
    InputError
        There are none, or one lacks a variable of its kind.
    InputTypeError
        Something is no result.
    """
    by_kind: dict[str, list[xr.Dataset]] = {}
    for i, result in enumerate(results):
        ds = as_result(result, f"result {i + 1} of the report")
        by_kind.setdefault(str(ds.attrs["kind"]), []).append(ds)
    if not by_kind:
        raise InputError("report needs at least one result, got none")
    kinds = {"contrast": TESTS, "components": ("component_map",), "mask": ("mask",)}
    maps = by_kind | {"mask": by_kind.get("mask") or _masks_within(by_kind)}
    lazy = {
        kind: [ds[[v for v in names if v in ds]].map(_small, keep_attrs=True) for ds in maps.get(kind, [])]
        for kind, names in kinds.items()
    }
    (loaded,) = compute(lazy)  # type: ignore[no-untyped-call]
    sets = [list(_networks(ds)) for ds in loaded["mask"]]
    single = [networks[0] for networks in sets if len(networks) == 1]
    sets = [networks for networks in sets if len(networks) > 1] + ([single] if single else [])
    return Results(
        by_kind,
        [m for ds in loaded["contrast"] for m in _contrast_maps(ds)],
        [
            list(_component_maps(ds, given))
            for ds, given in zip(loaded["components"], by_kind.get("components", []), strict=True)
        ],
        sets,
    )


def _masks_within(by_kind: Mapping[str, list[xr.Dataset]]) -> list[xr.Dataset]:
    """Return the masks that contrasts bring along, as `actome glm` saves them."""
    return [
        ds[["mask"]].assign_attrs(ds.attrs, kind="mask")
        for ds in by_kind.get("contrast", [])
        if "mask" in ds and ds["mask"].dtype == bool
    ]


def as_result(result: object, who: str) -> xr.Dataset:
    """Return a result as a Dataset of a known kind; a mask under the name ``mask``.

    Raises
    ------
    InputError
        It lacks a variable of its kind; `who` is what it is called.
    InputTypeError
        It is no result.
    """
    allowed = f"a Dataset of kind {', '.join(_NEEDED)}, or a mask: a bool DataArray (..., layer, neuron)"
    what = f"{who} must be {allowed}"
    if isinstance(result, xr.DataArray):
        if result.dtype != bool or not {"layer", "neuron"} <= set(result.dims):
            raise InputTypeError(f"{what}; got a DataArray of {result.dtype} with dims {result.dims}")
        return result.to_dataset(name="mask").assign_attrs(result.attrs, kind="mask")
    if isinstance(result, xr.DataTree):
        kind = str(result.attrs.get("kind", "results"))
        raise InputTypeError(f"{who} holds {kind}, which have no section; {_INSTEAD.get(kind, _OTHERWISE)}")
    if not isinstance(result, xr.Dataset):
        hint = "; give several results one by one" if isinstance(result, (list, tuple, dict)) else ""
        raise InputTypeError(f"{what}; got {type(result).__name__}{hint}")
    kind = str(result.attrs.get("kind", "recording" if "activation" in result else ""))
    if kind not in _NEEDED:
        raise InputTypeError(
            f"{what}; got a Dataset of kind {kind!r} with the variables {sorted(map(str, result))}"
        )
    if kind == "mask":
        return as_result(_only_mask(result, who), who)
    missing = [v for v in _NEEDED[kind] if v not in result.variables]
    if missing:
        raise InputError(f"{who} is of kind {kind!r} but lacks {missing}")
    return result.assign_attrs(kind=kind)


def _only_mask(ds: xr.Dataset, who: str) -> xr.DataArray:
    masks = [v for v in ds if ds[v].dtype == bool]
    if len(masks) != 1:
        raise InputError(f"{who} must hold one bool variable, as a saved mask does, got {masks}")
    return ds[masks[0]].assign_attrs(ds.attrs)


def _small(array: xr.DataArray) -> xr.DataArray:
    return array if array.dtype == bool else array.astype(np.float32)


def _contrast_maps(ds: xr.Dataset) -> Iterator[Map]:
    for labels, part in _slices(ds, "stat"):
        name = labels or str(ds.attrs.get("contrast", "contrast"))
        aliases = {name} if labels else {name, *_positive_regressor(ds.attrs)}
        stat = part["stat"].to_numpy()
        values = part["z_score"].to_numpy() if "z_score" in part else stat
        coords = {
            c: float(part[c]) for c in ("dof", "dof_numerator") if c in part.coords and part[c].ndim == 0
        }
        coords["z"] = float("z_score" in part)
        tests = {v: part[v].to_numpy() for v in TESTS if v in part}
        neurons = part["neuron"].to_numpy().tolist()  # the places where they have no numbers
        yield Map(name, frozenset(aliases), values, stat, _layers(part), coords, neurons=neurons, tests=tests)


def _positive_regressor(attrs: Mapping[str, Any]) -> list[str]:
    """Name the one regressor that a t contrast asks for, if it is one."""
    weights, names = attrs.get("weights", []), attrs.get("regressors", [])
    positive = [str(n) for n, w in zip(names, weights, strict=False) if np.ndim(w) == 0 and w > 0]
    return positive if len(positive) == 1 else []


_OF_COMPONENT = (
    "stability", "explained_variance", "cluster_size", "split_half", "split_half_dice", "departure",
    "p_value", "is_network", "window", "found_again",
)  # fmt: skip


def _component_maps(ds: xr.Dataset, given: xr.Dataset) -> Iterator[Map]:
    title = str(given.attrs.get("title", ""))
    numbers = [v for v in _OF_COMPONENT if v in given.variables]
    for i, (label, part) in enumerate(_slices(ds, "component_map")):
        values = part["component_map"].to_numpy()
        coords = {v: float(given[v][i]) for v in numbers}
        yield Map(
            f"ic{label or i}", frozenset({f"ic{label or i}"}), values, values, _layers(part), coords, title
        )


def _networks(ds: xr.Dataset) -> Iterator[Network]:
    for labels, part in _slices(ds, "mask"):
        name = labels or str(ds.attrs.get("contrast", "mask"))
        two_sided = bool(ds.attrs.get("two_sided", False))
        site, title = (str(ds.attrs.get(k, "")) for k in ("site", "title"))
        yield Network(name, part["mask"].to_numpy(), rule(ds.attrs), two_sided, _layers(part), site, title)


def _slices(ds: xr.Dataset, variable: str) -> Iterator[tuple[str, xr.Dataset]]:
    """Every layer x neuron map of a variable, with the labels of its other dimensions ("" without any)."""
    if not {"layer", "neuron"} <= set(ds[variable].dims):
        raise InputError(f"{variable} must have the dims layer and neuron, got {ds[variable].dims}")
    dims = [str(d) for d in ds[variable].dims if d not in ("layer", "neuron")]
    for index in np.ndindex(*(ds.sizes[d] for d in dims)):
        part = ds.isel(dict(zip(dims, index, strict=True))).transpose(
            "layer", "neuron", missing_dims="ignore"
        )
        yield (
            " / ".join(
                str(part[d].item()) if d in part.coords else str(i) for d, i in zip(dims, index, strict=True)
            ),
            part,
        )


def _layers(part: xr.Dataset) -> list[int]:
    return [
        int(i) for i in (part["layer"].to_numpy() if "layer" in part.coords else range(part.sizes["layer"]))
    ]


def matching(map_: Map, sets: Iterable[list[Network]]) -> Network | None:
    """Find the network that is a threshold of a map: of its name, and no neuron left out above one kept.

    Where both say what result they are of, it is the same.
    """
    for network in (n for networks in sets for n in networks):
        same_shape = network.mask.shape == map_.stat.shape
        same_result = not (map_.title and network.title) or map_.title == network.title
        same = same_shape and same_result and network.name in map_.aliases
        if same and _separates(network, map_.stat):
            return network
    return None


def _separates(network: Network, stat: Float32) -> bool:
    values = np.abs(stat) if network.two_sided else stat
    kept, left = values[network.mask], values[~network.mask]
    left = left[np.isfinite(left)]
    return not kept.size or not left.size or bool(np.nanmin(kept) >= left.max())
