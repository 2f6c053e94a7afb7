"""Which entries of a catalog are searched for, and which an entry was derived from."""

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

from .entry import Entry


def matches(name: str, entry: Entry, tags: Iterable[str], asked: Mapping[str, str], text: str | None) -> bool:
    """Say whether an entry fits all that is asked.

    Parameters
    ----------
    name, entry
        The entry.
    tags
        Tags that it must have all.
    asked
        By field of its metadata, the value that it must have, or one of whose values; ``*`` and ``?``
        stand for any letters and any one.
    text
        Part of its name or of what it says of itself, in any case; None for any.
    """
    known = entry.metadata
    if not set(tags) <= set(known.tags):
        return False
    for field, pattern in asked.items():
        value = getattr(known, field)
        values = value if isinstance(value, tuple) else (value,)
        if not any(v is not None and fnmatchcase(v, pattern) for v in values):
            return False
    said = (name, entry.description, *known.tags, known.model, known.citation)
    return text is None or any(text.casefold() in s.casefold() for s in said if s)


def ancestors(name: str, entries: Mapping[str, Entry]) -> list[str]:
    """Return what an entry was derived from, and what that was, the nearest first.

    Entries, named there or by their digest, stand under their names; all else as it was written.
    """
    named = {entry.metadata.digest: n for n, entry in entries.items() if entry.metadata.digest}
    found: dict[str, None] = {}
    waiting = [name]
    for current in waiting:
        sources = entries[current].metadata.derived_from if current in entries else ()
        for source in (s if s in entries else named.get(s, s) for s in sources):
            if source not in found and source != name:
                found[source] = None
                waiting.append(source)
    return list(found)
