"""Which models can be compared: the scores of unrelated ones must have come about as that of the second has.

Scores rise as networks become fewer, and change with their size: a model is placed among others only where
all are described by as many networks, found in the same way.
"""

from collections.abc import Mapping, Sequence

import xarray as xr

from ...store.arguments import whole_number
from ...store.errors import InputError
from ...store.provenance import weights_of
from ..threshold import Top, Z

_DEFAULT = 64  # networks of each model


def is_signature(ds: xr.Dataset) -> bool:
    """Say whether this is what `signature` gives."""
    return ds.attrs.get("kind") == "signature" and "course" in ds


def number_of_networks(given: Sequence[xr.Dataset], asked: int | None) -> int:
    """Return how many networks recordings are decomposed into.

    Raises
    ------
    InputError, InputTypeError
        A signature has another number than was asked for.
    """
    sizes = [int(ds.sizes["network"]) for ds in given if is_signature(ds)]
    if asked is None:
        return sizes[0] if len(set(sizes)) == 1 else _DEFAULT
    asked = whole_number(asked, "n_components", least=1)
    for size in sizes:
        if size != asked:
            raise InputError(
                f"n_components is {asked}, but a signature that was given has {size} networks; leave it out, "
                "or make the signature anew"
            )
    return asked


def check_null(given: Sequence[xr.Dataset], n_components: int, network: Z | Top) -> None:
    """Refuse unrelated models that are no sample of what the second would be, were it unrelated too.

    Parameters
    ----------
    given
        The first, the second, and the unrelated ones.
    n_components, network
        For those that are recordings.

    Raises
    ------
    InputError
        One is given twice, or is the first or the second; or it was not made as the second was.
    """
    for i, ds in enumerate(given[2:], 2):
        for j, other in enumerate(given[:i]):
            if _same(ds, other):
                earlier = "the first model" if j == 0 else "the second model" if j == 1 else _name(given, j)
                raise InputError(
                    f"{_name(given, i)} is {earlier} again: every unrelated model counts once; give others"
                )
    wanted = _made(given[1], n_components, network)
    for i, ds in enumerate(given[2:], 2):
        own = _made(ds, n_components, network)
        for what in wanted:
            if what in own and own[what] != wanted[what]:
                raise InputError(
                    f"{_name(given, i)} and the second model differ in {what}: {own[what]} and "
                    f"{wanted[what]}, so that their scores cannot be compared; make both with the same"
                )


def _same(a: xr.Dataset, b: xr.Dataset) -> bool:
    """Say whether two are known to be of one recording, or of one model."""
    sources = [ds.attrs.get("source" if is_signature(ds) else "manifest_digest", "") for ds in (a, b)]
    models = [weights_of(ds.attrs) for ds in (a, b)]
    return a is b or any(one and one == other for one, other in (sources, models))


def _name(given: Sequence[xr.Dataset], i: int) -> str:
    name = str(given[i].attrs.get("source_name" if is_signature(given[i]) else "name", ""))
    return f"unrelated model {i - 1}" + (f" ({name})" if name else "")


def _made(ds: xr.Dataset, n_components: int, network: Z | Top) -> Mapping[str, object]:
    """Say how a signature was made, or, of a recording, will be."""
    if not is_signature(ds):
        return {"n_components": n_components, "network": repr(network), "n_runs": 1}
    known = {k: ds.attrs[k] for k in ("network", "n_runs", "method") if k in ds.attrs}
    return {"n_components": int(ds.sizes["network"]), **known}
