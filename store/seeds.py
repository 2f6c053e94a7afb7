"""Seeds of random numbers that belong to a name: the same wherever it stands among others."""

from .provenance import digest_json


def seed_of(*parts: int | str) -> int:
    """Return a seed for what is named, 128 bits of a digest.

    Parameters
    ----------
    parts
        What the numbers belong to: the user's seed, what they are for, the name of a prompt or a network.

    >>> seed_of(0, "noise", "fr-0001") == seed_of(0, "noise", "fr-0001")
    True
    >>> seed_of(0, "noise", "fr-0001") == seed_of(0, "noise", "fr-0002")
    False
    """
    return int(digest_json(list(parts)).removeprefix("sha256:")[:32], 16)
