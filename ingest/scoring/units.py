"""One unit of scores: some prompts under some lesions."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ..batches import batches
from ..completion import complete
from ..lesions.change import Target, changed
from ..lesions.draws import ByPrompt, Continued
from .choices import NOT_ASKED, parse_answer
from .passes import PromptBatch, Subject
from .plan import ScorePlan
from .readings import DTYPES, MISSING

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Batches = list[tuple[Int64, PromptBatch]]


class UnitScorer:
    """Scores units; what is kept of the prompts of one serves the next if it has the same.

    Parameters
    ----------
    plan
        What is scored.
    batch_tokens
        Tokens of a batch of prompts, as recorded when the scoring began.
    """

    def __init__(self, plan: ScorePlan, batch_tokens: int) -> None:
        self.plan, self.batch_tokens = plan, batch_tokens
        self._prompts = slice(0, 0)
        self._prepared: dict[Any, Batches] = {}

    @cached_property
    def _subject(self) -> Subject:
        return self.plan.subject()

    @cached_property
    def _copies(self) -> list[Subject]:
        return [self.plan.subject(i) for i in range(self.plan.asked.untrained)]

    def score(self, lesions: slice, prompts: slice) -> dict[str, npt.NDArray[Any]]:
        """Score a unit: the values of each field, (lesion, prompt, ...)."""
        if prompts != self._prompts:
            self._prompts, self._prepared = prompts, {}
        plan, asked = self.plan, self.plan.asked
        masks, amounts = plan.masks(lesions), plan.amounts(lesions)
        tokens = plan.tokens.token_id[prompts]
        numbers = np.arange(prompts.start, prompts.stop)
        shape = (len(masks), *tokens.shape)
        out: dict[str, npt.NDArray[Any]] = {
            name: np.full(shape, MISSING[name], dtype=DTYPES[name]) for name in asked.readings
        }
        for rows, batch in self._batches("prompts", self._subject, tokens, numbers):
            for name, values in batch.score(masks, amounts, also=asked.readings[1:]).items():
                out[name][:, rows, : values.shape[2]] = values
        if asked.choices is not None:
            out |= self._choose(masks, amounts, prompts)
        if asked.sampling is not None:
            out |= self._complete(masks, amounts, prompts)
        if asked.untrained:
            targets = [lesion.role != "control" for lesion in plan.lesions[lesions]]
            out["logprob_untrained"] = self._untrained(masks, amounts, np.array(targets), tokens, numbers)
        return out

    def _batches(
        self, what: Any, subject: Subject, token_id: npt.NDArray[np.int32], numbers: Int64
    ) -> Batches:
        """Group rows of tokens, each of a prompt, into batches; what a batch keeps is there the next time."""
        if what not in self._prepared:
            names = self.plan.table["prompt"].tolist()
            groups = batches((token_id != -1).sum(axis=1), self.batch_tokens) if len(token_id) else []
            self._prepared[what] = [
                (
                    rows,
                    PromptBatch(
                        subject,
                        token_id[rows],
                        ByPrompt(self.plan.seed, [names[i] for i in numbers[rows]]),
                    ),
                )
                for rows in groups
            ]
        return self._prepared[what]

    def _choose(self, masks: Mask, amounts: Sequence[float | None], prompts: slice) -> dict[str, Any]:
        """Score the choices of the prompts, and say whether the right one is the likeliest."""
        choices, all_rows = self.plan.asked.choices, self.plan.asked.continuations
        if choices is None or all_rows is None:
            return {}
        mine = np.flatnonzero((all_rows.prompt >= prompts.start) & (all_rows.prompt < prompts.stop))
        n_prompts = prompts.stop - prompts.start
        logprob = np.full((len(masks), n_prompts, choices.most), np.nan, dtype=np.float32)
        for rows, batch in self._batches(
            "choices", self._subject, all_rows.token_id[mine], all_rows.prompt[mine]
        ):
            scored = batch.score(masks, amounts)["logprob"].astype(np.float64)
            which = mine[rows]
            is_choice = all_rows.is_choice[which, : scored.shape[2]]
            total = np.where(is_choice, scored, 0.0).sum(axis=2)
            total[:, ~is_choice.any(axis=1)] = np.nan  # nothing of it is foretold
            logprob[:, all_rows.prompt[which] - prompts.start, all_rows.choice[which]] = total
        answer = choices.answer[prompts]
        there = np.array([[k < len(texts) for k in range(choices.most)] for texts in choices.texts[prompts]])
        broken = (np.isnan(logprob) & there).any(axis=2)  # a lesion after which a choice has no probability
        value = np.where(np.isnan(logprob), -np.inf, logprob)
        own = np.take_along_axis(value, np.maximum(answer, 0)[None, :, None], axis=2)
        likeliest = (value >= own).sum(axis=2) == 1  # as likely as another is not right
        correct = np.where(answer < 0, -1, likeliest & ~broken).astype(np.int8)
        return {"choice_logprob": logprob, "correct": correct}

    def _complete(self, masks: Mask, amounts: Sequence[float | None], prompts: slice) -> dict[str, Any]:
        """Let the model continue the prompts under each lesion, and parse the answers."""
        completion = np.empty((len(masks), prompts.stop - prompts.start), dtype=object)
        for i, (mask, amount) in enumerate(zip(masks, amounts, strict=True)):
            for row, text in self._texts(Target(mask[None], (amount,)), prompts):
                completion[i, row] = text
        out: dict[str, Any] = {"completion": completion}
        if (choices := self.plan.asked.choices) is not None:
            parsed = [
                [
                    parse_answer(t, c) if c else NOT_ASKED
                    for t, c in zip(row, choices.texts[prompts], strict=True)
                ]
                for row in completion
            ]
            out["parsed"] = np.array(parsed, dtype=np.int8)
        return out

    def _texts(self, target: Target, prompts: slice) -> Iterator[tuple[int, str]]:
        subject, sampling = self._subject, self.plan.asked.sampling
        if sampling is None:
            return
        tokens = self.plan.tokens.token_id[prompts]
        n_tokens = (tokens != -1).sum(axis=1)
        for rows in batches(n_tokens + sampling.max_new_tokens, self.batch_tokens):
            names = self.plan.table["prompt"].iloc[rows + prompts.start].tolist()
            draws = Continued(self.plan.seed, names, n_tokens[rows].tolist())
            with changed(subject.taps, subject.change, target, draws):
                texts = complete(subject.model, tokens[rows], names, sampling)
            yield from zip(rows.tolist(), texts, strict=True)

    def _untrained(
        self,
        masks: Mask,
        amounts: Sequence[float | None],
        targets: npt.NDArray[np.bool_],
        tokens: npt.NDArray[np.int32],
        numbers: Int64,
    ) -> Float32:
        """Score the baseline and the targets in each untrained copy: (lesion, prompt, copy, token)."""
        shape = (len(masks), len(tokens), len(self._copies), tokens.shape[1])
        out = np.full(shape, np.nan, dtype=np.float32)
        where = np.flatnonzero(targets)
        if not len(where):
            return out
        doses = [amount for amount, is_target in zip(amounts, targets, strict=True) if is_target]
        for c, subject in enumerate(self._copies):
            for rows, batch in self._batches(("copy", c), subject, tokens, numbers):
                scored = batch.score(masks[where], doses)["logprob"]
                out[np.ix_(where, rows, np.array([c]), np.arange(scored.shape[2]))] = scored[:, :, None]
        return out
