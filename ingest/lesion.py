"""Lesions: neurons silenced or changed while the model runs, and put right afterwards."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import xarray as xr
from torch import nn

from ..store.arguments import check_seed, true_or_false
from ..store.errors import InputError, InputTypeError
from .lesions.change import Change, Target, changed
from .lesions.draws import InOrder
from .lesions.kinds import Kind, check_kind
from .lesions.masks import Mask, full_mask
from .lesions.reference import mean_activation
from .models import LoadedModel, ModelLike, load_model
from .sites import find_taps

__all__ = ["Kind", "Mask", "check_kind", "full_mask", "lesion", "mean_activation"]

_OPTIONS = ("mask", "site", "kind", "amount", "reference", "keep_only", "seed")


@contextmanager
def lesion(
    model: ModelLike,
    mask: Mask | Sequence[Mapping[str, Any]],
    *,
    site: str = "mlp",
    kind: Kind = "zero",
    amount: float | None = None,
    reference: xr.Dataset | None = None,
    keep_only: bool = False,
    seed: int = 0,
) -> Iterator[nn.Module]:
    """Change some neurons of a model as long as the ``with`` block lasts.

    The weights are not touched: afterwards, also after an error, the model computes what it did before,
    bit for bit. Lesions can be nested, and several given at once; where they meet in a neuron, each
    changes what those before it left.

    Parameters
    ----------
    model
        As for `record`; a loaded module is changed in place and restored at the end.
    mask
        The neurons to change. (layer, neuron) bool: a DataArray's ``layer`` and ``neuron`` numbers say
        which, an array covers all layers and neurons of the site. Or a table with these two columns, as
        the queries give it; the path of a saved mask; a rule, a function of the numbers of layers
        (layer, 1) and neurons (1, neuron) that says which are meant. Or a list of lesions, each a
        mapping of this function's arguments: ``[{"mask": a}, {"mask": b, "kind": "add", "amount": 1}]``.
    site
        A key of ``store.schema.SITES``.
    kind
        "zero"; "mean": the neuron's mean over `reference`; "resample": each token takes the values that
        a token of the reference has, drawn at random, the same one for all neurons; "noise": drawn from
        the normal distribution with the neuron's mean and standard deviation over the reference, or,
        without one, normal noise added; "scale": times `amount`; "add": plus `amount`.
    amount
        For "scale"; for "add" in units of the activation; for "noise" the standard deviation, in these
        units, or in multiples of the reference's (1 by default).
    reference
        For "mean", "resample" and "noise": a recording of the same site; for "resample" with its cube.
    keep_only
        Change every neuron of the site but those of the mask.
    seed
        Of "resample" and "noise", whose draws follow the order of the calls of the model.

    Yields
    ------
    The module.

    Raises
    ------
    InputError, InputTypeError
        The mask does not fit the site, or the kind lacks what it needs.
    """
    given: tuple[Any, ...] = (mask, site, kind, amount, reference, keep_only, seed)
    listed = _listed(mask) if isinstance(mask, (list, tuple)) else [dict(zip(_OPTIONS, given, strict=True))]
    for options in listed:
        check_kind(options.get("kind", "zero"), options.get("amount"), options.get("reference"))
        options["seed"] = check_seed(options.get("seed", 0))
        options["keep_only"] = true_or_false(options.get("keep_only", False), "keep_only")
    loaded = load_model(model)
    prepared = [_prepared(loaded, **options) for options in listed]  # all checked before one is applied
    with ExitStack() as stack:
        for context in prepared:
            stack.enter_context(context)
        yield loaded.module


def _listed(lesions: Sequence[Any]) -> list[dict[str, Any]]:
    """Check a list of lesions, each a mapping of arguments."""
    if not lesions or not all(isinstance(options, Mapping) for options in lesions):
        raise InputTypeError(
            "mask must be a DataArray or an array, or a list of lesions, each a mapping such as "
            f"{{'mask': mask, 'kind': 'zero'}}; got {type(lesions).__name__} of "
            f"{sorted({type(options).__name__ for options in lesions})}"
        )
    for options in lesions:
        wrong = sorted(set(options) - set(_OPTIONS)) or ([] if "mask" in options else ["no mask"])
        if wrong:
            raise InputError(f"a lesion of a list takes {list(_OPTIONS)}, and needs `mask`; got {wrong}")
    return [dict(options) for options in lesions]


def _prepared(
    loaded: LoadedModel,
    mask: Mask,
    site: str = "mlp",
    kind: Kind = "zero",
    amount: float | None = None,
    reference: xr.Dataset | None = None,
    keep_only: bool = False,
    seed: int = 0,
) -> Any:
    """Make the context of one lesion, with all that its hooks need."""
    taps = find_taps(loaded.module, site)
    shape = (len(taps), taps[0].width)
    full = full_mask(mask, *shape, site)
    target = Target((~full if keep_only else full)[None], (None if amount is None else float(amount),))
    return changed(taps, Change.of(kind, reference, shape, site, seed), target, InOrder(seed))
