"""Prompts that went through the model again, compared with what a recording holds of them."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .agreement import Agreement, Tolerance
from .plan import Plan
from .recorded import Recorded

Floats = npt.NDArray[Any]

_MASSIVE = 1 / 64  # share of the neurons of a layer that do not decide its scale


@dataclass(frozen=True)
class Computed:
    """Some prompts, as `units.finish` gives them.

    Attributes
    ----------
    labels
        Values of the root variables: (prompt,) or (prompt, token).
    activations, moments
        Per site, of every neuron; no activations where only the moments are kept.
    """

    labels: dict[str, Floats]
    activations: dict[str, Floats]
    moments: dict[str, dict[str, Floats]]

    @property
    def n_prompts(self) -> int:
        """How many there are."""
        return len(self.labels["n_tokens"])

    def tokens(self, i: int, variable: str) -> Floats:
        """Values of one prompt: (token,), without padding."""
        return self.labels[variable][i, : self.labels["n_tokens"][i]]


class Comparison:
    """Adds up how prompts agree.

    Attributes
    ----------
    tolerance
        Of activations.
    agreements
        (site, variable) -> how it agrees.
    other_tokens
        Prompt -> number of the first kept token that is another.
    """

    def __init__(self, recording: Recorded, plan: Plan, relative: float | None) -> None:
        compute = recording.inputs["compute_dtype"]
        self.tolerance = Tolerance.of(compute, recording.rounded_to, relative)
        self._unrounded = Tolerance.of(compute, "float32", relative)
        self.agreements: dict[tuple[str, str], Agreement] = {}
        self.other_tokens: dict[str, int] = {}
        self._recording, self._plan = recording, plan

    def add(self, place: int, computed: Computed, i: int) -> None:
        """Compare the prompt at a place of the recording with the i-th of those computed."""
        prompt = str(self._recording.table["prompt"].iloc[place])
        n_alike, all_alike = self._compare_tokens(prompt, place, computed, i)
        if not all_alike and not self._plan.settings.selection.is_generated:
            n_alike = 0  # another text: what stands before the kept tokens may differ, too
        if self._plan.has_logprob and n_alike:
            self._compare_logprob(prompt, place, computed, i, n_alike)
        for site in self._recording.moments:
            scale = _typical_size(computed.moments[site], i, int(computed.labels["n_tokens"][i]))
            if site in computed.activations and n_alike:
                self._compare_cube(prompt, site, place, computed.activations[site][i, :n_alike], scale)
            if all_alike:
                self._compare_moments(prompt, site, place, computed, i, scale)

    def _compare_tokens(self, prompt: str, place: int, computed: Computed, i: int) -> tuple[int, bool]:
        """How many tokens are the same from the first on, and whether all are."""
        columns = ("token_id", "position")
        then = np.stack([self._recording.tokens(place, c) for c in columns])
        now = np.stack([computed.tokens(i, c) for c in columns])
        n = min(then.shape[1], now.shape[1])
        other = np.flatnonzero((then[:, :n] != now[:, :n]).any(axis=0))
        n_alike = int(other[0]) if len(other) else n
        if n_alike == then.shape[1] == now.shape[1]:
            return n_alike, True
        self.other_tokens[prompt] = n_alike
        return n_alike, False

    def _compare_logprob(self, prompt: str, place: int, computed: Computed, i: int, n: int) -> None:
        self._agreement("", "logprob").add(
            prompt,
            self._recording.tokens(place, "logprob")[:n],
            computed.tokens(i, "logprob")[:n],
            self._unrounded.averaged(self._plan.model.vocabulary),
            scale=math.log(self._plan.model.vocabulary),  # that of a guess among all tokens
            token=range(n),
        )

    def _compare_cube(self, prompt: str, site: str, place: int, activation: Floats, scale: Floats) -> None:
        """Compare activations (token, layer, neuron), layer by layer: the memory stays small."""
        numbers, largest = self._numbers(site), None
        for i in np.argsort(numbers["layer"]):
            now = activation[:, [i]][..., numbers["neuron"]].astype(np.float64)
            largest = _size_with_terms(site, np.abs(now), largest)
            self._agreement(site, "activation").add(
                prompt,
                self._recording.cube(place, site, int(i))[: len(activation)],
                now,
                self.tolerance,
                scale=float(scale[i]),
                size=largest,
                token=range(len(activation)),
                layer=numbers["layer"][[i]],
                neuron=numbers["neuron"],
            )

    def _compare_moments(
        self, prompt: str, site: str, place: int, computed: Computed, i: int, scale: Floats
    ) -> None:
        """Compare moments; the sum of squares as a standard deviation, whose error is that of a value."""
        numbers, n = self._numbers(site), int(computed.labels["n_tokens"][i])
        now = {k: computed.moments[site][k][i][:, numbers["neuron"]] for k in ("mean", "m2", "mean_abs")}
        then = {k: self._recording.moment(place, site, k) for k in now}
        for moments in (then, now):
            with np.errstate(invalid="ignore"):  # a negative one is damage, and no number agrees with it
                moments["deviation"] = np.sqrt(moments.pop("m2") / n)
        size = np.sqrt(now["mean"] ** 2 + now["deviation"] ** 2)
        tolerance = (self.tolerance if site in computed.activations else self._unrounded).averaged(n)
        largest = None
        for j in np.argsort(numbers["layer"]):
            largest = _size_with_terms(site, size[[j]], largest)
            for name in ("mean", "deviation", "mean_abs"):
                self._agreement(site, name).add(
                    prompt,
                    then[name][[j]],
                    now[name][[j]],
                    tolerance,
                    scale=float(scale[j]),
                    size=largest,
                    layer=numbers["layer"][[j]],
                    neuron=numbers["neuron"],
                )

    def _agreement(self, site: str, variable: str) -> Agreement:
        return self.agreements.setdefault((site, variable), Agreement(site, variable))

    def _numbers(self, site: str) -> dict[str, npt.NDArray[np.int64]]:
        moments = self._recording.moments[site]
        return {dim: moments[dim].to_numpy() for dim in ("layer", "neuron")}


def _typical_size(moments: dict[str, Floats], i: int, n_tokens: int) -> Floats:
    """Size of one prompt's activations in each layer: (layer,).

    The root mean square over its neurons, but for the largest and the silent ones: a few massive
    activations would make any error of the others look small, and in a layer with a ReLU the median is
    often zero.
    """
    square = moments["mean"][i] ** 2 + moments["m2"][i] / n_tokens  # (layer, neuron)
    sizes = np.zeros(len(square))
    for layer, of_neurons in enumerate(square):
        active = np.sort(of_neurons[np.isfinite(of_neurons) & (of_neurons > 0)])
        if n_active := len(active):
            n_massive = min(math.ceil(n_active * _MASSIVE), n_active - 1)
            sizes[layer] = np.sqrt(active[: n_active - n_massive].mean())
    return sizes


def _size_with_terms(site: str, size: Floats, before: Floats | None) -> Floats:
    """Magnitude of numbers, or of what they were summed from, given that of the layer before.

    The residual stream is one running sum: where a last block takes a massive value away again, what
    remains has the error of the massive one.
    """
    return size if site != "residual" or before is None else np.fmax(size, before)
