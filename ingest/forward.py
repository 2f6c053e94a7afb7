"""Running prompts through a model: what it thinks of given tokens, and which tokens it gives itself."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import cross_entropy

from ..store.arguments import real_number, whole_number
from ..store.errors import InputError
from .models import LoadedModel

_BELOW_ONE = 1 - 2**-24  # the largest float32 below it: a draw of 1 would be beyond every token


def model_input(token_id: npt.NDArray[np.int32], device: torch.device) -> dict[str, torch.Tensor]:
    """Make the model's input of some prompts, cut to the longest; padding, on the right, is masked."""
    width = int((token_id != -1).sum(axis=1).max())
    ids = torch.from_numpy(token_id[:, :width].astype(np.int64)).to(device, non_blocking=True)
    return {"input_ids": ids.clamp(min=0), "attention_mask": (ids != -1).long()}


def next_token_logprob(logits: torch.Tensor, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """Natural log p of each token given those before: (prompt, token), NaN on the first and on padding."""
    ids = inputs["input_ids"].to(logits.device)
    out = torch.full(ids.shape, torch.nan, device=logits.device)
    for i in range(len(ids)):  # prompt by prompt: the scores of a whole batch would not fit in a cache
        out[i, 1:] = -cross_entropy(logits[i, :-1].float(), ids[i, 1:], reduction="none")
    padding = inputs["attention_mask"].to(logits.device) == 0
    return out.masked_fill_(padding, torch.nan)


def score_tokens(model: LoadedModel, token_id: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
    """Run some prompts and return the log probability of their tokens: (prompt, token of the longest)."""
    out: npt.NDArray[np.float32] = read(model, token_id, logprob=True).cpu().numpy()
    return out


def read(model: LoadedModel, token_id: npt.NDArray[np.int32], *, logprob: bool) -> torch.Tensor:
    """Run some prompts.

    Parameters
    ----------
    model
        Ready to run, with whatever hooks listen.
    token_id
        (prompt, token), right-padded with -1.
    logprob
        Whether the log probability of the tokens is wanted; without it the language-model head is
        not run.

    Returns
    -------
    Log probability in nats (prompt, token of the longest), on the device; empty where not wanted.
    """
    inputs = model_input(token_id, model.device)
    with torch.inference_mode():
        if not logprob:
            model.backbone(**inputs, **_without_cache(model))
            return torch.empty(0)
        logits = model.module(**inputs, **_without_cache(model)).logits
        return next_token_logprob(logits, inputs)


def _without_cache(model: LoadedModel) -> dict[str, Any]:
    return {"use_cache": False} if model.is_causal else {}


@dataclass(frozen=True)
class Sampling:
    """How the model's own tokens are chosen.

    Attributes
    ----------
    max_new_tokens
        Most tokens a prompt; fewer where the model ends its text.
    temperature
        Divides the logits; 0 takes the likeliest token.
    top_p
        Only the likeliest tokens that together have this probability are drawn.
    seed
        Together with the number of the prompt and of the token, decides each draw, whatever the
        batch.
    """

    max_new_tokens: int = 20
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse values that are not allowed."""
        for name, least in (("max_new_tokens", 1), ("seed", 0)):
            object.__setattr__(self, name, whole_number(getattr(self, name), name, least=least))
        for name in ("temperature", "top_p"):
            object.__setattr__(self, name, real_number(getattr(self, name), name))
        if not 0 <= self.temperature < float("inf"):
            raise InputError(f"temperature must be 0 or more, got {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise InputError(f"top_p must be above 0 and at most 1, got {self.top_p}")

    def uniforms(self, prompts: Sequence[int]) -> npt.NDArray[np.float64]:
        """Draw one number in [0, 1) for each token of each prompt: (prompt, token)."""
        draws = [np.random.default_rng([self.seed, p]).random(self.max_new_tokens) for p in prompts]
        return np.array(draws)


@dataclass(frozen=True)
class Generated:
    """What the model wrote.

    Attributes
    ----------
    token_id
        (prompt, token) int32, -1 behind the end of a text.
    logprob
        (prompt, token) float32, nats: of the token under the model itself, whatever the temperature.
    """

    token_id: npt.NDArray[np.int32]
    logprob: npt.NDArray[np.float32]


class Generation:
    """One batch of prompts that the model continues, with a cache of what it read.

    The prompts are padded on the left, so that every architecture sees each without a gap. Every
    token that is chosen is fed back, the last one too: its activations exist only then.

    Parameters
    ----------
    model
        Causal.
    token_id
        (prompt, token) of the prompts, right-padded with -1.
    prompts
        Their numbers in the paradigm, or others that stand for them: what is drawn belongs to these.
    sampling
        How tokens are chosen.
    """

    def __init__(
        self,
        model: LoadedModel,
        token_id: npt.NDArray[np.int32],
        prompts: Sequence[int],
        sampling: Sampling,
    ) -> None:
        self.model, self.sampling = model, sampling
        device = model.device
        ids, mask = _left_padded(token_id)
        self._mask = torch.from_numpy(mask).to(device)
        uniforms = torch.from_numpy(sampling.uniforms(prompts)).to(torch.float32)
        self._uniforms = uniforms.clamp(max=_BELOW_ONE).to(device)
        self._takes = set(inspect.signature(_unwrapped(model.module).forward).parameters)
        self._cache: Any = None
        self._logits = self._feed(torch.from_numpy(ids).to(device))
        self._ended = torch.zeros(len(ids), dtype=torch.bool, device=device)
        self._ends = torch.tensor(end_tokens(model), dtype=torch.int64, device=device)
        self._chosen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def step(self) -> None:
        """Choose the next token of every prompt and feed it, so that the hooks see it."""
        with torch.inference_mode():
            scores = torch.log_softmax(self._logits, dim=-1)
            token = _choose(scores, self._uniforms[:, len(self._chosen)], self.sampling)
            logprob = scores.gather(1, token[:, None])[:, 0]
            padding = self._ended
            self._chosen.append((token.masked_fill(padding, -1), logprob.masked_fill(padding, torch.nan)))
            self._ended = padding | torch.isin(token, self._ends)
            self._mask = torch.cat([self._mask, torch.ones_like(self._mask[:, :1])], dim=1)
            self._logits = self._feed(token[:, None])

    @property
    def is_over(self) -> bool:
        """Whether every text has ended, or has all the tokens it may have."""
        return len(self._chosen) >= self.sampling.max_new_tokens or bool(self._ended.all())

    def result(self) -> Generated:
        """Return what was written so far."""
        tokens, logprob = (torch.stack(part, dim=1).cpu().numpy() for part in zip(*self._chosen, strict=True))
        return Generated(tokens.astype(np.int32), logprob.astype(np.float32))

    def _feed(self, ids: torch.Tensor) -> torch.Tensor:
        """Run tokens behind what the cache holds; return the logits of the last: (prompt, vocabulary)."""
        position = (self._mask.cumsum(dim=1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        options = {"position_ids": position, "logits_to_keep": 1}
        with torch.inference_mode():
            output = self.model.module(
                input_ids=ids,
                attention_mask=self._mask,
                past_key_values=self._cache,
                use_cache=True,
                **{name: value for name, value in options.items() if name in self._takes},
            )
        self._cache = output.past_key_values
        last: torch.Tensor = output.logits[:, -1].float()
        return last.to(self._mask.device)


def _unwrapped(module: Any) -> Any:
    """Return the model inside what torch.compile or PEFT put around it: its forward says what it takes."""
    module = getattr(module, "_orig_mod", module)
    return module.get_base_model() if hasattr(module, "get_base_model") else module


def _left_padded(token_id: npt.NDArray[np.int32]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    n_tokens = (token_id != -1).sum(axis=1)
    ids = np.zeros((len(token_id), int(n_tokens.max())), dtype=np.int64)
    mask = np.zeros_like(ids)
    for row, n in enumerate(n_tokens):
        ids[row, -n:], mask[row, -n:] = token_id[row, :n], 1
    return ids, mask


def _choose(scores: torch.Tensor, uniform: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Take the likeliest token, or the one where the cumulative probability passes `uniform`: (prompt,)."""
    if sampling.temperature == 0:
        return scores.argmax(dim=-1)
    p, tokens = torch.softmax(scores / sampling.temperature, dim=-1).sort(
        dim=-1, descending=True, stable=True
    )
    before = p.cumsum(dim=-1) - p
    p = p.masked_fill(before >= sampling.top_p, 0.0)
    total = p.cumsum(dim=-1)
    place = (total <= uniform[:, None] * total[:, -1:]).sum(dim=-1, keepdim=True)
    last = (p > 0).sum(dim=-1, keepdim=True) - 1  # a uniform number just below 1 may be rounded to 1
    return tokens.gather(1, torch.minimum(place, last).clamp(min=0))[:, 0]


def end_tokens(model: LoadedModel) -> list[int]:
    """Return the tokens that end a text, as the model, its configuration or its tokenizer says."""
    for source in (getattr(model.module, "generation_config", None), model.module.config, model.tokenizer):
        ends = getattr(source, "eos_token_id", None)
        if ends is not None:
            return [int(e) for e in ends] if isinstance(ends, (list, tuple)) else [int(ends)]
    return []
