"""A quick reader of the plain YAML in which catalogs are written.

It knows mappings in block style: keys and values on one line (plain, in quotes without a backslash, or
a flat ``{...}`` or ``[...]`` of such values), lists of values, comments on lines of their own. All
else it declines, and the full parser of `yaml`, several times slower, is asked. What it does read, it
reads as the full parser does.
"""

import re
from collections.abc import Iterator
from typing import Any, Final

# what is matched is never given back (*+, ++), so that no text takes more time than its length asks for
_KEY = r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,127}"
_QUOTED = r""""([^"\\\n]++)"|'((?:[^'\n]|'')++)'"""
_PLAIN = r"[A-Za-z0-9_/][^:#\n]*+(?::[^\s:#][^:#\n]*+)*+"
_FLOW_PLAIN = r"[A-Za-z0-9_/][^:#\n,\[\]{}]*+(?::[^\s:#,\[\]{}][^:#\n,\[\]{}]*+)*+"
_LINE: Final = re.compile(rf"^( *)(?:({_KEY}):(?= |$)|(-)(?= |$)|(?=#|$)) *(.*)$", re.MULTILINE)
_VALUE: Final = re.compile(rf"(?:{_QUOTED}|({_PLAIN})|\{{(.+)\}}|\[(.+)\]) *")
_ITEM: Final = re.compile(rf" *+(?:{_QUOTED}|({_FLOW_PLAIN})) *+(?:,|$)")
_PAIR: Final = re.compile(rf" *+({_KEY}): ++(?:{_QUOTED}|({_FLOW_PLAIN})) *+(?:,|$)")
_LONGEST = 4096  # letters of a value; catalogs have no longer ones
# controls, line breaks of other kinds, and what is no character
_ODD: Final = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")

_WORDS: Final[dict[str, bool | None]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGER: Final = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT: Final = re.compile(
    r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
MAX_DEPTH: Final = 32  # of collections in one another


class _Declined(Exception):
    """The text is none of the plain kind."""


def resolve(text: str) -> str | int | float | bool | None:
    """Return what a plain scalar means in the core schema of YAML 1.2.

    Raises
    ------
    ValueError
        An integer of thousands of digits.

    >>> [resolve(t) for t in ("no", "0o17", "1e3", "~", "1_000", "2026-01-01")]
    ['no', 15, 1000.0, None, '1_000', '2026-01-01']
    """
    if text in _WORDS:
        return _WORDS[text]
    if text[0].isalpha():
        return text
    if _INTEGER.fullmatch(text):
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    if _FLOAT.fullmatch(text):
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    return text


def read_plain(text: str) -> dict[str, Any] | None:
    r"""Read a document that is plain throughout; None where it is not.

    >>> read_plain("a: {b: 1, c: x y}\nd:\n  - no\n")
    {'a': {'b': 1, 'c': 'x y'}, 'd': ['no']}
    >>> read_plain("a: &b 1") is None
    True
    """
    lines = _LINE.findall(text)
    if len(lines) != text.count("\n") + 1 or _ODD.search(text):
        return None
    try:
        return _nest(lines)
    except (_Declined, ValueError):
        return None


def _nest(lines: list[tuple[str, str, str, str]]) -> dict[str, Any]:
    """Put the lines below the keys that they belong to."""
    root: dict[str, Any] = {}
    open_ones: list[tuple[int, Any]] = [(0, root)]  # each with the column of its lines
    column = 0
    container: Any = root
    waiting = False  # the lines that follow are the value of `key`
    key = ""
    known: dict[str, Any] = {}  # many entries have the same tags, sites and conditions
    keys: set[str] = set()  # that were found to be text
    for indent, name, dash, text in lines:
        if not name and not dash:
            continue
        if waiting:
            if len(indent) < column + bool(name):
                raise _Declined  # a null
            inner: Any = {} if name else []
            container[key] = inner
            column, container = len(indent), inner
            open_ones.append((column, inner))
            if len(open_ones) > MAX_DEPTH:
                raise _Declined
            waiting = False
        elif len(indent) != column:
            while len(indent) < open_ones[-1][0]:
                open_ones.pop()
            column, container = open_ones[-1]
        if name and len(open_ones) > 1 and open_ones[-2][0] == column:
            open_ones.pop()  # a list that is as far to the left as its key
            column, container = open_ones[-1]
        if len(indent) != column or isinstance(container, dict) != bool(name) or not (name or text):
            raise _Declined
        value: Any = known.get(text)
        if value is None and text:
            value = known[text] = _value(text)
        if type(value) in (dict, list):
            value = value.copy()
        if dash:
            container.append(value)
        else:
            if name in container or (name not in keys and not isinstance(resolve(name), str)):
                raise _Declined
            keys.add(name)
            container[name] = value
            key, waiting = name, not text
    if waiting or not root:
        raise _Declined
    return root


def _value(text: str) -> Any:
    found = _VALUE.fullmatch(text) if len(text) <= _LONGEST else None
    if found is None:
        raise _Declined
    double, single, plain, mapping, sequence = found.groups()
    if mapping:
        pairs = list(_parts(_PAIR, mapping))
        out = {key: _scalar(*scalar) for key, *scalar in pairs if isinstance(resolve(key), str)}
        if len(out) != len(pairs):
            raise _Declined
        return out
    if sequence:
        return [_scalar(*scalar) for scalar in _parts(_ITEM, sequence)]
    return _scalar(double, single, plain)


def _parts(pattern: re.Pattern[str], text: str) -> Iterator[tuple[str, ...]]:
    """Go through what a text is made of, one part right after the other."""
    place = 0
    while place < len(text):
        found = pattern.match(text, place)
        if found is None:
            raise _Declined
        yield found.groups("")
        place = found.end()


def _scalar(double: str, single: str, plain: str) -> Any:
    return double or (single and single.replace("''", "'")) or resolve(plain.rstrip(" "))
