"""Regions: the parameters on which the conditions rest most, least, or that chance picks."""

from collections.abc import Sequence
from typing import Any, Literal

import dask.array as da
import numpy as np
import numpy.typing as npt
import xarray as xr

from ...store.arguments import real_number, whole_number
from ...store.errors import InputError, InputTypeError
from ...store.provenance import source_attrs
from ...store.regions import MASK_DIMS
from ...store.selection import joined_selection
from .counts import random_counts
from .cuts import Selection, select

Scope = Literal["tensor", "model"]
Role = Literal["top", "bottom", "random"]
Of = Literal["core", "condition", "monolingual"]
_KEPT = ("matrix", "layer", "rows", "shape")
_ROWS_BYTES = 2**26  # of a chunk of a mask that chance fills


def region(
    importance: xr.DataTree,
    *,
    top: float = 0.01,
    scope: Scope = "tensor",
    role: Role = "top",
    of: Of = "core",
    conditions: Sequence[str] | None = None,
    matrices: Sequence[str] | None = None,
    seed: int = 0,
) -> xr.DataTree:
    """Select regions of a model's parameters by their importance.

    The share is exact: of each tensor, or of all together, round(top * size) values are chosen, however
    the importance is chunked. Among equal values the first in the order of tensors, rows and columns are
    taken; a NaN is in no region. The importance is gone through a few times here, tensor by tensor, and
    never held; the masks are lazy.

    Parameters
    ----------
    importance
        From `actome.importance`.
    top
        Share of the parameters, in (0, 1].
    scope
        "tensor": this share of every tensor; "model": of all tensors together.
    role
        "top": the largest importance; "bottom": the smallest; "random": a random region of the same
        size, which does not look at the importance.
    of
        "core": one region, of the importance summed over conditions [1]_. "condition": one region a
        condition. "monolingual": one a condition, of what is in its top and in the top of no other.
    conditions
        Those that are looked at; all by default.
    matrices
        Types of matrix that are looked at, such as ["q", "k"]; all by default.
    seed
        Draws random regions.

    Returns
    -------
    DataTree

    Its root has ``region`` (names) and, along it, ``role`` ("top", "bottom", "random", "monolingual"),
    ``top`` and ``condition`` ("" for the core); one group a weight tensor:

    mask : (region, row, column) bool, lazy

    with the attributes of the tensor. ``attrs["selected_on"]`` are the prompts that took part.

    Raises
    ------
    InputError, InputTypeError
        It is no importance; a value is not allowed; there is no such condition or type of matrix;
        monolingual regions of fewer than two conditions, or other than top ones.

    References
    ----------
    .. [1] Zhang et al. (2023), arXiv:2310.14928.
    """
    tensors = _tensors(importance, matrices)
    chosen = _check(importance, top, scope, role, of, conditions, seed)
    arrays = {name: _values(array, chosen, of) for name, array in tensors.items()}
    if role == "random":
        masks = _random(arrays, top, scope, seed)
    else:
        masks = _extreme(arrays, top, scope, largest=role == "top")
    if of == "monolingual":
        masks = {name: _alone(m) for name, m in masks.items()}
    names = _names(chosen, role, of, top, seed)
    kind = "monolingual" if of == "monolingual" else role
    root = xr.Dataset(
        coords={
            "region": np.array(names, dtype=object),
            "role": ("region", np.array([kind] * len(names), dtype=object)),
            "top": ("region", [float(top)] * len(names)),
            "condition": ("region", np.array([""] if of == "core" else chosen, dtype=object)),
        },
        attrs={
            "kind": "regions", "scope": scope, "of": of, "conditions": chosen,
            "seed": seed, **joined_selection(importance.attrs).attrs,
            **source_attrs(importance.dataset.attrs),
        },
    )  # fmt: skip
    nodes = {"/": root} | {
        name: xr.Dataset(
            {"mask": (MASK_DIMS, da.stack(m))},  # type: ignore[no-untyped-call]
            attrs={k: importance[name].attrs[k] for k in _KEPT if k in importance[name].attrs},
        )
        for name, m in masks.items()
    }
    return xr.DataTree.from_dict(nodes)


def check_importance(importance: Any) -> None:
    """Refuse what is no importance."""
    if not isinstance(importance, xr.DataTree) or "condition" not in importance.coords:
        raise InputTypeError(
            f"importance must be the DataTree that actome.importance gives, got {type(importance).__name__}"
        )


def _tensors(importance: xr.DataTree, matrices: Sequence[str] | None) -> dict[str, xr.DataArray]:
    check_importance(importance)
    types = {str(name): str(node.attrs.get("matrix", "")) for name, node in importance.children.items()}
    if matrices is not None:
        unknown = sorted(set(matrices) - set(types.values()))
        if unknown or isinstance(matrices, str):
            known = sorted(set(types.values()))
            raise InputError(f"matrices must be a list of types that there are, {known}; got {matrices!r}")
    names = sorted(n for n, kind in types.items() if matrices is None or kind in matrices)
    if not names:
        raise InputError("the importance holds no weight tensor to select from")
    return {n: importance[n]["importance"].transpose("condition", "row", "column") for n in names}


def _check(
    importance: xr.DataTree, top: float, scope: str, role: str, of: str, conditions: Any, seed: int
) -> list[str]:
    """Refuse what is not allowed; return the conditions that are looked at."""
    if not 0 < real_number(top, "top") <= 1:
        raise InputError(f"top must be above 0 and at most 1, got {top}")
    for name, value, allowed in (
        ("scope", scope, ("tensor", "model")),
        ("role", role, ("top", "bottom", "random")),
        ("of", of, ("core", "condition", "monolingual")),
    ):
        if value not in allowed:
            raise InputError(f"{name} must be one of {list(allowed)}, got {value!r}")
    whole_number(seed, "seed", least=0)
    known = [str(c) for c in importance["condition"].to_numpy()]
    if isinstance(conditions, str):
        raise InputTypeError(f"conditions must be a list of some of {known}, got {conditions!r}")
    chosen = known if conditions is None else [str(c) for c in conditions]
    if not chosen or not set(chosen) <= set(known) or len(set(chosen)) < len(chosen):
        raise InputError(f"conditions must be some of {known}, each once; got {chosen}")
    if of == "monolingual" and (role != "top" or len(chosen) < 2):
        raise InputError(
            "a monolingual region is the top of one condition and of no other: give role='top' and at least "
            f"two conditions, got {role!r} and {chosen}"
        )
    return chosen


def _values(array: xr.DataArray, conditions: list[str], of: str) -> list[da.Array]:
    """Return what is selected by, (row, column): one array for the core, else one a condition."""
    array = array.sel(condition=conditions)
    if of == "core":
        return [core_importance(array)]
    return [_lazy(array)[i] for i in range(len(conditions))]


def core_importance(array: xr.DataArray) -> da.Array:
    """Sum the importance of a tensor over conditions: (row, column) float64, lazy."""
    whole = _lazy(array.transpose("condition", "row", "column"))
    whole = whole.rechunk({0: -1})  # type: ignore[no-untyped-call]
    summed: da.Array = whole.map_blocks(_sum, dtype=np.float64, drop_axis=0)
    return summed


def _lazy(array: xr.DataArray) -> da.Array:
    data: da.Array = array.data if array.chunks is not None else da.from_array(array.to_numpy())  # type: ignore[no-untyped-call]
    return data


def _sum(block: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Sum over conditions, one after the other, so that the last bit does not depend on the chunks."""
    total = np.zeros(block.shape[1:])
    for part in block:
        total += part
    return total


def _extreme(
    arrays: dict[str, list[da.Array]], top: float, scope: str, *, largest: bool
) -> dict[str, list[da.Array]]:
    names, n_regions = list(arrays), len(next(iter(arrays.values())))
    if scope == "tensor":
        jobs = [Selection([a], top, largest) for name in names for a in arrays[name]]
        found = iter(select(jobs))
        return {name: [next(found)[0] for _ in arrays[name]] for name in names}
    jobs = [Selection([arrays[name][i] for name in names], top, largest) for i in range(n_regions)]
    chosen = select(jobs)
    return {name: [chosen[i][k] for i in range(n_regions)] for k, name in enumerate(names)}


def _random(
    arrays: dict[str, list[da.Array]], top: float, scope: str, seed: int
) -> dict[str, list[da.Array]]:
    """Regions anywhere, of the same size; each tensor draws from a stream of its own."""
    shapes = {name: own[0].shape for name, own in arrays.items()}
    sizes = np.array([shape[0] * shape[1] for shape in shapes.values()])
    out: dict[str, list[da.Array]] = {name: [] for name in arrays}
    for i in range(len(next(iter(arrays.values())))):
        counts = [round(top * int(n)) for n in sizes]
        if scope == "model":
            rng = np.random.default_rng([seed, i])
            counts = random_counts(sizes, round(top * int(sizes.sum())), rng)[0].tolist()
        for t, (name, shape) in enumerate(shapes.items()):
            rng = np.random.default_rng([seed, i, t])
            places = np.sort(rng.choice(shape[0] * shape[1], counts[t], replace=False, shuffle=False))
            out[name].append(_at(places, shape))
    return out


def _at(places: npt.NDArray[np.int64], shape: tuple[int, int]) -> da.Array:
    """Mask that is true at some places, counted through the rows: (row, column), lazy."""
    rows = max(1, _ROWS_BYTES // max(1, shape[1]))
    chunks = da.core.normalize_chunks((rows, -1), shape)  # type: ignore[no-untyped-call]

    def fill(block_info: Any = None) -> npt.NDArray[np.bool_]:
        (first, last), _ = block_info[None]["array-location"]
        out = np.zeros((last - first) * shape[1], dtype=bool)
        low, high = np.searchsorted(places, [first * shape[1], last * shape[1]])
        out[places[low:high] - first * shape[1]] = True
        return out.reshape(last - first, shape[1])

    mask: da.Array = da.map_blocks(fill, chunks=chunks, dtype=bool, meta=np.empty((0, 0), dtype=bool))  # type: ignore[no-untyped-call]
    return mask


def _alone(masks: list[da.Array]) -> list[da.Array]:
    """Keep what is in one mask and in none of the others."""
    number = sum(m.astype(np.int32) for m in masks)  # type: ignore[no-untyped-call]
    return [m & (number == 1) for m in masks]


def _names(conditions: list[str], role: str, of: str, top: float, seed: int) -> list[str]:
    share = f"{role} {100 * top:g}%" + (f" #{seed}" if role == "random" and seed else "")
    if of == "core":
        return [share]
    return [c if role == "top" else f"{c} {share}" for c in conditions]
