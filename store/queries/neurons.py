"""Questions about neurons and tokens, answered from the index where there is one.

The index is asked only about a Dataset as it was opened. One that was sliced, masked or changed is
read instead, so that an answer is always about the numbers given.
"""

import difflib
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr
import zarr

from ..archive import Opened, array_of, opened_from
from ..blocks import activation_array, level_of, valid_tokens
from ..errors import InputError
from ..index.build import K, index_of, index_source
from ..index.extremes import BothEnds
from ..index.parquet import token_ids
from ..moments import Measure, check_measure
from .places import describe_tokens

Ends = tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]  # value, prompt, token: (end, rank)


def top_tokens(
    ds: xr.Dataset, *, layer: int, neuron: int, k: int = 20, measure: Measure = "magnitude"
) -> pd.DataFrame:
    r"""Return the tokens on which a neuron is strongest, with the text around them.

    Parameters
    ----------
    ds
        The cube, from `actome.open`.
    layer, neuron
        Their numbers.
    k
        How many tokens.
    measure
        ``"magnitude"`` ranks by \|activation\|, ``"signed"`` by the activation itself.

    Returns
    -------
    DataFrame
        One row a token, the strongest first: ``activation`` (model units), ``prompt``, ``token``
        (place along the token axis), and, where the recording has them, ``token_id``, ``text`` (of the
        token), ``before`` and ``after`` (up to 40 characters of the prompt) and ``condition``.

    Raises
    ------
    InputError
        `ds` holds no cube, there is no such layer or neuron, or `k` is below 1.
    """
    check_cube(ds)
    check_k(k)
    check_measure(measure)
    place = place_of(ds, "layer", layer), place_of(ds, "neuron", neuron)
    index = index_group(ds) if k <= K else None
    ends = _scanned(ds, *place, k) if index is None else _looked_up(index, *place)
    value, prompt, token = (x[: 2 if measure == "magnitude" else 1].ravel() for x in ends)
    strength = np.abs(value) if measure == "magnitude" else value
    where = prompt.astype(np.int64) * ds.sizes["token"] + token
    _, first = np.unique(where, return_index=True)  # where tokens are few, some are at both ends
    chosen = first[prompt[first] >= 0]
    chosen = chosen[np.lexsort((where[chosen], -strength[chosen]))][:k]
    table = describe_tokens(ds, prompt[chosen], token[chosen])
    table.insert(0, "activation", value[chosen].astype(np.float64))
    return table


def firing_neurons(ds: xr.Dataset, *, prompt: str, token: int, k: int = 20) -> pd.DataFrame:
    """Return the neurons for which one token is most unusual.

    How unusual is measured against the neuron's own distribution over the recording: the distance
    from its median, in units of the distance from the median to the 1st or the 99th percentile,
    whichever is larger. A token beyond 1 in magnitude is among the neuron's rarest.

    Parameters
    ----------
    ds
        The cube of an indexed recording, as `actome.open` gave it.
    prompt
        Id of a prompt.
    token
        Place along the token axis.
    k
        How many neurons.

    Returns
    -------
    DataFrame
        One row a neuron, the most unusual first: ``layer``, ``neuron``, ``activation`` (model
        units), ``median``, ``surprise`` (signed, in the unit described above).

    Raises
    ------
    InputError
        There is no such prompt or token, `k` is below 1, or there is no index: `actome index` builds one.
    """
    check_cube(ds)
    check_k(k)
    index = _needed_index(ds)
    where = {"prompt": place_of(ds, "prompt", prompt), "token": token}
    if not 0 <= token < ds.sizes["token"] or not valid_tokens(ds.isel(prompt=[where["prompt"]]))[0, token]:
        raise InputError(f"prompt {prompt!r} has no token {token}")
    value = ds["activation"].isel(where).transpose("layer", "neuron").to_numpy().astype(np.float64)
    quantile, levels = (np.asarray(array_of(index, name)[:]) for name in ("quantile_value", "quantile"))
    low, median, high = (quantile[np.argmin(np.abs(levels - q))] for q in (0.01, 0.5, 0.99))
    with np.errstate(divide="ignore", invalid="ignore"):
        surprise = (value - median) / np.maximum(high - median, median - low)
    surprise[value == median] = 0.0  # also for a neuron that never moves
    order = np.argsort(-np.abs(surprise), axis=None, kind="stable")[:k]  # NaN comes last
    i, j = np.unravel_index(order, surprise.shape)
    return pd.DataFrame(
        {
            "layer": numbers(ds, "layer")[i],
            "neuron": numbers(ds, "neuron")[j],
            "activation": value[i, j],
            "median": median[i, j],
            "surprise": surprise[i, j],
        }
    )


def token_neurons(ds: xr.Dataset, *, token: int | str, k: int = 20) -> pd.DataFrame:
    """Return the neurons whose strongest tokens are most often one and the same.

    Parameters
    ----------
    ds
        The cube of an indexed recording, as `actome.open` gave it.
    token
        Its number in the tokenizer's vocabulary, or its text as it stands in the prompts.
    k
        How many neurons.

    Returns
    -------
    DataFrame
        One row a neuron: ``layer``, ``neuron``, ``end`` ("high": its largest activations; "low": its
        smallest), ``share`` of its 32 strongest tokens at that end that are this one, ``activation``
        (their mean, model units). Neurons for which it is none are left out.

    Raises
    ------
    InputError
        The recording has no token ids, none that are `token`, or no index: `actome index` builds one; `k`
        is below 1.
    """
    check_cube(ds)
    check_k(k)
    if "token_id" not in ds.variables:
        raise InputError("the recording has no token_id; firing_neurons asks about one place in it")
    index = _needed_index(ds)
    wanted = _ids_of(ds, token) if isinstance(token, str) else [token]
    ids = ds["token_id"].transpose("prompt", "token").to_numpy()
    found = []
    for i, layer in enumerate(numbers(ds, "layer")):
        value, prompt, place = (
            np.asarray(array_of(index, f"extreme_{n}")[:, :, i]) for n in ("value", "prompt", "token")
        )
        there = prompt >= 0
        hit = there & np.isin(ids[prompt, place], wanted)  # (end, rank, neuron)
        end, neuron = np.nonzero(hit.any(axis=1))
        n_hits = hit.sum(axis=1)[end, neuron]
        total = np.where(hit, value, 0.0).sum(axis=1)[end, neuron]
        found.append(
            pd.DataFrame(
                {
                    "layer": layer,
                    "neuron": numbers(ds, "neuron")[neuron],
                    "end": np.array(["high", "low"], dtype=object)[end],
                    "share": n_hits / there.sum(axis=1)[end, neuron],
                    "activation": total / n_hits,
                }
            )
        )
    table = pd.concat(found)
    table["strength"] = table["activation"].abs()
    table = table.sort_values(["share", "strength"], ascending=False, kind="stable")
    return table.drop(columns="strength").head(k).reset_index(drop=True)


def _ids_of(ds: xr.Dataset, text: str) -> list[int]:
    """Return the ids of the tokens that stand for a text somewhere in the recording."""
    source = _source(ds)
    ids = token_ids(index_of(source.location), text) if source is not None else []
    if not ids:
        raise InputError(f"no token of the recording is {text!r}; white space before a word belongs to it")
    return ids


def check_k(k: int) -> None:
    """Refuse to return fewer than one."""
    if k < 1:
        raise InputError(f"k must be at least 1, got {k}")


def check_cube(ds: xr.Dataset) -> None:
    """Refuse a Dataset without the cube."""
    if level_of(ds) != "token":
        raise InputError("this is about tokens, and the Dataset holds moments; open it with level='token'")


def numbers(ds: xr.Dataset, dim: str) -> npt.NDArray[Any]:
    """Return what the entries along a dimension are called."""
    return np.asarray(ds[dim].to_numpy() if dim in ds.coords else np.arange(ds.sizes[dim]))


def place_of(ds: xr.Dataset, dim: str, name: Any) -> int:
    """Return where a layer, a neuron or a prompt lies.

    Raises
    ------
    InputError
        There is none of that name.
    """
    names: list[Any] = numbers(ds, dim).tolist()
    if name not in names:
        close = difflib.get_close_matches(name, map(str, names[:10_000]), n=1) if dim == "prompt" else []
        hint = f"did you mean {close[0]!r}?" if close else f"they go from {names[0]!r} to {names[-1]!r}"
        raise InputError(f"there is no {dim} {name!r} among {len(names)}; {hint}")
    return names.index(name)


def _source(ds: xr.Dataset) -> Opened | None:
    """Where a Dataset comes from; None where what decides which numbers are asked about was changed."""
    return opened_from(*(ds[v] for v in ("activation", "token_id") if v in ds.variables))


def index_group(ds: xr.Dataset) -> zarr.Group | None:
    """Return the index of a Dataset as it was opened; None where there is none that is about it."""
    source = _source(ds)
    if source is None or index_source(source.location) != source.digest:
        return None
    group = index_of(source.location).group()
    site = group[source.site] if source.site in group else None
    return site if isinstance(site, zarr.Group) else None


def _needed_index(ds: xr.Dataset) -> zarr.Group:
    index = index_group(ds)
    if index is None:
        raise InputError(
            "this needs the index of a recording as it was opened; build it with `actome index`, "
            "and give the Dataset that actome.open returned"
        )
    return index


def _looked_up(index: zarr.Group, layer: int, neuron: int) -> Ends:
    """Read the extremes of one neuron from the index."""
    value, prompt, token = (
        np.asarray(array_of(index, f"extreme_{n}")[:, :, layer, neuron]) for n in ("value", "prompt", "token")
    )
    return value, prompt, token


def _scanned(ds: xr.Dataset, layer: int, neuron: int, k: int) -> Ends:
    """Find the extremes of one neuron in the cube, one chunk of prompts at a time."""
    cube = activation_array(ds)[:, :, layer : layer + 1, neuron : neuron + 1]
    valid, n_tokens, start = valid_tokens(ds), ds.sizes["token"], 0
    ends = BothEnds(k, 1, cube.dtype)
    for n_prompts in cube.chunks[0]:
        prompts = slice(start, start + n_prompts)
        rows = cube[prompts].compute()[..., 0][valid[prompts]]  # (row, neuron)
        ends.add(rows, np.flatnonzero(valid[prompts]) + start * n_tokens)
        start += n_prompts
    value, row = (x[..., 0] for x in ends.result())
    prompt, token = (np.where(row >= 0, x, -1) for x in divmod(row, n_tokens))
    return value, prompt, token
