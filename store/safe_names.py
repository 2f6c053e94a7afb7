"""Names that come from elsewhere and become paths here: none may lead out of the folder it is for."""

import re
from urllib.parse import unquote

_OUT = re.compile(r"(?:^|/)\.{0,2}(?:/|\Z)|[\\\0]|^[A-Za-z]:/")
_IN_PACKAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


def leads_out(name: str) -> bool:
    r"""Say whether the name of a file in a folder is no plain one, or one that a system could take for such.

    >>> leads_out("mlp/activation/c/0"), leads_out("a/..b"), leads_out("mlp/../../b")
    (False, False, True)
    >>> [leads_out(name) for name in ("", "/a", "a//b", "a/", "./a", "a\\b", "C:/a")]
    [True, True, True, True, True, True, True]
    """
    return _OUT.search(name) is not None


def climbs(location: str) -> bool:
    """Say whether a path or a URL goes up, as it stands or once what is quoted in it is read.

    >>> climbs("lab/a..zarr"), climbs("lab/../a.zarr"), climbs("https://lab/%2e%2e/a.zarr")
    (False, True, True)
    """
    return any(".." in text.split("/") for text in (location, unquote(location)))


def fits_package(name: str) -> bool:
    """Say whether an entry may have this name in a package: letters, digits and ``. _ + -``.

    >>> fits_package("words-2"), fits_package("two words"), fits_package(".words")
    (True, False, False)
    """
    return _IN_PACKAGE.fullmatch(name) is not None
