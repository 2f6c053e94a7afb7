"""Editing the text of a catalog, so that its comments, order and quotes stay as they are.

A change is first made in the lines of the entry alone, which takes no time in a file of thousands;
whether the text then says what it should is read back. Where it does not, because the file is
written in another style, the whole document is taken apart and written again, which takes seconds.
"""

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from ..errors import InputError
from ..yaml import dump, parse_mapping, read_mapping
from .entry import Entry, read_entries

Changes = Mapping[str, Entry | None]  # None: the entry goes

EMPTY: Final = "version: 1\nsources: {}\n"

_SOURCES = re.compile(r"sources:[ \t]*(?:\{[ \t]*\}[ \t]*)?(#.*)?")
_EMPTY = re.compile(r"\{[ \t]*\}")
_KEY = re.compile(r""" *(?:'([^']*)'|"([^"]*)"|([^\s'"#][^:]*?)) *:(?=[ \t]|$)""")
_NO_CONTENT = re.compile(r"[ \t]*(#.*)?")


def create(path: Path) -> None:
    """Make a catalog without entries.

    Raises
    ------
    InputError
        There is something at `path`, or it cannot be written there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(EMPTY)
    except OSError as error:
        raise InputError(f"no catalog can be made at {path}: {error.strerror}") from error


def write_changes(path: Path, before: Changes, after: Changes) -> None:
    """Write changed entries into the file of a catalog, one process after the other.

    Parameters
    ----------
    path
        The YAML file.
    before, after
        The entries by name, as they were when the catalog was read, and as they are to be.

    Raises
    ------
    MissingFileError, InputError
        The file is gone or is no catalog any more; another has changed the same entry meanwhile; `edit`
        cannot edit it.
    """
    from ..location import Location

    folder = Location.of(path.parent)
    with folder.claimed(wait=True):
        content, text = read_mapping(path, "catalog")
        now = read_entries(content, str(path))
        for name, entry in before.items():
            if now.get(name) not in (entry, after[name]):
                raise InputError(
                    f"catalog {path}: another has changed entry {name!r} meanwhile; open the catalog again"
                )
        changes = {name: entry for name, entry in after.items() if now.get(name) != entry}
        if changes:
            folder.write(path.name, edit(text, changes, str(path)).encode())


def edit(text: str, changes: Changes, source: str) -> str:
    """Return the text of a catalog with some entries added, replaced or removed.

    Parameters
    ----------
    text
        The YAML.
    changes
        The new entry by name; None for one that goes.
    source
        Where it was read, for the error messages.

    Raises
    ------
    InputError
        The text is no catalog, or is written in a way that cannot be edited.
    """
    wanted = read_entries(parse_mapping(text, "catalog", source), source)
    wanted = {n: e for n, e in {**wanted, **changes}.items() if e is not None}
    newline = "\r\n" if "\r\n" in text else "\n"
    for attempt in (_edit_lines, _edit_document):
        edited = attempt(text.replace("\r\n", "\n"), changes)
        if edited is not None and _holds(edited, wanted, source):
            return edited.replace("\n", newline)
    raise InputError(f"catalog {source} cannot be edited by a program; change {sorted(changes)} by hand")


def _holds(text: str, wanted: Mapping[str, Entry], source: str) -> bool:
    try:
        return read_entries(parse_mapping(text, "catalog", source), source) == wanted
    except InputError:
        return False


def _edit_lines(text: str, changes: Changes) -> str | None:
    """Edit the lines below ``sources:``; None where they are not in block style."""
    lines = text.removesuffix("\n").split("\n")
    heads = [i for i, line in enumerate(lines) if _SOURCES.fullmatch(line)]
    if len(heads) != 1:
        return None
    head = heads[0]
    lines[head] = _EMPTY.sub("", lines[head], count=1).rstrip()
    body = _block(lines, head)
    content = [i for i in range(head + 1, body) if not _NO_CONTENT.fullmatch(lines[i])]
    indent = _indent(lines[content[0]]) if content else 2
    starts = {_name(lines[i]): i for i in content if _indent(lines[i]) == indent}
    added = {n: e.document() for n, e in changes.items() if e is not None and n not in starts}
    lines[body:body] = _indented(dump(added), indent) if added else []
    for name in sorted(changes.keys() & starts.keys(), key=lambda n: -starts[n]):  # those above stay in place
        start, end = starts[name], _block(lines, starts[name])
        lines[start:end] = _changed(name, changes[name], lines[start:end], indent)
    return "\n".join(lines) + "\n"


def _name(line: str) -> str:
    match = _KEY.match(line)
    return match[match.lastindex or 0] if match else ""


def _block(lines: list[str], start: int) -> int:
    """Return the line after the last that is further to the right than line `start`."""
    end = start + 1
    for i in range(start + 1, len(lines)):
        if _NO_CONTENT.fullmatch(lines[i]):
            continue
        if _indent(lines[i]) <= _indent(lines[start]):
            break
        end = i + 1
    return end


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _changed(name: str, entry: Entry | None, old: list[str], indent: int) -> list[str]:
    if entry is None:
        return []
    text = "\n".join(line[indent:] for line in old) + "\n"
    return _indented(_update(text, {name: entry.document()}), indent)


def _indented(text: str, indent: int) -> list[str]:
    return [" " * indent + line if line else line for line in text.removesuffix("\n").split("\n")]


def _edit_document(text: str, changes: Changes) -> str | None:
    sources = {n: None if e is None else e.document() for n, e in changes.items()}
    return _update(text, {"sources": sources}, kept=True)


def _update(text: str, values: Mapping[str, Any], *, kept: bool = False) -> str:
    """Write some values into a YAML text and take out those that are None; `kept`: others stay."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    round_trip = YAML()
    round_trip.preserve_quotes = True
    round_trip.width = 2**16  # never fold a long line
    out = io.StringIO()
    try:
        document = round_trip.load(text)
        for name, value in values.items():
            _put(document, name, value, kept=kept)
        round_trip.dump(document, out)
    except YAMLError:
        return text  # in a style that it does not know; nothing is changed, which the caller sees
    return out.getvalue()


def _put(parent: Any, key: str, value: Any, *, kept: bool = False) -> None:
    old = parent.get(key)
    if value is None:
        parent.pop(key, None)
    elif isinstance(value, dict) and isinstance(old, dict):
        for k in [] if kept else [k for k in old if k not in value]:
            del old[k]
        for k, v in value.items():
            _put(old, k, v)
    elif isinstance(value, list):
        _put_list(parent, key, value)
    elif old != value:
        parent[key] = value


def _put_list(parent: Any, key: str, value: list[Any]) -> None:
    """Write a list in the style of the one that was there; on one line where there was none."""
    from ruamel.yaml.comments import CommentedSeq

    if not isinstance(parent.get(key), CommentedSeq):
        parent[key] = CommentedSeq()
        parent[key].fa.set_flow_style()
    if parent[key] != value:
        parent[key][:] = value
