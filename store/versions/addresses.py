"""How a version is named: ``NAME.icechunk``, ``NAME.icechunk@VERSION`` or ``NAME.zarr@VERSION``."""

import os
import re

from ..errors import InputError

_ADDRESS = re.compile(r"(?P<stem>.*[^/])\.(?P<kind>icechunk|zarr)/*(?:@(?P<version>[^/@]+))?")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def split_address(path: str) -> tuple[str, str] | None:
    """Split what names a version into the history and the version; None where it names none.

    A version is a tag, a branch or the id of a snapshot; "" is the newest of ``main``.

    >>> split_address("data/languages.icechunk")
    ('data/languages.icechunk', '')
    >>> split_address("data/languages.zarr@v1")
    ('data/languages.icechunk', 'v1')
    >>> split_address("data/languages.zarr") is None
    True
    """
    match = _ADDRESS.fullmatch(path)
    if match is None or (match["kind"] == "zarr" and match["version"] is None):
        return None
    return f"{match['stem']}.icechunk", match["version"] or ""


def history_beside(path: str | os.PathLike[str]) -> str:
    """Return the history that belongs to a recording or a result, or to one of its versions.

    >>> history_beside("data/languages.zarr")
    'data/languages.icechunk'

    Raises
    ------
    InputError
        `path` ends neither in ``.zarr`` nor in ``.icechunk``.
    """
    match = _ADDRESS.fullmatch(os.fspath(path))
    if match is None:
        raise InputError(
            f"a history is a folder NAME.icechunk, by default beside NAME.zarr, got {os.fspath(path)!r}; "
            "name the history"
        )
    return f"{match['stem']}.icechunk"


def check_name(name: str, what: str) -> None:
    """Refuse the name of a tag or a branch that could not be written after an ``@``.

    Raises
    ------
    InputError
        It has other characters than letters, digits, ``.``, ``_`` and ``-``, or starts with one of these
        three.
    """
    if not _NAME.fullmatch(name):
        raise InputError(
            f"a {what} is made of letters, digits, '.', '_' and '-', and starts with a letter or a digit, "
            f"got {name!r}"
        )
