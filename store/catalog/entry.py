"""What a catalog says of an entry, and the strict reading of a catalog's document."""

from collections.abc import Mapping
from typing import Any, Literal

import pydantic

from ..errors import InputError
from ..yaml import describe


class _Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


class Recipe(_Strict):
    """How an entry is built again: a command, or the paradigm and the model to record."""

    command: str | None = None
    paradigm: str | None = None
    model: str | None = None


class Metadata(_Strict):
    """What a lab wants to know before it opens an entry.

    Attributes
    ----------
    kind
        ``recording``, ``contrast``, ``mask``, ... as the store calls itself.
    model
        The model recorded: its id on a hub, or a name.
    sites, conditions
        Of a recording: its sites, and the labels of its prompts.
    shape
        Length of each dimension.
    digest
        Of the manifest: one string that stands for every byte.
    derived_from
        Names or digests of what it was computed from.
    created
        When it was made, ISO 8601.
    """

    kind: str | None = None
    model: str | None = None
    sites: tuple[str, ...] = ()
    conditions: tuple[str, ...] = ()
    shape: dict[str, int] | None = None
    licence: str | None = None
    digest: str | None = None
    created: str | None = None
    derived_from: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    citation: str | None = None
    recipe: Recipe | None = None


class _Args(_Strict):
    urlpath: str


class Entry(_Strict):
    """One recording or result of the catalog."""

    driver: Literal["zarr"]
    description: str = ""
    args: _Args
    metadata: Metadata = Metadata()

    def document(self) -> dict[str, Any]:
        """Return the entry as its YAML holds it."""
        return self.model_dump(mode="json", exclude_defaults=True)


class _Document(_Strict):
    version: Literal[1]
    sources: dict[str, Entry]
    metadata: dict[str, str] = {}


def read_entries(content: Mapping[str, Any], source: str) -> dict[str, Entry]:
    """Return the entries of a catalog's document, by name.

    Parameters
    ----------
    content
        The document: plain data.
    source
        Where it was read, for the error messages.

    Raises
    ------
    InputError
        A key is unknown or missing, a value has the wrong type, or a name cannot be one.
    """
    try:
        entries = _Document.model_validate(content).sources
    except pydantic.ValidationError as error:
        raise InputError(f"catalog {source}: {describe(error)}") from error
    for name in entries:
        check_name(name, source)
    return entries


def read_entry(name: str, content: Mapping[str, Any], source: str) -> Entry:
    """Return one entry, as strictly as `read_entries` would."""
    return read_entries({"version": 1, "sources": {name: content}}, source)[name]


def check_name(name: str, source: str) -> None:
    """Refuse what could be taken for a path or a version, or what would garble a terminal."""
    if not name or "/" in name or "\\" in name:
        raise InputError(f"catalog {source}: a name must not be a path, got {name!r}")
    if "@" in name:
        raise InputError(f"catalog {source}: '@' stands before a version, and in no name, got {name!r}")
    if not name.isprintable() or name != name.strip():
        raise InputError(
            f"catalog {source}: a name is of printable characters, without spaces around it, got {name!r}"
        )
