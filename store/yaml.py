"""Strict reading of YAML 1.2: plain data only, no tag is interpreted, nothing is executed."""

from pathlib import Path
from typing import Any

import pydantic
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from .errors import InputError, MissingFileError


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
        There is no such file; it is not UTF-8, not YAML, or not a mapping.
    """
    if not path.is_file():
        raise MissingFileError(f"there is no {what} file at {path}")
    try:
        text = path.read_text(encoding="utf-8")
        value = YAML(typ="safe", pure=True).load(text)
    except (YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{what} {path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(value, dict):
        raise InputError(f"{what} {path} must be a mapping of names to values, got {type(value).__name__}")
    return value, text


def describe(error: pydantic.ValidationError) -> str:
    """Say in one line what is wrong with a document that does not fit its model."""
    parts = []
    for e in error.errors():
        where = ".".join(str(p) for p in e["loc"]) or "top level"
        got = "" if e["type"] == "missing" else f", got {e['input']!r}"
        parts.append(f"{where}: {e['msg'][0].lower()}{e['msg'][1:]}{got if len(got) < 80 else ''}")
    return "; ".join(parts)
