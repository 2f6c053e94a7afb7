"""``SHA256SUMS``: the digest of every file of a package, as ``sha256sum -c`` reads it."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

from ..errors import DamagedError, InputError
from ..provenance import digest_pieces
from ..safe_names import leads_out

NAME = "SHA256SUMS"
MOST_BYTES = 2**28  # some two million files
_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")


class Readable(Protocol):
    """A package that is read member by member."""

    def names(self) -> list[str]:
        """Return the names of all members."""

    def pieces(self, name: str) -> Iterator[bytes]:
        """Read a member piece by piece."""


def write_sums(digests: Mapping[str, str]) -> str:
    """Return the lines of the file, by name.

    Parameters
    ----------
    digests
        SHA-256 in hexadecimal, by the member's name.
    """
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))


def read_sums(text: str, where: str) -> dict[str, str]:
    """Return the digests by name.

    Raises
    ------
    InputError
        A line is none of ``sha256sum``, a name stands twice or leads out of the package.
    """
    digests: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        match = _LINE.fullmatch(line)
        if match is None or match[2] in digests:
            raise InputError(f"{NAME} of {where}: line {number} is no digest of another file: {line[:80]!r}")
        digests[match[2]] = match[1]
    check_names(digests, where)
    return digests


def check_names(names: Iterable[str], where: str) -> None:
    r"""Refuse names that lead out of the package, or that another system would take for such.

    >>> check_names(["a.zarr/c/0"], "p")
    >>> check_names(["../a"], "p")
    Traceback (most recent call last):
    ...
    actome.store.errors.InputError: p: the name '../a' leads out of the package; nothing of it is entered
    """
    for name in names:
        if leads_out(name):
            raise InputError(f"{where}: the name {name!r} leads out of the package; nothing of it is entered")


def check_sums(package: Readable, digests: Mapping[str, str], where: str) -> None:
    """Compare every member with its digest.

    Raises
    ------
    DamagedError
        A member is damaged, missing, or not listed; the message names the first ones.
    """
    present = set(package.names()) - {NAME}
    wrong = [f"missing: {name}" for name in sorted(digests.keys() - present)]
    wrong += [f"not in {NAME}: {name}" for name in sorted(present - digests.keys())]
    for name in sorted(present & digests.keys()):
        if digest_pieces(package.pieces(name)) != f"sha256:{digests[name]}":
            wrong.append(f"damaged: {name}")
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise DamagedError(f"{where} is not as it was exported: {'; '.join(wrong[:3])}{more}; copy it again")
