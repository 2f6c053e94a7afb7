"""The entries of a catalog's file, each with the file that lists it; those of several files together."""

import gc
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from ..errors import InputError
from .entry import Entry, read_entries
from .origin import Origin


@dataclass(frozen=True)
class Listed:
    """An entry, the file that lists it, and the path or URL that it names, at which nothing was looked."""

    entry: Entry
    origin: Origin
    address: str

    @classmethod
    def of(cls, name: str, entry: Entry, origin: Origin) -> "Listed":
        """Locate an entry by its text.

        Raises
        ------
        InputError
            Its location leads out of the folder, or is none.
        """
        return cls(entry, origin, origin.locate(entry.args.urlpath, name))

    def is_same(self, other: "Listed") -> bool:
        """Say whether two entries are equal and stand for the same bytes."""
        same_bytes = self.entry.metadata.digest or self.address == other.address
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
        return {name: Listed.of(name, entry, origin) for name, entry in entries.items()}


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
            if not known.is_same(one):
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
