"""What recordings must share to be joined, which prompts are taken, and what is said of the whole."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ..encoding import pad
from ..errors import InputError, short
from ..licence import combine
from .chain import Chain, Numbering
from .finished import Finished

Duplicates = Literal["refuse", "skip"]
Rows = npt.NDArray[np.int64]

# What follows from the prompts and not from the model; `dtype` is that of the arrays, compared there.
_OF_THE_PROMPTS = {"paradigm", "paradigm_digest", "tokens_digest", "source_digest", "labels_digest", "dtype"}
_OF_THE_SITE = ("layers", "neurons", "dtype", "cube")


def join(sources: Sequence[Finished], *, runs: Numbering, duplicates: Duplicates) -> Chain:
    """Chain recordings of the same model.

    Parameters
    ----------
    sources
        At least two.
    runs
        "keep", or "renumber": ``run`` and ``block`` go on from source to source.
    duplicates
        "refuse" a prompt id that stands twice, or "skip" it where all its labels and tokens are the same.

    Raises
    ------
    InputError
        An option is none of these; the recordings are of different models, settings or shapes; a prompt
        stands in two of them.
    """
    if runs not in ("keep", "renumber"):
        raise InputError(f"runs must be 'keep' or 'renumber', got {runs!r}")
    if duplicates not in ("refuse", "skip"):
        raise InputError(f"duplicates must be 'refuse' or 'skip', got {duplicates!r}")
    for other in sources[1:]:
        _check_alike(sources[0], other)
    chain = Chain(tuple(sources), _new_rows(sources, duplicates), runs)
    chain.labels  # noqa: B018  columns that do not join are refused here, before anything is written
    return chain


def _check_alike(a: Finished, b: Finished) -> None:
    where = f"{a.location} and {b.location}"
    if set(a.sites) != set(b.sites):
        raise InputError(f"{where} do not join: sites {sorted(a.sites)} against {sorted(b.sites)}")
    for site in a.sites:
        for what in _OF_THE_SITE:
            one, two = getattr(a.sites[site], what), getattr(b.sites[site], what)
            if one != two:
                raise InputError(
                    f"{where} do not join: {what} of site {site!r} are {short(one)} against {short(two)}"
                    + ("; cast one of them" if what == "dtype" else "")
                )
    mine, theirs = a.provenance.get("inputs", {}), b.provenance.get("inputs", {})
    names = sorted((mine.keys() | theirs.keys()) - _OF_THE_PROMPTS)
    differing = [name for name in names if mine.get(name) != theirs.get(name)]
    if differing:
        what = "; ".join(f"{n}: {short(mine.get(n))} against {short(theirs.get(n))}" for n in differing)
        raise InputError(f"{where} were recorded differently ({what}); record them alike to join them")
    if ("token_id" in a.token_variables) != ("token_id" in b.token_variables):
        raise InputError(f"{where} do not join: one of them has no token_id, which says what padding is")


def _new_rows(sources: Sequence[Finished], duplicates: Duplicates) -> tuple[Rows, ...]:
    """Per source, the rows whose prompt stands in no source before."""
    seen: dict[str, tuple[Finished, int]] = {}
    rows: list[Rows] = []
    clashes: list[str] = []
    for source in sources:
        ids = source.read("prompt")
        twice = np.array([row for row, name in enumerate(ids) if name in seen], dtype=np.int64)
        if duplicates == "refuse":
            clashes += ids[twice].tolist()
        else:
            clashes += ids[_differing(source, twice, [seen[ids[row]] for row in twice])].tolist()
        new = np.setdiff1d(np.arange(len(ids)), twice)
        seen |= {ids[row]: (source, int(row)) for row in new}
        rows.append(new)
    if clashes:
        hint = (
            "give them other ids, or skip those that are the same with duplicates='skip' (--duplicates skip)"
            if duplicates == "refuse"
            else "their labels or tokens differ, so none can be skipped; give them other ids"
        )
        raise InputError(f"{len(clashes)} prompts stand in two recordings, such as {clashes[:3]}; {hint}")
    return tuple(rows)


def _differing(source: Finished, rows: Rows, there: Sequence[tuple[Finished, int]]) -> Rows:
    """Return the rows that are not what stands there already: increasing."""
    differing = [np.zeros(0, dtype=np.int64)]
    for before in {id(other): other for other, _ in there}.values():
        places = np.array([i for i, (other, _) in enumerate(there) if other is before])
        mine, theirs = rows[places], np.array([there[i][1] for i in places])
        units = np.split(np.arange(len(mine)), np.flatnonzero(np.diff(mine // source.unit)) + 1)
        differing += [mine[u][~_equal_prompts(source, mine[u], before, theirs[u])] for u in units]
    return np.sort(np.concatenate(differing))


def _equal_prompts(a: Finished, rows_a: Rows, b: Finished, rows_b: Rows) -> npt.NDArray[np.bool_]:
    """Say which prompts have the same tokens and labels, as far as both recordings have them: (prompt,)."""
    same = np.ones(len(rows_a), dtype=bool)
    for name in {*a.columns} & {*b.columns} | {"n_tokens"}:
        mine, theirs = a.read(name, rows_a), b.read(name, rows_b)
        same &= (mine == theirs) | ((mine != mine) & (theirs != theirs))  # NaN is equal to NaN here
    if "token_id" in a.token_variables:
        shape = (len(rows_a), max(a.n_tokens, b.n_tokens))
        mine, theirs = (pad(s.read("token_id", rows), shape, -1) for s, rows in ((a, rows_a), (b, rows_b)))
        same &= (mine == theirs).all(axis=1)
    return same


def joined_provenance(sources: Sequence[Finished]) -> dict[str, Any]:
    """Say of the whole what the sources say alike, and list what they say differently.

    The licence is the conjunction of theirs, unknown where one is; the time is that of the last.
    """
    parts = [source.provenance for source in sources]
    out: dict[str, Any] = _joined(parts)
    if "licence" in out:
        out["licence"] = combine([part.get("licence") for part in parts])
    if "created" in out:
        out["created"] = max(part["created"] for part in parts if "created" in part)
    return out


def _joined(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    out = {}
    for name in dict.fromkeys(name for part in parts for name in part):
        values = [part[name] for part in parts if name in part]
        if all(value == values[0] for value in values):
            out[name] = values[0]
        elif all(isinstance(value, dict) for value in values):
            out[name] = _joined(values)
        else:
            flat = [v for value in values for v in (value if isinstance(value, list) else [value])]
            out[name] = [v for i, v in enumerate(flat) if v not in flat[:i]]
    return out
