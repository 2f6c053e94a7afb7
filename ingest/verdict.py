"""What it showed to compute a recording again: whether its numbers hold, and what differs if not."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .agreement import Agreement, Tolerance

_INPUTS = (
    "paradigm_digest",
    "weights_digest",
    "architecture",
    "config_digest",
    "tokenizer_digest",
    "end_tokens",
    "compute_dtype",
    "attention_kernel",
    "device",
)
_VERSIONS = ("torch", "transformers", "tokenizers", "actome", "python")

_NEAR, _FEW = 4.0, 1e-4  # of what is allowed; share of the values

Changes = dict[str, tuple[Any, Any]]


@dataclass(frozen=True)
class Recomputed:
    """What running some prompts of a recording again showed; `str` of it is a report.

    Attributes
    ----------
    recording, model, device
        What was computed again, with which model, where.
    prompts
        Ids of the prompts that were run.
    tolerance
        How far numbers may be apart.
    other_tokens
        Prompts whose tokens differ -> number of the first kept token that does. The numbers of generated
        tokens are compared up to there, those of given ones are not.
    agreements
        One for each variable of each site.
    changes
        What differs: name -> (then, now), of digests, settings and versions; it need not have changed
        any number. The digest of the weights covers their type too, that of the tokenizer its chat
        template.
    cause
        The likeliest reason in a sentence; "" where the numbers hold.
    """

    recording: str
    model: str
    device: str
    prompts: tuple[str, ...]
    tolerance: Tolerance
    other_tokens: dict[str, int]
    agreements: tuple[Agreement, ...]
    changes: Changes
    cause: str

    @property
    def holds(self) -> bool:
        """Whether all tokens are the same, and all numbers within the tolerance."""
        return not self.failing

    @property
    def failing(self) -> tuple[str, ...]:
        """Ids of the prompts with other tokens, or with numbers beyond the tolerance."""
        return _failing(self.prompts, self.other_tokens, self.agreements)

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values; a number that is not finite becomes text."""
        content = {"holds": self.holds, "failing": list(self.failing), **asdict(self)}
        for shown, agreement in zip(content["agreements"], self.agreements, strict=True):
            shown["share_beyond"] = agreement.share_beyond
        content["changes"] = {name: {"then": a, "now": b} for name, (a, b) in self.changes.items()}
        plain: dict[str, Any] = _plain(content)
        return plain

    def __str__(self) -> str:
        """Return some lines for a person to read."""
        n, failing = len(self.prompts), self.failing
        verdict = "the numbers hold" if self.holds else f"the numbers do not hold in {len(failing)} of them"
        lines = [f"{self.recording}: {n} prompts run again with {self.model} on {self.device}: {verdict}"]
        if self.cause:
            lines.append(f"likely cause: {self.cause}")
        if self.other_tokens:
            prompt, place = next(iter(self.other_tokens.items()))
            count = len(self.other_tokens)
            lines.append(
                f"other tokens in {count} of {n} prompts, the first {prompt!r} from token {place} on"
            )
        lines += map(str, self.agreements)
        for name, (then, now) in self.changes.items():
            lines.append(f"differs: {name}: {_short(then)} then, {_short(now)} now")
        t = self.tolerance
        lines.append(
            f"tolerance: {t.relative:.2g} of a value and of the usual size in its layer, a quarter of that "
            f"for the values of a layer together, and {t.rounding:.2g} of it for storage"
        )
        return "\n".join(lines)


def changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> Changes:
    """Compare two provenances: what decides the numbers, and the versions that computed them."""
    before, after = then["inputs"], now["inputs"]
    found = {k: (before.get(k), after.get(k)) for k in _INPUTS}
    before, after = then.get("environment", {}), now["environment"]
    found |= {k: (before.get(k), after.get(k)) for k in _VERSIONS}
    return {k: pair for k, pair in found.items() if pair[0] != pair[1]}


def likely_cause(
    changed: Changes,
    prompts: Sequence[str],
    other_tokens: Mapping[str, int],
    agreements: Sequence[Agreement],
    *,
    generated: bool,
) -> str:
    """Name what most likely keeps the numbers from holding, in one sentence; "" where they hold."""
    failing = _failing(prompts, other_tokens, agreements)
    if not failing:
        return ""
    return (
        _other_model(changed, other_text=bool(other_tokens) or generated)
        or _other_data(changed, other_tokens, agreements, len(failing) < len(prompts), generated=generated)
        or _other_machine(changed)
        or "nothing that was noted differs, so the recording was changed or damaged, or the model computes "
        "otherwise from run to run; `actome verify` compares the bytes"
    )


def _other_model(changed: Changes, *, other_text: bool) -> str:
    """Name what of the model is another; its tokenizer where the model may have read another text."""
    reasons = []
    if "compute_dtype" in changed:  # the digests of weights of two types always differ
        then, now = changed["compute_dtype"]
        reasons.append(f"the dtype: the model ran in {then}, and now in {now}")
    elif "weights_digest" in changed:
        reasons.append("the weights: they are not those that were recorded")
    if changed.keys() & {"architecture", "config_digest"}:
        reasons.append("the settings of the architecture")
    if "tokenizer_digest" in changed and other_text:
        reasons.append("the tokenizer, or its chat template")
    if "end_tokens" in changed:
        reasons.append("the tokens that end a text")
    return "; ".join(reasons)


def _other_data(
    changed: Changes,
    other_tokens: Mapping[str, int],
    agreements: Sequence[Agreement],
    only_some: bool,
    *,
    generated: bool,
) -> str:
    if "paradigm_digest" in changed:
        return "the recording: the texts or labels in it are not those that were recorded"
    if generated and not any(a.prompts for a in agreements):
        return (
            "rounding, where two tokens are about as likely: all numbers before them hold; or stored tokens "
            "were changed, which `actome verify` tells"
        )
    if other_tokens or not only_some:
        return ""
    is_little = max(a.excess for a in agreements) < _NEAR and not any(a.n_sets_beyond for a in agreements)
    if is_little and max(a.share_beyond for a in agreements) < _FEW:
        return "rounding: a few values are a little beyond the tolerance; a larger one may suit this model"
    return (
        "the recording: only some prompts differ, so its numbers were changed or damaged; "
        "`actome verify` compares the bytes"
    )


def _other_machine(changed: Changes) -> str:
    if "attention_kernel" in changed:
        return "the attention kernel"
    if "device" in changed:
        then, now = changed["device"]
        return f"the device: {then} then, {now} now"
    libraries = [k for k in _VERSIONS if k in changed]
    return f"the version of a library: {', '.join(libraries)}" if libraries else ""


def _failing(
    prompts: Sequence[str], other_tokens: Mapping[str, int], agreements: Sequence[Agreement]
) -> tuple[str, ...]:
    bad = set(other_tokens).union(*(a.prompts for a in agreements))
    return tuple(p for p in prompts if p in bad)


def _short(value: Any) -> str:
    text = str(value)
    return text[:19] + "..." if text.startswith("sha256:") else text


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
