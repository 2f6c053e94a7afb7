"""Single parameters, rows and columns: the most important ones, and random ones of the same tensors."""

from typing import Any, Literal

import dask
import numpy as np
import numpy.typing as npt
import xarray as xr
from dask.delayed import delayed

from ...store.arguments import whole_number
from ...store.errors import InputError
from ...store.provenance import source_attrs
from ...store.selection import joined_selection
from .selection import check_importance, core_importance

Along = Literal["scalar", "row", "column"]


def top_places(
    importance: xr.DataTree, *, n: int = 5, along: Along = "scalar", n_random: int = 1, seed: int = 0
) -> xr.Dataset:
    """Name the most important parameters, rows or columns of a model, and random ones to compare with.

    Parameters
    ----------
    importance
        From `actome.importance`; its sum over conditions counts.
    n
        How many, of all tensors together.
    along
        "scalar": single parameters; "row", "column": whole lines of a tensor, by their mean importance.
        Tensors of one line are left out.
    n_random
        For each of them, this many random ones of the same tensor, none of them among the top ones; fewer
        where there are no others.
    seed
        Draws these.

    Returns
    -------
    Dataset along ``place``, which `actome.sweep` takes: ``tensor``, ``row`` and ``column`` (-1 stands for
    all of them), ``role`` ("top" or "random"), ``value`` (importance; NaN for random ones), and the
    ``matrix`` and ``layer`` of the tensor. Ties go to the first tensor, row, column.

    Raises
    ------
    InputError, InputTypeError
        It is no importance; a number is too small; there are fewer parameters or lines than asked for.
    """
    check_importance(importance)
    if along not in ("scalar", "row", "column"):
        raise InputError(f"along must be 'scalar', 'row' or 'column', got {along!r}")
    for option, value, least in (("n", n, 1), ("n_random", n_random, 0), ("seed", seed, 0)):
        whole_number(value, option, least=least)
    names = sorted(n for n, node in importance.children.items() if _length(_shape(node), along) > 1)
    best: Any = dask.base.compute(  # type: ignore[no-untyped-call]
        *(_best(importance.children[name].dataset["importance"], n, along) for name in names)
    )
    places = [
        (-v, t, i) for t, (values, where) in enumerate(best) for v, i in zip(values, where, strict=True)
    ]
    places = sorted(p for p in places if not np.isnan(p[0]))[:n]
    if len(places) < n:
        raise InputError(f"there are {len(places)} of what was asked for, {n}")
    rng = np.random.default_rng(seed)
    taken = {(t, i) for _, t, i in places}
    rows = []
    for k, (value, t, i) in enumerate(places):
        shape = _shape(importance.children[names[t]])
        rows.append((names[t], *_place(i, shape, along), "top", k, -value))
        rows += [
            (names[t], *_place(i, shape, along), "random", k, np.nan)
            for i in _others(t, _length(shape, along), taken, n_random, rng)
        ]
    return _dataset(importance, rows, along, n, n_random, seed)


def _best(array: xr.DataArray, n: int, along: str) -> Any:
    """Find the n largest of a tensor, which is held whole here: values, and places counted through it."""
    return delayed(_largest)(core_importance(array), n, along)


def _largest(values: npt.NDArray[np.float64], n: int, along: str) -> tuple[list[float], list[int]]:
    if along != "scalar":
        values = values.mean(axis=1 if along == "row" else 0)
    flat = np.where(np.isnan(values), -np.inf, values).ravel()
    kept = [int(i) for i in _first(flat, min(n, flat.size)) if flat[i] > -np.inf]
    return [float(flat[i]) for i in kept], kept


def _first(flat: npt.NDArray[np.float64], n: int) -> npt.NDArray[np.int64]:
    """Places of the n largest, the first of equals first, without sorting all."""
    edge = np.partition(flat, flat.size - n)[flat.size - n]
    above, equal = np.flatnonzero(flat > edge), np.flatnonzero(flat == edge)
    above = above[np.lexsort((above, -flat[above]))]
    return np.concatenate([above, equal[: n - len(above)]])


def _shape(node: xr.DataTree) -> tuple[int, int]:
    sizes = node["importance"].sizes
    return sizes["row"], sizes["column"]


def _length(shape: tuple[int, int], along: str) -> int:
    return {"scalar": shape[0] * shape[1], "row": shape[0], "column": shape[1]}[along]


def _place(i: int, shape: tuple[int, int], along: str) -> tuple[int, int]:
    if along == "scalar":
        return int(i) // shape[1], int(i) % shape[1]
    return (int(i), -1) if along == "row" else (-1, int(i))


def _others(
    t: int, length: int, taken: set[tuple[int, int]], n_random: int, rng: np.random.Generator
) -> list[int]:
    """Draw places of a tensor that are not taken, and take them; as many as there are at most."""
    out: list[int] = []
    free = length - sum(1 for other, _ in taken if other == t)
    while len(out) < min(n_random, free):
        i = int(rng.integers(length))
        if (t, i) not in taken:
            taken.add((t, i))
            out.append(i)
    return out


def _dataset(
    importance: xr.DataTree, rows: list[tuple[Any, ...]], along: str, n: int, n_random: int, seed: int
) -> xr.Dataset:
    tensor, row, column, role, rank, value = zip(*rows, strict=True)
    attrs_of = [importance[name].attrs for name in tensor]
    columns: dict[str, Any] = {
        "tensor": np.array(tensor, dtype=object), "row": list(row), "column": list(column),
        "role": np.array(role, dtype=object), "rank": list(rank), "value": list(value),
        "matrix": np.array([str(a.get("matrix", "")) for a in attrs_of], dtype=object),
        "layer": [int(a.get("layer", -1)) for a in attrs_of],
    }  # fmt: skip
    return xr.Dataset(
        {name: ("place", values) for name, values in columns.items()},
        attrs={
            "kind": "places", "along": along, "n": n, "n_random": n_random, "seed": seed,
            **joined_selection(importance.attrs).attrs,
            **source_attrs(importance.dataset.attrs),
        },
    )  # fmt: skip
