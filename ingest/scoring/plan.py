"""The plan of a scoring: which prompts, which lesions, what is asked, and all that decides the numbers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from ..._version import __version__
from ...store.errors import InputError
from ...store.paradigm import Paradigm
from ...store.provenance import digest_bytes, library_versions, now
from ...store.unit_archive import Allocation, Field, Grid
from ..batches import fitting_batch_tokens
from ..completion import check_room
from ..forward import Sampling, end_tokens
from ..lesions.change import Change
from ..lesions.kinds import Kind
from ..models import LoadedModel
from ..sites import find_taps
from ..tokens import Tokens
from .choices import NOT_ASKED, Choices, Continuations
from .grouping import most_tokens
from .lesions import MISMATCHES, Lesion
from .passes import Subject
from .readings import DTYPES, MISSING, Reading
from .untrained import untrained_copy

_BLOCK_TOKENS = {"cpu": 4096, "cuda": 32768}  # of the prompts of a unit
_UNIT_BLOCKS = 16  # tokens of a unit, all lesions together, in such blocks

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Asked:
    """What is asked of the model beside log probabilities.

    Attributes
    ----------
    readings
        What is kept of each token: "logprob", then others.
    choices, continuations
        Of multiple choice.
    sampling
        How the model's own texts are drawn; None for none.
    untrained
        In how many untrained copies the targets are lesioned too.
    """

    readings: tuple[Reading, ...] = ("logprob",)
    choices: Choices | None = None
    continuations: Continuations | None = None
    sampling: Sampling | None = None
    untrained: int = 0


@dataclass(frozen=True)
class ScorePlan:
    """All that a scoring needs.

    Attributes
    ----------
    model, paradigm, tokens
        What is shown to which model.
    lesions
        All, in order.
    keep_only
        Whether the networks are what a lesion leaves.
    site, kind, change, seed
        What happens to which neurons.
    asked
        Beside log probabilities.
    """

    model: LoadedModel
    paradigm: Paradigm
    tokens: Tokens
    lesions: list[Lesion]
    keep_only: bool
    site: str
    kind: Kind
    change: Change
    seed: int
    asked: Asked

    @property
    def table(self) -> pd.DataFrame:
        """One row a prompt."""
        return self.paradigm.table

    def masks(self, lesions: slice) -> Mask:
        """Return the neurons that some lesions change: (lesion, layer, neuron)."""
        out = np.stack([lesion.network for lesion in self.lesions[lesions]])
        if self.keep_only:
            targets = np.array([lesion.role != "baseline" for lesion in self.lesions[lesions]])
            out = np.where(targets[:, None, None], ~out, out)
        return out

    def amounts(self, lesions: slice) -> list[float | None]:
        """Return the amount of each; the baseline, which changes nothing, has that of any other."""
        other = self.lesions[-1].dose
        return [other if lesion.dose is None else lesion.dose for lesion in self.lesions[lesions]]

    def subject(self, copy: int | None = None) -> Subject:
        """Return the model, or an untrained copy of it, as what is lesioned."""
        model = self.model if copy is None else untrained_copy(self.model, [self.seed, copy])
        return Subject(model, find_taps(model.module, self.site), self.change, self.site)

    def batch_tokens(self) -> int:
        """Tokens of a batch of prompts, as the memory allows."""
        longest = self.tokens.token_id.shape[1]
        return min(
            fitting_batch_tokens(self.model, longest, logits=True), most_tokens(self.model.device.type)
        )

    def grid(self) -> Grid:
        """Cut lesions by prompts into units."""
        n_lesions, (n_prompts, n_tokens) = len(self.lesions), self.tokens.token_id.shape
        block = _BLOCK_TOKENS.get(self.model.device.type, _BLOCK_TOKENS["cuda"])
        prompts = min(n_prompts, max(1, block // n_tokens))
        lesions = min(n_lesions, max(1, block * _UNIT_BLOCKS // (prompts * n_tokens)))
        return Grid({"lesion": n_lesions, "prompt": n_prompts}, {"lesion": lesions, "prompt": prompts})

    def fields(self) -> list[Field]:
        """List what the units fill."""
        both, nan = ("lesion", "prompt"), float("nan")
        n = (len(self.lesions), len(self.table))
        n_tokens, asked = self.tokens.token_id.shape[1], self.asked
        nats = {"units": "nats"}
        out = [
            Field(r, (*both, "token"), (*n, n_tokens), DTYPES[r], MISSING[r], {} if r == "hit" else nats)
            for r in asked.readings
        ]
        if asked.choices is not None:
            shape = (*n, asked.choices.most)
            out.append(Field("choice_logprob", (*both, "choice"), shape, "float32", nan, nats))
            out.append(Field("correct", both, n, "int8", -1))
        if asked.sampling is not None:
            out.append(Field("completion", both, n, "str", ""))
            if asked.choices is not None:
                out.append(Field("parsed", both, n, "int8", NOT_ASKED))
        if asked.untrained:
            dims = (*both, "copy", "token")
            out.append(
                Field("logprob_untrained", dims, (*n, asked.untrained, n_tokens), "float32", nan, nats)
            )
        return out

    def allocation(self, attrs: Mapping[str, object]) -> Allocation:
        """Collect what there is before the model runs, with further attributes."""
        return Allocation(self.known().assign_attrs(attrs), self.fields(), self.grid())

    def known(self) -> xr.Dataset:
        """Collect what is known before the model runs: lesions, labels of the prompts."""
        lesions = self.lesions
        text = {
            "role": [x.role for x in lesions],
            "target": [x.target for x in lesions],
            "control_kind": [x.control_kind for x in lesions],
        }
        coords: dict[str, Any] = {str(c): ("prompt", self.table[c].to_numpy()) for c in self.table}
        coords |= {name: ("lesion", np.array(values, dtype=object)) for name, values in text.items()}
        coords["draw"] = ("lesion", [x.draw for x in lesions])
        for name in MISMATCHES:
            coords[name] = ("lesion", [float((x.mismatches or {})[name]) for x in lesions])
        doses = {x.dose for x in lesions if x.role == "target"}
        names = [x.name for x in lesions]
        if len(doses) > 1:
            dose = [float("nan") if x.dose is None else x.dose for x in lesions]
            coords["dose"] = ("lesion", dose)
            names = [
                n if x.dose is None else f"{n}@{_short(x.dose)}" for n, x in zip(names, lesions, strict=True)
            ]
        coords["lesion"] = np.array(names, dtype=object)
        shown: dict[str, Any] = {
            "network": (("lesion", "layer", "neuron"), np.stack([x.network for x in lesions]))
        }
        if self.asked.choices is not None and self.asked.continuations is not None:
            shown["answer_index"] = ("prompt", self.asked.choices.answer)
            shown["choice_n_tokens"] = (("prompt", "choice"), self._choice_tokens())
        return xr.Dataset(shown, coords=coords, attrs=self._attrs())

    def _choice_tokens(self) -> npt.NDArray[np.int64]:
        rows = self.asked.continuations
        out = np.zeros(
            (len(self.table), self.asked.choices.most if self.asked.choices else 0), dtype=np.int64
        )
        if rows is not None:
            out[rows.prompt, rows.choice] = rows.is_choice.sum(axis=1)
        return out

    def _attrs(self) -> dict[str, Any]:
        return {
            "kind": "scores",
            "site": self.site,
            "keep_only": int(self.keep_only),
            "batch_tokens": self.batch_tokens(),
            "environment": library_versions(),
            "created": now(),
            "actome": __version__,
        }

    def inputs(self, reference: Mapping[str, Any], doses: tuple[float | None, ...]) -> dict[str, Any]:
        """Everything that decides the numbers; compared when a scoring goes on.

        Parameters
        ----------
        reference
            Its identity, from `reference_identity`; nothing where there is none.
        doses
            All amounts.
        """
        asked = self.asked
        networks = np.packbits(np.stack([x.network for x in self.lesions]))
        return {
            **self.model.identity(),
            "device": self.model.device.type,
            "paradigm_digest": self.paradigm.digest,
            "lesions_digest": digest_bytes(networks.tobytes()),
            "networks": list(dict.fromkeys(x.target for x in self.lesions if x.target)),
            "reference": None,
            **reference,
            "site": self.site,
            "kind": self.kind,
            "amount": doses[0] if len(doses) == 1 else list(doses),
            "keep_only": self.keep_only,
            "controls": 1 + max(x.draw for x in self.lesions),  # of each network
            "least_selective": any(x.control_kind == "least_selective" for x in self.lesions),
            "untrained": asked.untrained,
            "readings": list(asked.readings),
            "choices": asked.choices is not None,
            "sampling": None if asked.sampling is None else vars(asked.sampling),
            "end_tokens": None if asked.sampling is None else end_tokens(self.model),
            "seed": self.seed,
            "draws": "by name",  # of a prompt or a network; in archives without this, by number
        }


def _short(dose: float) -> str:
    """Return a number as text that no other has: six digits, or as many as it takes."""
    text = f"{dose:g}"
    return text if float(text) == dose else repr(dose)


def check_scorable(model: LoadedModel, tokens: Tokens, asked: Asked) -> None:
    """Refuse what has no next token to foretell, and prompts that leave no room for new ones.

    Raises
    ------
    InputError
        The model gives no next token, no prompt has a second one or choices, or one is too long to be
        continued.
    """
    if not model.is_causal:
        raise InputError(f"{model.name!r} gives no next token, so there is no prediction to score")
    if tokens.n_tokens.max() < 2 and asked.choices is None:
        raise InputError(
            "no prompt has a second token, so there is no prediction to score; give longer texts"
        )
    if asked.sampling is not None:
        check_room(model, tokens, asked.sampling)
