"""A model without some of its neurons: smaller, saved as any other, and what it says of itself."""

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from ... import _version
from ...store.errors import InputError, MissingFileError
from ...store.provenance import digest_bytes, now
from ...store.selection import Selection
from ..lesions.kinds import check_kind
from ..lesions.masks import Mask, full_mask, read_mask
from ..lesions.reference import mean_activation
from ..models import LoadedModel, ModelLike, load_model
from ..pretrained import quiet_library
from ..sites import find_taps
from .cutting import Float64, Mlp, cut, down_weight, find_mlps

_RECORD = "pruning.json"
Bool = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class PrunedModel(LoadedModel):
    """A model that `prune` made; it can be given wherever a model is asked for.

    Attributes
    ----------
    record
        What was done, also written beside the weights: ``model`` (identity of the original),
        ``removed`` and ``filled`` (neurons taken from each layer, and neurons of zero weights put in
        to make the layers alike), ``width``, ``kept`` (the number in the original of each layer's
        neurons), ``compensate``, ``reference``, ``selected_on``.
    """

    record: dict[str, Any]

    @classmethod
    def read(cls, folder: str | os.PathLike[str], *, device: str | None = None) -> "PrunedModel":
        """Load a model that `prune` saved.

        Raises
        ------
        MissingFileError
            There is none in the folder.
        """
        path = Path(folder) / _RECORD
        if not path.is_file():
            raise MissingFileError(f"{os.fspath(folder)} holds no pruned model: no {_RECORD} in it")
        return cls._of(load_model(folder, device=device), json.loads(path.read_text(encoding="utf-8")))

    @classmethod
    def _of(cls, loaded: LoadedModel, record: dict[str, Any]) -> "PrunedModel":
        return cls(loaded.module, loaded.tokenizer, loaded.name, loaded.revision, record)


def prune(
    model: ModelLike,
    mask: Mask,
    out: str | os.PathLike[str] | None = None,
    *,
    site: str = "mlp",
    compensate: bool = False,
    reference: xr.Dataset | None = None,
    fill: bool = False,
    device: str | None = None,
) -> PrunedModel:
    """Cut neurons out of a model: the same logits as under their zero lesion, from fewer parameters.

    A neuron of the MLP goes with its rows of the maps into the MLP, their biases, and its column of
    the map back. Attention, norms and embeddings are copied as they are; the model that was given
    stays whole. In memory there are both.

    Parameters
    ----------
    model, device
        As for `record`.
    mask
        The neurons to remove, as for `lesion`: one network of `threshold` or `networks`, say.
    out
        Folder for the smaller model and its tokenizer, which ``from_pretrained`` loads; it must not
        be there, or be empty.
    site
        "mlp": the neurons of other sites are the width of the model itself.
    compensate
        Add what the removed neurons write on average to the bias of the map back: the logits are
        those under a "mean" lesion. A Llama model gets the biases it lacks; kinds whose
        configuration knows none are refused.
    reference
        For `compensate`: a recording of the site, whose prompts are averaged over.
    fill
        The configurations hold one width for all layers. Where the mask leaves more neurons in some
        layers than in others, the widest sets it, and the others are filled up with neurons whose
        weights are zero: they change nothing, but they are not saved either.

    Raises
    ------
    InputError
        The model is of a kind that is not known, its maps are quantised or adapted; the mask does
        not fit, removes nothing, leaves a model without neurons, or leaves layers unlike without
        `fill`; no bias can be held; `reference` and `compensate` do not go together; `out` is taken.
    """
    if site != "mlp":
        raise InputError(
            f"only the site 'mlp' can be pruned, got {site!r}: the others are as wide as the model"
        )
    if compensate is (reference is None):
        raise InputError(
            "compensate=True needs `reference`, a recording of the site; without it leave both out"
        )
    check_kind("zero", None, reference)
    folder = None if out is None else _free(Path(out))
    if isinstance(mask, (str, os.PathLike)):
        mask = read_mask(mask)
    loaded = load_model(model, device=device)
    taps = find_taps(loaded.module, site)
    shape = (len(taps), taps[0].width)
    removed = full_mask(mask, *shape, site)
    kept = [np.flatnonzero(~layer) for layer in removed]
    _check_sizes([len(neurons) for neurons in kept], shape[1], fill)
    mlps = find_mlps(loaded.module, taps)
    shifts = None if reference is None else _shifts(mlps, removed, mean_activation(reference, shape, site))
    smaller = cut(loaded.module, mlps, [k.tolist() for k in kept], shifts)
    width = max(map(len, kept))
    record = {
        "kind": "pruning",
        "model": loaded.identity(),
        "mask_digest": digest_bytes(np.packbits(removed).tobytes()),
        "width_before": shape[1],
        "width": width,
        "removed": removed.sum(axis=1).tolist(),
        "filled": [width - len(neurons) for neurons in kept],
        "kept": [neurons.tolist() for neurons in kept],
        "compensate": compensate,
        "reference": None if reference is None else reference.attrs.get("manifest_digest", ""),
        **_selection(mask),
        "actome": _version.__version__,
        "created": now(),
    }
    name = f"{loaded.name} (pruned)" if folder is None else str(folder)
    pruned = PrunedModel(smaller, loaded.tokenizer, name, None, record)
    if folder is not None:
        _save(pruned, folder)
    return pruned


def _free(folder: Path) -> Path:
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise InputError(f"{folder} is taken; choose another folder or remove it")
    return folder


def _check_sizes(sizes: Sequence[int], width: int, fill: bool) -> None:
    if min(sizes) == width:
        raise InputError("the mask removes no neuron, so there is nothing to prune")
    if max(sizes) == 0:
        raise InputError("the mask removes every neuron of every layer; a model needs some")
    if max(sizes) == width and fill:
        raise InputError(
            f"layer {sizes.index(width)} keeps all its {width} neurons, and layers have one width, so "
            "nothing would be saved; take some of every layer, or use actome.lesion"
        )
    if len(set(sizes)) > 1 and not fill:
        raise InputError(
            f"the mask leaves {min(sizes)} to {max(sizes)} neurons a layer, and a configuration holds one "
            "number: take as many of each layer, or set fill=True to fill up the smaller layers with zeros"
        )


def _shifts(mlps: Sequence[Mlp], removed: Bool, means: Float64) -> Float64:
    """Return what the removed neurons of each layer write on average: (layer, hidden)."""
    gone = [np.flatnonzero(layer) for layer in removed]
    return np.stack(
        [means[i, neurons] @ down_weight(mlps[i].down, neurons) for i, neurons in enumerate(gone)]
    )


def _selection(mask: Mask) -> dict[str, list[str] | None]:
    """Say which prompts selected the neurons; ``selected_on`` is None where the mask does not say."""
    selected = Selection.noted(mask.attrs) if isinstance(mask, xr.DataArray) else None
    return {"selected_on": None} if selected is None else {**selected.attrs}


def _save(pruned: PrunedModel, folder: Path) -> None:
    """Write beside the place, then move there: what is there is always whole."""
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    module: Any = pruned.module
    try:
        with quiet_library(report=True):
            module.save_pretrained(partial)
        pruned.tokenizer.save_pretrained(partial)
        (partial / _RECORD).write_text(json.dumps(pruned.record, indent=1), encoding="utf-8")
        if folder.exists():
            folder.rmdir()
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
