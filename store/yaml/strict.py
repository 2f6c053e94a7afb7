"""Strict reading of YAML 1.2: plain data only; no tag, anchor or alias; nothing is executed."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pydantic

from ..errors import InputError, MissingFileError
from .plain import MAX_DEPTH, read_plain, resolve

MAX_BYTES: Final = 32 * 2**20
_LONGEST_NUMBER = 4000  # digits that Python turns into a number
_MOST_ERRORS = 5


def read_mapping(path: Path, what: str) -> tuple[dict[str, Any], str]:
    """Read a YAML file whose top level is a mapping.

    Parameters
    ----------
    path
        The file.
    what
        What it is, for the error messages: "paradigm", "catalog".

    Returns
    -------
    The mapping, and the text it was read from.

    Raises
    ------
    MissingFileError, InputError
        There is no such file; it cannot be read; it is longer than 32 MiB; `parse_mapping` refuses it.
    """
    try:
        if not path.is_file():
            raise MissingFileError(f"there is no {what} file at {path}")
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        if isinstance(error, MissingFileError):
            raise
        raise InputError(f"{what} {path} cannot be read: {error.strerror}") from error
    text = decode(content, what, str(path))
    return parse_mapping(text, what, str(path)), text


def decode(content: bytes, what: str, source: str) -> str:
    """Return the text of a YAML file of at most 32 MiB; `what` and `source` as for `parse_mapping`.

    Raises
    ------
    InputError
        It is longer, or not UTF-8.
    """
    if len(content) > MAX_BYTES:
        raise InputError(f"{what} {source} is longer than {MAX_BYTES // 2**20} MiB, the most that is read")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{what} {source} is not YAML: {error}") from error


def parse_mapping(text: str, what: str, source: str) -> dict[str, Any]:
    """Return the mapping that a YAML text stands for.

    Parameters
    ----------
    text
        One document.
    what, source
        What it is and where it comes from, for the error messages.

    Raises
    ------
    InputError
        It is not YAML or not a mapping, has a key twice, a tag, an anchor, an alias or a second
        document, or is nested more than 32 deep.
    """
    value = read_plain(text)
    if value is None:
        value = _parse(text, f"{what} {source}")
    if not isinstance(value, dict):
        raise InputError(f"{what} {source} must be a mapping of names to values, got {type(value).__name__}")
    return value


def _parse(text: str, source: str) -> Any:
    """Build what libyaml reads; it alone decides what is YAML, the core schema of 1.2 what it means."""
    import yaml

    loader = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
    try:
        events = yaml.parse(text, Loader=loader)
        next(events)  # the start of the stream
        if isinstance(next(events), yaml.StreamEndEvent):
            return None
        value = _node(next(events), events, source, 1)
        next(events)
        extra = next(events)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise InputError(
            f"{source} is not YAML: line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
        ) from error
    except yaml.YAMLError as error:
        raise InputError(f"{source} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(extra, yaml.StreamEndEvent):
        raise _refused(source, extra, "a second document begins; write one")
    return value


def _node(event: Any, events: Iterator[Any], source: str, depth: int) -> Any:
    kind = type(event).__name__
    if kind == "AliasEvent" or event.anchor is not None:
        sign = f"*{event.anchor}" if kind == "AliasEvent" else f"&{event.anchor}"
        raise _refused(source, event, f"{sign} is an anchor or an alias; write the value out")
    if event.tag is not None:
        raise _refused(source, event, f"the tag {event.tag!r} is not read; write plain data")
    if kind == "ScalarEvent":
        return _scalar(event, source)
    if depth > MAX_DEPTH:
        raise _refused(source, event, f"it is nested more than {MAX_DEPTH} deep")
    if kind == "SequenceStartEvent":
        return [_node(e, events, source, depth + 1) for e in _until(events, "SequenceEndEvent")]
    out: dict[Any, Any] = {}
    for e in _until(events, "MappingEndEvent"):
        if type(e).__name__ in ("SequenceStartEvent", "MappingStartEvent"):
            raise _refused(source, e, "a key must be a scalar")
        key = _node(e, events, source, depth + 1)
        if key in out:
            raise _refused(source, e, f"duplicate key {key!r}")
        out[key] = _node(next(events), events, source, depth + 1)
    return out


def _scalar(event: Any, source: str) -> Any:
    if not event.implicit[0]:
        return event.value  # in quotes, or a block of text
    try:
        return resolve(event.value)
    except ValueError as error:
        raise _refused(source, event, "a number of too many digits") from error


def _until(events: Iterator[Any], end: str) -> Iterator[Any]:
    while type(event := next(events)).__name__ != end:
        yield event


def _refused(source: str, event: Any, problem: str) -> InputError:
    return InputError(f"{source}, line {event.start_mark.line + 1}: {problem}")


def dump(content: Mapping[str, Any]) -> str:
    """Write plain data as YAML that versions 1.1 and 1.2 read alike: `no`, dates and `1e3` in quotes.

    Mappings are blocks, lists of scalars one line.
    """
    import yaml

    class Dumper(yaml.CSafeDumper if yaml.__with_libyaml__ else yaml.SafeDumper):  # type: ignore[misc]
        pass

    def text(dumper: Any, value: str) -> Any:
        is_number = len(value) < _LONGEST_NUMBER and not isinstance(resolve(value), str)
        style = '"' if is_number or not value.isprintable() else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)

    def sequence(dumper: Any, value: Iterable[Any]) -> Any:
        flow = not any(isinstance(v, (dict, list, tuple)) for v in value)
        return dumper.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=flow)

    Dumper.add_representer(str, text)
    Dumper.add_representer(list, sequence)
    Dumper.add_representer(tuple, sequence)
    Dumper.ignore_aliases = lambda *_: True  # an alias would be refused when it is read
    return str(
        yaml.dump(
            dict(content),
            Dumper=Dumper,
            sort_keys=False,
            allow_unicode=True,
            width=2**16,
            default_flow_style=False,
        )
    )


def describe(error: pydantic.ValidationError) -> str:
    """Say in one line what is wrong with a document that does not fit its model."""
    parts = []
    errors = error.errors(include_url=False, include_context=False)
    for e in errors[:_MOST_ERRORS]:
        where = ".".join(str(p) for p in e["loc"]) or "top level"
        got = "" if e["type"] == "missing" else f", got {e['input']!r}"
        parts.append(f"{where}: {e['msg'][0].lower()}{e['msg'][1:]}{got if len(got) < 80 else ''}")
    more = [f"and {len(errors) - _MOST_ERRORS} more"] if len(errors) > _MOST_ERRORS else []
    return "; ".join(parts + more)
