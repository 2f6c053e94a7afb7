"""Numbers and rules as text."""

import math
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

MISSING = "\u2013"  # en dash
_MINUS = "\u2212"


def count(n: float) -> str:
    """Write a whole number, thousands set apart.

    >>> count(28672)
    '28,672'
    """
    return f"{round(n):,}"


def decimal(x: float) -> str:
    """Write three significant digits, never with an exponent.

    >>> [decimal(v) for v in (0.01234, 12.345, 127208.3)]
    ['0.0123', '12.3', '127,208']
    """
    if not math.isfinite(x):
        return MISSING if math.isnan(x) else ("\u221e" if x > 0 else f"{_MINUS}\u221e")
    digits = 2 - math.floor(math.log10(abs(x))) if x else 0
    return f"{x:,.{min(max(digits, 0), 6)}f}".replace("-", _MINUS)


def probability(p: float) -> str:
    """Write a p-value.

    >>> [probability(v) for v in (0.0004, 0.01, 0.25)]
    ['<0.001', '0.010', '0.25']
    """
    if not math.isfinite(p):
        return MISSING
    return "<0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def smallest_p(draws: int) -> str:
    """Say how small a p some random draws can give.

    >>> smallest_p(9)
    'the smallest p they can give is 0.10, so none can be below 0.05.'
    """
    smallest = 1 / (1 + draws)
    rest = ", so none can be below 0.05" if smallest > 0.05 else ""
    return f"the smallest p they can give is {probability(smallest)}{rest}."


def share(part: float, whole: float) -> str:
    """Write a part as percentage.

    >>> share(3, 200), share(1, 3)
    ('1.50 %', '33.3 %')
    """
    percent = 100 * part / whole if whole else math.nan
    if not math.isfinite(percent):
        return MISSING
    return f"{percent:.{1 if abs(percent) >= 10 else 2}f} %".replace("-", _MINUS)


def percent(fraction: float) -> str:
    """Write a round share, such as a limit of a rule.

    >>> percent(0.1), percent(0.025)
    ('10 %', '2.5 %')
    """
    return f"{100 * fraction:g} %"


def plural(n: float, noun: str) -> str:
    """Write a number with its noun.

    >>> plural(1, "prompt"), plural(1200, "prompt")
    ('1 prompt', '1,200 prompts')
    """
    return f"{count(n)} {noun}{'' if n == 1 else 's'}"


def rule(attrs: Mapping[str, Any]) -> str:
    """Describe how a mask was thresholded.

    >>> rule({"control": "Top(fraction=0.02)"})
    'Top(0.02)'
    >>> rule({"control": "fdr", "alpha": 0.05, "two_sided": False})
    'fdr, alpha = 0.05, one-sided'
    """
    control = str(attrs.get("control", ""))
    if not control:
        return "rule not stated"
    alpha = f", alpha = {attrs['alpha']:g}" if control.isidentifier() and "alpha" in attrs else ""
    sides = (", two-sided" if attrs["two_sided"] else ", one-sided") if "two_sided" in attrs else ""
    return f"{typed(control)}{alpha}{sides}"


def typed(control: str) -> str:
    """Write a typed threshold as the user does: ``Z(3.6)``."""
    return re.sub(r"\((?:value|fraction)=", "(", control)


def isolate(name: str) -> str:
    """Keep a name that runs from right to left from reordering the sentence around it."""
    right_to_left = any(unicodedata.bidirectional(c) in ("R", "AL") for c in name)
    return f"\u2068{name}\u2069" if right_to_left else name


def shorten(text: str, length: int) -> str:
    """Cut a text, white space collapsed, to so many characters.

    >>> shorten("le  chat dort", 8)
    'le chat…'
    """
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"
