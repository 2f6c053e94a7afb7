"""What is scored: the regions of a tree, or masks by name, and what each says of itself."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import xarray as xr
from torch import nn

from ...store.errors import InputError, InputTypeError
from ...store.provenance import digest_bytes, digest_json
from ...store.regions import check_regions, labels_of, masks, region_names
from ...store.selection import Selection, joined_selection
from ..parameters import parameters_by_name
from .lesions import Places, check_places, pick_region, places_of

One: TypeAlias = xr.DataTree | Mapping[str, npt.NDArray[np.bool_]]
Regions: TypeAlias = xr.DataTree | Mapping[str, One]


@dataclass(frozen=True)
class Targets:
    """Regions by name.

    Attributes
    ----------
    names
        In order.
    roles, tops
        What the regions say of themselves: "" and NaN where they say nothing.
    attrs
        For the attributes of their scores: what selected them, and what they are derived from.
    silent
        Those that do not say which prompts selected them, where others do.
    """

    names: list[str]
    roles: list[str]
    tops: list[float]
    attrs: dict[str, Any]
    silent: list[str]
    _regions: Regions

    @classmethod
    def of(cls, regions: Regions) -> "Targets":
        """Take a tree of regions, or what `region_lesion` takes, by name.

        Raises
        ------
        InputError, InputTypeError
            It is neither, or empty; a tree in a mapping is not one region.
        """
        if isinstance(regions, xr.DataTree) or not isinstance(regions, Mapping):
            tree = check_regions(regions)
            labels = labels_of(tree, "role"), _tops(tree)
            return cls(region_names(tree), *labels, _sources([tree]), [], tree)
        if not regions or not all(isinstance(name, str) and name for name in regions):
            raise InputTypeError(f"regions must be a DataTree, or one or more by name; got {list(regions)}")
        for name, one in regions.items():
            if isinstance(one, xr.DataTree) and len(region_names(check_regions(one))) != 1:
                raise InputError(f"{name!r} must be one region, got {region_names(one)}; use `pick_region`")
            if not isinstance(one, Mapping):
                raise InputTypeError(
                    f"{name!r} must be one region, or weight tensor name -> mask; got {type(one).__name__}"
                )
        trees = {name: one for name, one in regions.items() if isinstance(one, xr.DataTree)}
        roles = [labels_of(trees[name], "role")[0] if name in trees else "" for name in regions]
        tops = [_tops(trees[name])[0] if name in trees else float("nan") for name in regions]
        telling = [name for name, one in trees.items() if one.attrs.get("selected_on") is not None]
        silent = [name for name in regions if name not in telling] if telling else []
        attrs = _sources(trees.values())
        return cls(list(regions), roles, tops, attrs, silent, regions)

    @property
    def selected(self) -> Selection | None:
        """The prompts that selected them; None where nothing says."""
        return Selection.noted(self.attrs)

    def places(self, name: str) -> Places:
        """Return where one of them is."""
        if isinstance(self._regions, xr.DataTree):
            return places_of(pick_region(self._regions, name))
        return places_of(self._regions[name])

    def check(self, module: nn.Module) -> None:
        """Refuse regions that do not fit the model, or name one of its tensors twice.

        Raises
        ------
        InputError, InputTypeError
            There is such a region.
        """
        known = parameters_by_name(module)
        for one in [self._regions] if isinstance(self._regions, xr.DataTree) else self._regions.values():
            check_places(module, one)
            names = [name for name, _ in masks(one)] if isinstance(one, xr.DataTree) else list(one)
            first: dict[int, str] = {}
            for name in names:
                if first.setdefault(id(known[name]), name) != name:
                    raise InputError(
                        f"{first[id(known[name])]} and {name} are one tensor; name it once, so that the "
                        "controls have as many of its values"
                    )

    def digest(self) -> str:
        """Digest of the masks, by tensor, and of the names."""
        if isinstance(self._regions, xr.DataTree):
            return regions_digest(self._regions)
        return digest_json([[name, _digest(one)] for name, one in self._regions.items()])


def regions_digest(regions: xr.DataTree) -> str:
    """Digest of the masks, by tensor, and of the regions' names."""
    parts = [_bits(m.to_numpy()) for _, m in masks(regions)]
    return digest_json([region_names(regions), [name for name, _ in masks(regions)], parts])


def _digest(one: One) -> str:
    if isinstance(one, xr.DataTree):
        return regions_digest(one)
    return digest_json({name: _bits(mask) for name, mask in one.items()})


def _bits(mask: npt.NDArray[np.bool_]) -> str:
    return digest_bytes(np.packbits(mask, axis=-1).tobytes())


def _sources(trees: Collection[xr.DataTree]) -> dict[str, Any]:
    attrs = [{str(name): value for name, value in one.attrs.items()} for one in trees]
    digests = list(dict.fromkeys(str(a["manifest_digest"]) for a in attrs if a.get("manifest_digest")))
    is_known = any(Selection.noted(a) is not None for a in attrs)
    return {
        **(joined_selection(*attrs).attrs if is_known else {}),
        **({"derived_from": digests} if digests else {}),
    }


def _tops(regions: xr.DataTree) -> list[float]:
    if "top" not in regions.coords:
        return [float("nan")] * len(region_names(regions))
    return [float(t) for t in regions["top"].to_numpy()]
