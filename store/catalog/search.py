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
    sources = _sources(entries)
    found: dict[str, None] = {}
    waiting = [name]
    for current in waiting:
        for source in sources.get(current, ()):
            if source not in found and source != name:
                found[source] = None
                waiting.append(source)
    return list(found)


def made_of(entries: Mapping[str, Entry]) -> dict[str, list[str]]:
    """Return the entries that were derived from each thing, by its name, else as it was written."""
    made: dict[str, list[str]] = {}
    for name, sources in _sources(entries).items():
        for source in sources:
            made.setdefault(source, []).append(name)
    return made


def descendants(origins: Iterable[str], made: Mapping[str, list[str]]) -> list[str]:
    """Return the entries that were derived from some things, and what was from those, the nearest first.

    Parameters
    ----------
    origins
        Names of entries, or digests of what the catalog does not hold.
    made
        From `made_of`.
    """
    known = dict.fromkeys(origins)
    n_origins, waiting = len(known), list(known)
    for current in waiting:
        new = [name for name in made.get(current, ()) if name not in known]
        known |= dict.fromkeys(new)
        waiting += new
    return waiting[n_origins:]


def _sources(entries: Mapping[str, Entry]) -> dict[str, list[str]]:
    """Return what each entry was derived from at once."""
    named = {entry.metadata.digest: n for n, entry in entries.items() if entry.metadata.digest}
    return {
        name: [s if s in entries else named.get(s, s) for s in entry.metadata.derived_from]
        for name, entry in entries.items()
    }
