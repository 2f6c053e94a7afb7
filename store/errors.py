"""Errors that a user's input can cause.

Each inherits the builtin that a caller would expect, so ``except ValueError`` works, and
`ActomeError`, so that the command line can tell a wrong input (one line, exit status 2) from a
defect of the program (a traceback).
"""

from collections.abc import Mapping
from typing import Any

_SHOWN = 40  # characters of a value in a message


class ActomeError(Exception):
    """Base of every error that a wrong input causes."""


class InputError(ActomeError, ValueError):
    """A value that is not allowed, or that does not fit the other arguments."""


class InputTypeError(ActomeError, TypeError):
    """An argument of the wrong type."""


class MissingFileError(ActomeError, FileNotFoundError):
    """A path or a name that leads nowhere."""


class DamagedError(ActomeError, OSError):
    """Bytes in the store that are not those that were written."""


class StorageError(ActomeError, OSError):
    """A remote store that did not answer, refused, or answered with something else than asked for."""


class AccessError(StorageError):
    """A remote store that refuses; many do so too for a file that is not there."""


class MissingDependencyError(ActomeError, ImportError):
    """An optional package that this call needs is not installed."""


class UnknownNameError(ActomeError, KeyError):
    """A name that the catalog does not hold."""

    def __str__(self) -> str:
        """Return the message itself; a KeyError would show it quoted."""
        return str(self.args[0])


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Say of each value of two mappings that differs what it is; of a long one, where it first differs.

    >>> names = ["layers.0.mlp.down_proj", "layers.1.mlp.down_proj"]
    >>> differences({"seed": 1, "modules": names}, {"seed": 2, "modules": [names[0], "layers.1.mlp.up_proj"]})
    ["modules[1]: 'layers.1.mlp.down_proj' there, 'layers.1.mlp.up_proj' now", 'seed: 1 there, 2 now']
    """
    names = [k for k in sorted(before.keys() | now.keys()) if before.get(k) != now.get(k)]
    return [_difference(name, before.get(name), now.get(name)) for name in names]


def _difference(name: str, before: Any, now: Any) -> str:
    if max(len(repr(before)), len(repr(now))) > _SHOWN:
        if isinstance(before, Mapping) and isinstance(now, Mapping):
            key = next(k for k in [*before, *now] if k not in before or k not in now or before[k] != now[k])
            return _difference(f"{name}[{key!r}]", before.get(key), now.get(key))
        if isinstance(before, list) and isinstance(now, list):
            if len(before) != len(now):
                return f"{name}: {len(before)} values there, {len(now)} now"
            at = next(i for i, (a, b) in enumerate(zip(before, now, strict=True)) if a != b)
            return _difference(f"{name}[{at}]", before[at], now[at])
    return f"{name}: {short(before)} there, {short(now)} now"


def short(value: object) -> str:
    """Show a value in a message, at most 40 characters of it.

    >>> short("x" * 100)
    "'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx..."
    """
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
