"""The plan of a recording: what is shown to which model, and what of it is kept."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..store.allocate import SiteSpec
from ..store.arguments import whole_number
from ..store.errors import InputError, InputTypeError
from ..store.paradigm import Paradigm
from ..store.schema import SITES
from .batches import fitting_batch_tokens
from .capture import DTYPES
from .forward import Sampling, end_tokens
from .models import LoadedModel
from .sites import Tap, find_taps
from .structure import text_config
from .tokens import Prompting, Prompts, Selection

Keep = Literal["full", "summary"]
Sites = Sequence[str] | Mapping[str, str | Sequence[str] | None]


@dataclass(frozen=True)
class Settings:
    """What a user can choose, checked as far as no model is needed.

    Attributes
    ----------
    sites
        Name -> modules by hand, or None for those that the structure shows.
    layers, neurons
        Which; None for all.
    selection, sampling
        The tokens that are kept, and how the model's own are chosen.
    prompting
        How a text becomes tokens.
    keep
        "full": the cube and its moments. "summary": the moments of each prompt alone.
    logprob
        Whether log probabilities are kept.
    batch_size, dtype
        None for automatic.
    """

    sites: dict[str, str | tuple[str, ...] | None]
    layers: tuple[int, ...] | None = None
    neurons: tuple[int, ...] | None = None
    selection: Selection = field(default_factory=lambda: Selection("prompt"))
    sampling: Sampling = field(default_factory=Sampling)
    prompting: Prompting = field(default_factory=Prompting)
    keep: Keep = "full"
    logprob: bool = True
    batch_size: int | None = None
    dtype: str | None = None

    def __post_init__(self) -> None:
        """Refuse values that are not allowed."""
        if self.dtype is not None and self.dtype not in DTYPES:
            raise InputError(f"dtype must be one of {list(DTYPES)} or None, got {self.dtype!r}")
        if self.batch_size is not None:
            object.__setattr__(self, "batch_size", whole_number(self.batch_size, "batch_size", least=1))
        if self.keep not in ("full", "summary"):
            raise InputError(f"keep must be 'full' or 'summary', got {self.keep!r}")
        if not self.sites:
            raise InputError("sites must name at least one place in the network, got none")
        unknown = [site for site in self.sites if site not in SITES]
        if unknown:
            raise InputError(f"site must be one of {list(SITES)}, got {unknown[0]!r}")


def site_names(sites: Sites) -> dict[str, str | tuple[str, ...] | None]:
    """Return the modules that a user named for each site, None where there are none.

    Raises
    ------
    InputTypeError
        It is a single text.
    """
    if isinstance(sites, str):
        raise InputTypeError(f"sites must be a sequence of names, such as ({sites!r},), got a text")
    if isinstance(sites, Mapping):
        return {
            str(site): names if names is None or isinstance(names, str) else tuple(names)
            for site, names in sites.items()
        }
    return {str(site): None for site in sites}


class Plan:
    """What is recorded from what.

    Parameters
    ----------
    model, paradigm, settings
        What is shown to which model, and how.
    known_taps
        Per site of the settings, where it is read, where that need not be looked for.

    Attributes
    ----------
    model, paradigm, settings
        As given.
    prompts
        The paradigm as tokens.
    taps
        Per site, where each recorded layer is read.
    layers
        Per site, the numbers of these layers.
    kept_tokens
        (prompt,): tokens that will be kept, at most, of each.

    Raises
    ------
    InputError
        A setting does not fit the model, or a prompt does not.
    """

    def __init__(
        self,
        model: LoadedModel,
        paradigm: Paradigm,
        settings: Settings,
        *,
        known_taps: Mapping[str, list[Tap]] | None = None,
    ) -> None:
        self.model, self.paradigm, self.settings = model, paradigm, settings
        self.taps: dict[str, list[Tap]] = {}
        self.layers: dict[str, tuple[int, ...]] = {}
        for site, names in settings.sites.items():
            taps = known_taps[site] if known_taps else find_taps(model.module, site, names)
            self.layers[site] = _chosen(settings.layers, len(taps), "layers")
            self.taps[site] = [taps[i] for i in self.layers[site]]
            _chosen(settings.neurons, taps[0].width, "neurons", f" at site {site!r}")
        if settings.selection.is_generated and not model.is_causal:
            raise InputError(
                f"{model.name!r} gives no next token, so it cannot generate; use tokens='prompt'"
            )
        self.prompts = Prompts(model, paradigm.table, settings.prompting)
        self.kept_tokens = self._count_kept()

    def _count_kept(self) -> npt.NDArray[np.int64]:
        names = self.paradigm.table["prompt"].tolist()
        if not self.settings.selection.is_generated:
            return self.settings.selection.check(self.prompts.n_tokens, names)
        new, limit = self.settings.sampling.max_new_tokens, self.model.context
        long = self.prompts.n_tokens + new > (limit or np.inf)
        if long.any():
            raise InputError(
                f"{int(long.sum())} prompts with {new} new tokens are longer than the model's context of "
                f"{limit} tokens, the first is {names[int(np.flatnonzero(long)[0])]!r}; shorten them"
            )
        return np.full(len(names), new, dtype=np.int64)

    @property
    def labels(self) -> pd.DataFrame:
        """One row a prompt, one column a label of the recording."""
        table = self.paradigm.table
        return table.assign(completion="") if self.settings.selection.is_generated else table

    @property
    def has_logprob(self) -> bool:
        """Whether log probabilities are kept: an encoder has none."""
        return self.settings.logprob and self.model.is_causal

    @property
    def runs_head(self) -> bool:
        """Whether the language-model head has to run."""
        return self.has_logprob or self.settings.selection.is_generated

    @cached_property
    def batch_tokens(self) -> int:
        """Tokens in a batch, as the memory allows."""
        longest, kept = int(self.lengths(self.prompts.n_tokens).max()), 0
        if self.settings.selection.is_generated:
            config = text_config(self.model.module)
            kept = 2 * int(config.num_hidden_layers) * int(config.hidden_size)  # keys and values
            kept += sum(len(taps) * taps[0].width for taps in self.taps.values())
        return fitting_batch_tokens(self.model, longest, logits=self.runs_head, kept=kept)

    def lengths(self, n_tokens: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Tokens that go through the model for prompts of so many."""
        return n_tokens + self.settings.sampling.max_new_tokens * self.settings.selection.is_generated

    @cached_property
    def inputs(self) -> dict[str, Any]:
        """Everything that decides the numbers; compared when a recording is resumed."""
        settings = self.settings
        generated = settings.selection.is_generated
        return {
            **self.model.identity(),
            "paradigm": self.paradigm.name,
            "paradigm_digest": self.paradigm.digest,
            "tokens_digest": self.prompts.digest,
            **settings.prompting.inputs(),
            "tokens": settings.selection.name,
            "sampling": vars(settings.sampling) if generated else None,
            "end_tokens": end_tokens(self.model) if generated else None,
            "padding_side": "left" if generated else "right",
            "device": self.model.device.type,
            "sites": {site: list(layers) for site, layers in self.layers.items()},
            "modules": {site: [tap.name for tap in taps] for site, taps in self.taps.items()},
            "neurons": None if settings.neurons is None else list(settings.neurons),
            "keep": settings.keep,
            "logprob": self.has_logprob,
            "batch_size": settings.batch_size or "automatic",
            "dtype": settings.dtype or "automatic",
            "seed": settings.sampling.seed,
        }

    @property
    def token_variables(self) -> tuple[str, ...]:
        """The (prompt, token) variables that are written."""
        always = ("token_id", "position", "char_start", "char_end", "generated")
        return (*always, "logprob") if self.has_logprob else always

    def site_specs(self, dtype: str) -> dict[str, SiteSpec]:
        """Say what each site will hold."""
        return {
            site: SiteSpec(
                self.layers[site],
                self.neurons(site),
                tuple(tap.name for tap in taps),
                dtype,
                cube=self.settings.keep == "full",
            )
            for site, taps in self.taps.items()
        }

    def neurons(self, site: str) -> tuple[int, ...]:
        """Return the numbers of the neurons that are kept of a site."""
        chosen = self.settings.neurons
        return tuple(range(self.taps[site][0].width)) if chosen is None else chosen


def _chosen(values: tuple[int, ...] | None, n: int, what: str, where: str = "") -> tuple[int, ...]:
    """Return what was chosen of `n`, everything by default."""
    if values is None:
        return tuple(range(n))
    wrong = not values or min(values) < 0 or max(values) >= n or len(set(values)) < len(values)
    if wrong:
        got = f"{list(values)[:5]} ..." if len(values) > 5 else list(values)
        raise InputError(f"{what} must be some of 0 to {n - 1}{where}, each once, got {got}")
    return values
