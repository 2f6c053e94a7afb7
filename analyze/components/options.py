"""What group ICA can be asked for, and of which recordings."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from ...store.arguments import whole_number
from ...store.blocks import level_of
from ...store.errors import InputError
from .null import ALPHA, LEAST_DRAWS
from .order import MOST, check_order
from .solvers import Solver, check_solver
from .span import Plan


@dataclass(frozen=True)
class Options:
    """How to decompose; as in `group_ica`."""

    n_components: int | float | str
    subject: str
    mode: str
    subject_components: int | None
    n_runs: int
    seed: int
    standardize: bool
    solver: Solver
    group: str
    null: int

    @property
    def plan(self) -> Plan:
        """What PCA keeps; for a criterion, what the most components need that it may choose."""
        by_criterion = isinstance(self.n_components, (float, str))
        most = MOST if by_criterion else int(self.n_components)
        return Plan.for_components(most, self.subject_components, whiten=self.group == "cca")

    @property
    def has_null(self) -> bool:
        """Whether components are compared with chance: one run has no stability to compare."""
        return bool(self.null) and self.n_runs > 1

    @property
    def assumption(self) -> str:
        """What the result takes for granted."""
        if self.n_runs == 1:
            return (
                "the one run missed no source by stopping at a local optimum, and every component is more "
                "than chance: none was compared with it"
            )
        if not self.null:
            return "every component is more than chance: none was compared with it"
        by_chance = (
            "maps are Gaussian, and independent from neuron to neuron"
            if self.mode == "spatial"
            else "time courses are Gaussian, and persist over tokens and prompts as those recorded do"
        )
        return f"by chance, {by_chance}; stability, departure and halves decide together, none of them alone"

    def check(self) -> None:
        """Refuse what is not allowed."""
        check_order(self.n_components)
        for name, value, least in (
            ("n_runs", self.n_runs, 1),
            ("subject_components", self.subject_components, 1),
            ("null", self.null, 0),
            ("seed", self.seed, 0),
        ):
            if value is not None:
                whole_number(value, name, least=least)
        if 0 < self.null < LEAST_DRAWS:
            raise InputError(
                f"null must be 0, or at least {LEAST_DRAWS}: of {self.null} draws no p can be as small as "
                f"{ALPHA}, so that nothing would be a network"
            )
        for name, chosen, allowed in (
            ("mode", self.mode, ("spatial", "temporal")),
            ("group", self.group, ("pca", "cca")),
        ):
            if chosen not in allowed:
                raise InputError(f"{name} must be {' or '.join(map(repr, allowed))}, got {chosen!r}")
        if self.mode == "temporal" and self.group == "cca":
            raise InputError(
                "group='cca' is for mode='spatial'; temporal sources need the tokens as they are"
            )
        check_solver(self.solver)


def check_recordings(recordings: Sequence[xr.Dataset]) -> None:
    """Refuse recordings that cannot be decomposed together."""
    if not recordings:
        raise InputError("group_ica needs at least one recording, got none")
    first = recordings[0]
    for ds in recordings:
        if level_of(ds) != "token":
            raise InputError(
                "group_ica needs the activations of tokens; open the recording with level='token', or "
                "record it with keep='full' (--keep full)"
            )
        if any(not np.array_equal(ds[d].to_numpy(), first[d].to_numpy()) for d in ("layer", "neuron")):
            raise InputError(
                "the recordings differ in their layers or neurons; group_ica compares like with like"
            )
