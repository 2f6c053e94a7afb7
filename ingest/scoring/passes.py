"""The forward passes of scoring: batches of prompts under batches of lesions."""

from collections.abc import Collection, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ..forward import model_input
from ..lesions.change import Change, Target, changed
from ..lesions.draws import ByPrompt
from ..models import LoadedModel
from ..sites import Tap
from ..structure import find_blocks
from .grouping import Group, group_lesions
from .prefix import Kept, keeping, resumed
from .readings import DTYPES, Reading, read_logits

Bool = npt.NDArray[np.bool_]


class Subject:
    """A model that is lesioned: its blocks, and where the neurons of a site are.

    Parameters
    ----------
    model
        Ready to run, and causal.
    taps, change
        The layers of the site, and what happens to a neuron.
    site
        A key of ``store.schema.SITES``.
    """

    def __init__(self, model: LoadedModel, taps: Sequence[Tap], change: Change, site: str) -> None:
        self.model, self.taps, self.change = model, taps, change
        # a lesion of a block's output leaves the block itself as it is
        self._first_changed = 1 if site == "residual" else 0

    @cached_property
    def blocks(self) -> list[nn.Module]:
        """The blocks whose passes can be left out; none where the model was compiled as one piece."""
        if hasattr(self.model.module, "_orig_mod"):
            return []
        return [block for _, block in find_blocks(self.model.module)]

    def n_skipped(self, mask: Bool) -> int:
        """Count the blocks before what a lesion (layer, neuron) changes; all where it changes nothing."""
        if not self.blocks:
            return 0
        layers = np.flatnonzero(mask.any(axis=1))
        return int(layers[0]) + self._first_changed if len(layers) else len(self.blocks)


class PromptBatch:
    """Some prompts that go through a model together, under one lesion after the other.

    Parameters
    ----------
    subject
        The model.
    token_id
        (prompt, token), right-padded with -1; cut to the longest.
    draws
        Random numbers of these prompts.
    """

    def __init__(self, subject: Subject, token_id: npt.NDArray[np.int32], draws: ByPrompt) -> None:
        self.subject, self.draws = subject, draws
        self.token_id = token_id[:, : int((token_id != -1).sum(axis=1).max())]
        self._kept: Kept = {}

    def score(
        self,
        masks: Bool,
        amounts: Sequence[float | None],
        *,
        also: Collection[Reading] = (),
        groups: list[Group] | None = None,
    ) -> dict[Reading, npt.NDArray[Any]]:
        """Score the prompts under lesions.

        Parameters
        ----------
        masks
            (lesion, layer, neuron): what each changes.
        amounts
            One a lesion.
        also
            What is wanted beside the log probability of each token: see `read_logits`.
        groups
            Which lesions share a pass; by default as `group_lesions` has it.

        Returns
        -------
        By name, (lesion, prompt, token).
        """
        skipped = [self.subject.n_skipped(mask) for mask in masks]
        if groups is None:
            device = self.subject.model.device.type
            groups = group_lesions(skipped, self.token_id.size, len(self.subject.taps), device)
        wanted = {group.n_skipped for group in groups} | (
            {len(self.subject.blocks)} if "kl" in also else set()
        )
        self._keep({n - 1 for n in wanted if n})
        whole = self._whole() if "kl" in also else None
        shape = (len(masks), *self.token_id.shape)
        out = {name: np.empty(shape, dtype=DTYPES[name]) for name in ("logprob", *also)}
        for group in groups:
            where = list(group.lesions)
            target = Target(masks[where], tuple(amounts[i] for i in where))
            with torch.inference_mode():
                logits, inputs = self._pass(target, group.n_skipped)
                for name, values in read_logits(logits, inputs, whole, also).items():
                    out[name][where] = values.reshape(len(where), *shape[1:]).cpu().numpy()
        return out

    def _keep(self, wanted: set[int]) -> None:
        """Run the prompts once without a lesion, as far as needed; keep what these blocks give, no others."""
        missing = wanted - self._kept.keys()
        if not missing:
            return
        model = self.subject.model
        n_done = max((i for i in self._kept if i < min(missing)), default=-1) + 1
        inputs = model_input(self.token_id, model.device)
        blocks = self.subject.blocks
        with (
            torch.inference_mode(),
            resumed(blocks, self._kept, n_done, 1),
            keeping(blocks, missing) as kept,
        ):
            model.backbone(**inputs, use_cache=False)
        self._kept = {i: out for i, out in {**self._kept, **kept}.items() if i in wanted}

    def _pass(self, target: Target, n_skipped: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Run the prompts once for each lesion, side by side: logits (lesion x prompt, token, ...), input."""
        subject, times = self.subject, len(target.masks)
        inputs = model_input(np.tile(self.token_id, (times, 1)), subject.model.device)
        with (
            changed(subject.taps, subject.change, target, self.draws),
            resumed(subject.blocks, self._kept, n_skipped, times),
        ):
            return subject.model.module(**inputs, use_cache=False).logits, inputs

    def _whole(self) -> torch.Tensor:
        """Log probabilities of every next token, without a lesion: (prompt, token, vocabulary)."""
        nothing = np.zeros((1, len(self.subject.taps), self.subject.taps[0].width), dtype=bool)
        with torch.inference_mode():
            logits, _ = self._pass(Target(nothing, (None,)), self.subject.n_skipped(nothing[0]))
            return torch.log_softmax(logits.float(), dim=-1)
