"""Names of the files that a recording keeps beside its arrays, of which there may be several of a kind."""

import re

_NUMBER = re.compile(r"-([1-9][0-9]*)(?=\.[a-z]+$)")


def numbered(first: str, number: int) -> str:
    """Name a file of a kind, by the name of the first of them and its number, counted from 1.

    >>> numbered("actome/paradigm.yaml", 1), numbered("actome/paradigm.yaml", 2)
    ('actome/paradigm.yaml', 'actome/paradigm-2.yaml')
    """
    stem, dot, suffix = first.rpartition(".")
    return first if number == 1 else f"{stem}-{number}{dot}{suffix}"


def split_number(name: str) -> tuple[str, int]:
    """Return the name of the first file of a kind, and which of them this is: what `numbered` takes.

    >>> sorted(["paradigm-10.yaml", "paradigm-2.yaml", "paradigm.yaml"], key=split_number)
    ['paradigm.yaml', 'paradigm-2.yaml', 'paradigm-10.yaml']
    """
    number = _NUMBER.search(name)
    return (_NUMBER.sub("", name), int(number[1])) if number else (name, 1)
