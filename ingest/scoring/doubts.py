"""What a scoring does all the same, and says: an empty network, masks or a reference of another model."""

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import xarray as xr

from ...store.provenance import weights_of
from .lesions import Bool, Networks


def warn_of_empty(targets: Mapping[str, Bool], *, keep_only: bool) -> None:
    """Warn of networks without a neuron, by name."""
    empty = [name for name, target in targets.items() if not target.any()]
    if empty:
        does = "changes every neuron of the site" if keep_only else "changes nothing"
        names = ", ".join(map(repr, empty))
        warnings.warn(f"no neuron is in {names}: the lesion of such a network {does}", stacklevel=3)


def warn_of_another_model(masks: Networks, reference: xr.Dataset | None, own: str) -> dict[str, Any]:
    """Warn where masks or the reference are known to be of other weights than those that are scored.

    Parameters
    ----------
    masks, reference
        As `score` takes them.
    own
        Digest of the weights of the model that is scored.

    Returns
    -------
    What the attributes of the scores say of it: ``other_weights``, of "masks" and "reference" the digests.
    """
    found = {"masks": sorted(_of_others(masks, own))}
    if reference is not None:
        found["reference"] = [] if weights_of(reference.attrs) in ("", own) else [weights_of(reference.attrs)]
    other = {what: digests for what, digests in found.items() if digests}
    if not other:
        return {}
    warnings.warn(
        f"the {' and the '.join(other)} come from a model of other weights than the one that is scored, so "
        "that a neuron of the same number may do something else; the scores say so (attrs['other_weights'])",
        stacklevel=3,
    )
    return {"other_weights": other}


def _of_others(masks: Networks, own: str) -> Iterator[str]:
    """Go through the digests of the weights behind each mask that is of none of a model's own."""
    for mask in masks.values() if isinstance(masks, Mapping) else [masks]:
        noted = getattr(mask, "attrs", {}).get("weights_digest", "")
        known = {str(d) for d in ([noted] if isinstance(noted, str) else noted)} - {""}
        if own not in known:
            yield from known
