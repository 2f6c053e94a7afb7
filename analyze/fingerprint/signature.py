"""Signature of a model: what its networks do, character by character, on texts that others can show too."""

import numpy as np
import xarray as xr

from ...store.arguments import check_seed
from ...store.blocks import activation_array, level_of, valid_tokens
from ...store.errors import InputError, InputTypeError
from ...store.moments import Float64
from ...store.provenance import source_attrs
from ...store.schema import text_array
from ..components.ica import group_ica
from ..components.map_thresholds import FAR_OUT
from ..components.networks import component_names, networks
from ..components.scaling import Scaling, scaling
from ..subjects.projection import over_neurons
from ..threshold import Top, Z

_LABELS = ("text", "condition", "block", "run")


def signature(
    ds: xr.Dataset,
    *,
    components: xr.Dataset | None = None,
    n_components: int = 64,
    network: Z | Top = FAR_OUT,
    n_runs: int = 1,
    seed: int = 0,
) -> xr.Dataset:
    """Time courses of a model's networks: all that `fingerprint` needs of a model, and small enough to send.

    Computed here, on the active Dask scheduler: the cube is read in blocks, and what is held are the
    courses (token x network). Tokens without characters, such as the one that begins a text, take no
    part, as another tokenizer may lack them.

    Parameters
    ----------
    ds
        A recording at the level of tokens, with ``char_start`` and ``char_end``.
    components
        From `group_ica`, of the same layers and neurons; by default the recording is decomposed here.
    n_components, n_runs, seed
        Of that decomposition, see `group_ica`; neurons are given unit variance. One run is quick, but may
        miss sources that another finds, which makes related models less alike; give several where they share
        many neurons.
    network
        The neurons of a network, by the magnitude of its map: ``Z(3.6)``, standard deviations from the
        mean over neurons, or ``Top(0.01)``.

    Returns
    -------
    Dataset

    course : (prompt, token, network), mean activation of the network's neurons, each in standard
        deviations over tokens and with the sign that it has in the map; NaN where a token has no
        characters, and for a network without neurons
    size : (network), its neurons
    char_start, char_end : (prompt, token), the token's span in the text, -1 for one that took no part

    The numbers stay the same when neurons change places or are multiplied by positive numbers.

    Raises
    ------
    InputError, InputTypeError
        The recording has no tokens, no spans, or the components are of other neurons.

    References
    ----------
    .. [1] Liu et al. (2026), arXiv 2601.22692.
    """
    check_recording(ds, network)
    check_seed(seed)
    if components is not None:
        _check_components(components, ds)
    shown = with_characters(ds)
    if components is None:
        components = group_ica(shown, n_components=n_components, n_runs=n_runs, seed=seed, null=0)
    masks = networks(components, network, two_sided=True, keep_all=True)
    scale, valid = scaling(shown, standardize=True), valid_tokens(shown)
    weights = _weights(components["component_map"], masks, scale)
    size = (weights != 0).sum(axis=(0, 1))
    course: Float64 = over_neurons(activation_array(shown), valid, scale, weights).compute()  # type: ignore[no-untyped-call]
    course[:, :, size == 0] = np.nan
    coords = {c: ("prompt", ds[c].to_numpy()) for c in _LABELS if c in ds.variables}
    names = component_names(components["component"])
    spans = {
        v: (("prompt", "token"), np.where(valid, ds[v].transpose("prompt", "token").to_numpy(), -1))
        for v in ("char_start", "char_end")
    }
    return xr.Dataset(
        {"course": (("prompt", "token", "network"), course), "size": ("network", size), **spans},
        coords={"prompt": text_array(ds["prompt"].to_numpy()), "network": text_array(names), **coords},
        attrs={
            "kind": "signature",
            "method": components.attrs.get("method", ""),
            "n_components": len(names),
            "network": repr(network),
            "n_runs": components.attrs.get("n_runs", 1),
            "seed": components.attrs.get("seed", seed),
            **source_attrs(ds.attrs),
        },
    )


def with_characters(ds: xr.Dataset) -> xr.Dataset:
    """Leave out of the valid tokens those that stand for no character of the text."""
    start, end = (ds[v].transpose("prompt", "token").to_numpy() for v in ("char_start", "char_end"))
    kept = valid_tokens(ds) & (start >= 0) & (end > start)
    if not kept.any():
        raise InputError("no token of the recording stands for a character of its text")
    ids = (
        ds["token_id"].transpose("prompt", "token").to_numpy()
        if "token_id" in ds.variables
        else np.zeros(kept.shape, dtype=np.int32)
    )
    return ds.assign(token_id=(("prompt", "token"), np.where(kept, ids, -1)))


def check_recording(ds: xr.Dataset, network: object) -> None:
    """Refuse what has no signature."""
    if level_of(ds) != "token":
        raise InputError("a signature needs the activations of tokens; open the recording with level='token'")
    missing = [v for v in ("char_start", "char_end") if v not in ds.variables]
    if missing:
        raise InputError(
            f"the recording has no {' and '.join(missing)}, by which the tokens of two models are aligned; "
            "record it with actome.record, or add them"
        )
    if not isinstance(network, Z | Top):
        raise InputTypeError(f"network must be Z(...) or Top(...), got {network!r}")


def _check_components(components: object, ds: xr.Dataset) -> None:
    if not isinstance(components, xr.Dataset) or "component_map" not in components:
        raise InputTypeError("components must come from actome.group_ica")
    for dim in ("layer", "neuron"):
        if not np.array_equal(components[dim].to_numpy(), ds[dim].to_numpy()):
            raise InputError(
                f"the components and the recording differ in {dim}: {components.sizes[dim]} and "
                f"{ds.sizes[dim]} of them, or others; give components of this model and site"
            )


def _weights(maps: xr.DataArray, masks: xr.DataArray, scale: Scaling) -> Float64:
    """Weight of every neuron in a network's course: (layer, neuron, network)."""
    values, kept = (x.transpose("layer", "neuron", ...).to_numpy() for x in (maps, masks))
    kept = kept & (scale.factor != 0).reshape(*kept.shape[:2], 1)
    size = kept.sum(axis=(0, 1))
    return np.asarray(np.where(kept, np.sign(values), 0.0) / np.maximum(size, 1))
