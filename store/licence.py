"""The licence of what is made of several parts, as an SPDX expression."""

from collections.abc import Sequence


def combine(licences: Sequence[str | None]) -> str | None:
    """Join licences that all apply; None where one is unknown.

    >>> combine(["CC0-1.0", "MIT OR Apache-2.0", "CC0-1.0"])
    'CC0-1.0 AND (MIT OR Apache-2.0)'
    >>> combine(["CC0-1.0", None])
    """
    known = list(dict.fromkeys(licences))
    if not known or None in known:
        return None
    if len(known) == 1:
        return known[0]
    return " AND ".join(f"({x})" if x and " OR " in x else str(x) for x in known)
