"""Which lesion of some scores is which: the baseline, each network, and the controls that belong to it."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xarray as xr

from ...store.arguments import real_number
from ...store.errors import InputError, InputTypeError
from ...store.schema import text_array
from ...store.selection import Selection

Index = npt.NDArray[np.intp]
_MATCHED = "matched"


@dataclass(frozen=True)
class Rows:
    """Places along ``lesion``.

    Attributes
    ----------
    baseline
        The model left whole.
    names
        Of the networks.
    target
        (network).
    control
        (network, draw): the matched random controls.
    draws
        (network, draw): their numbers.
    others
        Controls of other kinds: kind -> (network, draw).
    """

    baseline: int
    names: list[str]
    target: Index
    control: Index
    draws: Index
    others: dict[str, Index]


def rows_of(scores: xr.Dataset, who: str, dose: float | None = None) -> Rows:
    """Find the rows of one dose; where the scores have no doses, of all.

    Raises
    ------
    InputTypeError
        Something else than scores was given to `who`.
    InputError
        As of `check_scores`; there is not one baseline and a target at least; a network's name comes twice;
        the networks have different numbers of controls; there are several doses and none was chosen, or
        no such one.
    """
    check_scores(scores, who)
    role, target = (text_array(scores[c].to_numpy()) for c in ("role", "target"))
    here = _at_dose(scores, role, dose, who)
    is_target = here & (role == "target")
    order = list(dict.fromkeys(target[role == "target"].tolist()))  # the same at every dose
    names = sorted(target[is_target].tolist(), key=order.index)
    baseline = np.flatnonzero(role == "baseline")
    if len(baseline) != 1 or not names:
        raise InputError(f"the scores must hold one baseline and a target at least, got {sorted(set(role))}")
    if len(set(names)) < len(names):
        raise InputError(f"a network's name comes twice: {names}")
    kind = _control_kinds(scores, role)
    draw = scores["draw"].to_numpy()
    controls = {
        k: _per_network(here & (role == "control") & (kind == k), target, names, draw)
        for k in dict.fromkeys(kind[role == "control"].tolist())
    }
    matched = controls.pop(_MATCHED, np.empty((len(names), 0), dtype=np.intp))
    own = _per_network(is_target, target, names, draw)[:, 0]
    return Rows(int(baseline[0]), names, own, matched, draw[matched], controls)


def check_scores(scores: object, who: str) -> None:
    """Refuse what cannot be analysed.

    Raises
    ------
    InputTypeError
        Something else than scores was given to `who`.
    InputError
        Other processes have yet to write some of them; they have no prompt, or one twice, or one that took
        part in selecting the networks.
    """
    needed = {"logprob", "prompt", "network", "role", "target", "draw"}
    if not isinstance(scores, xr.Dataset) or not needed <= set(scores.variables):
        raise InputTypeError(f"{who} takes scores from actome.score")
    if "inputs_digest" in scores.attrs and not scores.attrs.get("manifest_digest"):
        raise InputError(
            "the scores are not complete: other processes have not ended; open them when all have, or call "
            "actome.score again without part="
        )
    check_prompts(scores, selection_of(scores), "networks")


def check_prompts(scores: xr.Dataset, selected: Selection, what: str) -> None:
    """Refuse scores without a prompt, or with one twice, or with one of those that selected something.

    Parameters
    ----------
    scores
        Of prompts.
    selected
        Those that took part in selecting.
    what
        What they selected, in the plural.

    Raises
    ------
    InputError
        There is such a prompt, or none at all.
    """
    prompts = text_array(scores["prompt"].to_numpy()).tolist()
    if not prompts:
        raise InputError("the scores hold no prompt; select some")
    if len(set(prompts)) < len(prompts):
        twice = next(p for p in prompts if prompts.count(p) > 1)
        raise InputError(f"the prompt {twice!r} comes twice in the scores; each must be there once")
    both = [prompts[i] for i in np.flatnonzero(selected.shared(Selection.of(scores)))]
    if both:
        raise InputError(
            f"{len(both)} of the scored prompts, such as {both[0]!r}, took part in selecting the {what}; "
            "their effects would be too large: leave them out, or score others"
        )


def selection_of(scores: xr.Dataset) -> Selection:
    """Return the prompts that selected the networks, where the scores say."""
    return Selection.noted(scores.attrs) or Selection.noted(inputs_of(scores)) or Selection()


def inputs_of(scores: xr.Dataset) -> dict[str, object]:
    """Return the settings of `actome.score`; {} where the scores do not hold them."""
    inputs = scores.attrs.get("inputs", {})
    return inputs if isinstance(inputs, dict) else {}


def keeps_only(scores: xr.Dataset) -> bool:
    """Whether the networks are what the lesions left, so that p must ask for little harm."""
    return bool(inputs_of(scores).get("keep_only", False))


def n_lesioned(scores: xr.Dataset) -> npt.NDArray[np.int64]:
    """Return how many neurons each lesion changes: (lesion)."""
    size = np.asarray(scores["network"].sum(("layer", "neuron")).to_numpy(), dtype=np.int64)
    return scores.sizes["layer"] * scores.sizes["neuron"] - size if keeps_only(scores) else size


def doses_of(scores: xr.Dataset) -> list[float]:
    """Return the doses of the targets in rising order; none where they differ in nothing."""
    if "dose" not in scores.coords:
        return []
    dose = np.asarray(scores["dose"].to_numpy(), dtype=np.float64)
    is_target = text_array(scores["role"].to_numpy()) == "target"
    return [float(d) for d in np.unique(dose[is_target & np.isfinite(dose)])]


def _at_dose(
    scores: xr.Dataset, role: npt.NDArray[np.str_], dose: float | None, who: str
) -> npt.NDArray[np.bool_]:
    doses = doses_of(scores)
    if dose is None:
        if len(doses) > 1:
            raise InputError(
                f"the scores hold the doses {doses}; choose one with {who}(dose=...), or use dose_response"
            )
        return np.ones(len(role), dtype=bool)
    if real_number(dose, "dose") not in doses:
        raise InputError(f"dose must be one of those scored, {doses}, got {dose}")
    return np.asarray((scores["dose"].to_numpy() == dose) | (role == "baseline"), dtype=bool)


def _control_kinds(scores: xr.Dataset, role: npt.NDArray[np.str_]) -> npt.NDArray[np.str_]:
    if "control_kind" not in scores.coords:
        return np.full(len(role), _MATCHED)
    kind = text_array(scores["control_kind"].to_numpy())
    return np.where(kind == "", _MATCHED, kind)


def _per_network(
    chosen: npt.NDArray[np.bool_], target: npt.NDArray[np.str_], names: list[str], draw: npt.NDArray[np.int64]
) -> Index:
    """Places of each network's controls, as many of each, in the order of their draws: (network, draw)."""
    places = [np.flatnonzero(chosen & (target == name)) for name in names]
    places = [p[np.argsort(draw[p], kind="stable")] for p in places]
    draws = {name: len(p) for name, p in zip(names, places, strict=True)}
    if len(set(draws.values())) > 1:
        raise InputError(f"the networks have different numbers of controls: {draws}")
    return np.stack(places)
