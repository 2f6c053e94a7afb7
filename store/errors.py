"""Errors that a user's input can cause.

Each inherits the builtin that a caller would expect, so ``except ValueError`` works, and
`ActomeError`, so that the command line can tell a wrong input (one line, exit status 2) from a
defect of the program (a traceback).
"""


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


def short(value: object) -> str:
    """Show a value in a message, at most 40 characters of it.

    >>> short("x" * 100)
    "'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx..."
    """
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
