"""The entries of a catalog's file, each with the file that lists it; those of several files together."""

import gc
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from .entry import Entry, read_entries
from .errors import InputError
from .origin import Origin


@dataclass(frozen=True)
class Listed:
    """An entry and the file that lists it."""

    entry: Entry
    origin: Origin

    def address(self, name: str) -> str:
        """Return the path or URL that the entry names; nothing is looked at."""
        return self.origin.locate(self.entry.args.urlpath, name)

    def is_same(self, other: "Listed", name: str) -> bool:
        """Say whether two entries are equal and stand for the same bytes."""
        same_bytes = self.entry.metadata.digest or self.address(name) == other.address(name)
        return self.entry == other.entry and bool(same_bytes)


def read_listed(origin: Origin) -> dict[str, Listed]:
    """Read a catalog's file; every location is checked by its text.

    Raises
    ------
    MissingFileError, InputError, StorageError
        There is no such file, it is no catalog, or it cannot be reached.
    """
    with _uncollected():
        entries = read_entries(origin.read(), origin.file)
        listed = {name: Listed(entry, origin) for name, entry in entries.items()}
    for name, one in listed.items():
        one.address(name)
    return listed


def merge(several: Iterable[Mapping[str, Listed]]) -> dict[str, Listed]:
    """Put the entries of several files together.

    Raises
    ------
    InputError
        Two files list different entries under one name.
    """
    together: dict[str, Listed] = {}
    for listed in several:
        for name, one in listed.items():
            known = together.setdefault(name, one)
            if not known.is_same(one, name):
                raise InputError(
                    f"catalogs {known.origin} and {one.origin} list different entries under the name "
                    f"{name!r}; rename one of them"
                )
    return together


@contextmanager
def _uncollected() -> Iterator[None]:
    """Keep the garbage collector from going through thousands of new objects, which all stay."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
