"""One model for every part of the prompts, so that what is selected in some can be estimated in others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import xarray as xr

from ...store.errors import InputError
from ...store.moments import Measure
from ..contrasts import compute_contrast
from ..glm import fit_glm


@dataclass(frozen=True)
class FoldModel:
    """A contrast of a model, for whichever prompts.

    Attributes
    ----------
    contrast, formula, noise, confounds
        As for `fit_glm` and `compute_contrast`.
    """

    contrast: str | Mapping[str, float]
    formula: str
    noise: Literal["cluster", "cr2"]
    confounds: Sequence[str] | None

    def test(self, moments: xr.Dataset, measure: Measure) -> xr.Dataset:
        """Test the contrast on the prompts that are given."""
        return compute_contrast(self._fit(moments, measure), self.contrast)

    def check(self, labels: xr.Dataset, folds: xr.DataArray) -> None:
        """Refuse folds without enough prompts, and those where the contrast would mean something else.

        Parameters
        ----------
        labels
            Labels of the prompts, and their ``count`` of tokens.
        folds
            bool (fold, prompt), from `held_out`.

        Raises
        ------
        InputError
            The design does not fit the prompts of a fold or the others, or weights other regressors there.
        """
        everything = silent(labels)
        whole = self._coding(everything)
        for fold in folds:
            for where, part in (("of", fold), ("outside", ~fold)):
                prompts = np.flatnonzero(part)
                who = f"the prompts {where} fold {fold['fold'].item()!r} ({len(prompts)})"
                try:
                    coding = self._coding(everything.isel(prompt=prompts))
                except InputError as error:
                    raise InputError(f"{who} do not suffice: {error}") from error
                if not coding.equals(whole.isel(prompt=prompts)):
                    raise InputError(
                        f"the contrast means something else in {who}: it weights {_weights(coding)} there, "
                        f"and {_weights(whole)} in all; give the folds the same conditions, and no term that "
                        "is scaled by the data"
                    )

    def removed(self, labels: xr.Dataset) -> list[str]:
        """Return the confounds whose effects are removed from all prompts together."""
        return list(self._fit(silent(labels), "signed").attrs["confounds"])

    def _fit(self, moments: xr.Dataset, measure: Measure) -> xr.Dataset:
        return fit_glm(moments, self.formula, measure=measure, noise=self.noise, confounds=self.confounds)

    def _coding(self, moments: xr.Dataset) -> xr.Dataset:
        """Return the regressors that the contrast weights: their weights, and their columns of the design."""
        fit = self._fit(moments, "signed")
        weights = np.array(compute_contrast(fit, self.contrast).attrs["weights"])
        coding = xr.Dataset({"weight": ("regressor", weights), "column": fit["design"]})
        return coding.reset_coords(drop=True).isel(regressor=np.flatnonzero(weights))


def _weights(coding: xr.Dataset) -> dict[str, float]:
    names, weights = (coding[v].to_numpy().tolist() for v in ("regressor", "weight"))
    return dict(zip(names, weights, strict=True))


def one_neuron(labels: xr.Dataset, mean: xr.DataArray) -> xr.Dataset:
    """Return the moments of a recording of one neuron, given its mean in each prompt: (prompt,).

    It has no spread within a prompt: noise that is clustered by prompt asks for none.
    """
    values = mean.expand_dims(layer=[0], neuron=[0]).transpose("prompt", "layer", "neuron")
    return labels.assign(mean=values, m2=xr.zeros_like(values), mean_abs=values)


def silent(labels: xr.Dataset) -> xr.Dataset:
    """Return the moments of a recording of one neuron that is always 0, to try a model on the labels."""
    return one_neuron(labels, xr.zeros_like(labels["count"], dtype=np.float64))
