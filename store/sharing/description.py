"""What is known of a package and of its entries; all its metadata are written from this alone."""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import ActomeError, DamagedError, InputError
from ..location import Location

# of the provenance, what a reader of the card wants to know first
_INPUTS = (
    "model",
    "revision",
    "architecture",
    "weights_digest",
    "tokenizer_digest",
    "paradigm",
    "paradigm_digest",
    "tokens",
    "compute_dtype",
    "seed",
)


@dataclass(frozen=True)
class Array:
    """One array of an entry, as its metadata declare it."""

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    meaning: str


@dataclass(frozen=True)
class Item:
    """One recording or result of a package.

    Attributes
    ----------
    name
        Its name in the package.
    path
        Its place in the package: ``NAME.zarr``, or ``NAME.zip`` where it is packed.
    attrs
        Its root attributes: kind, provenance, digest.
    arrays
        Its arrays, by path.
    metadata
        What a catalog keeps of it: `entry.Metadata`, read off its attributes and arrays.
    description, licence, citation, tags
        From the catalog that it was taken from, the licence else from its provenance.
    n_bytes
        Bytes of its files.
    sha256
        Of the ZIP file where it is packed; "" for a folder.
    """

    name: str
    path: str
    attrs: Mapping[str, Any]
    arrays: Mapping[str, Array]
    metadata: Mapping[str, Any]
    description: str = ""
    licence: str | None = None
    citation: str | None = None
    tags: tuple[str, ...] = ()
    n_bytes: int = 0
    sha256: str = ""

    @property
    def is_recording(self) -> bool:
        """Whether it is a recording, not a result."""
        return self.attrs.get("kind") == "recording"

    @property
    def digest(self) -> str:
        """Digest of its manifest: one string that stands for every byte."""
        return str(self.attrs["manifest_digest"])

    @property
    def provenance(self) -> dict[str, Any]:
        """Where its numbers come from."""
        return dict(self.attrs.get("provenance", {}))

    @property
    def created(self) -> str:
        """When it was made, ISO 8601; "" where that was not noted."""
        return str(self.metadata.get("created", ""))

    @property
    def environment(self) -> dict[str, str]:
        """Versions of the libraries that made it."""
        return dict(self.provenance.get("environment") or self.attrs.get("environment") or {})

    @property
    def cut(self) -> dict[str, Any]:
        """What the export left out of it, or changed; empty for a whole copy."""
        return dict(self.provenance.get("inputs", {}).get("cut") or self.attrs.get("cut") or {})

    @property
    def derived_from(self) -> tuple[str, ...]:
        """Names or digests of what it was computed from."""
        return tuple(self.metadata.get("derived_from", ()))

    @property
    def inputs(self) -> dict[str, Any]:
        """What decided its numbers: model (of a local one, the folder's name), paradigm and their digests."""
        inputs = self.provenance.get("inputs") or self.attrs.get("inputs") or {}
        known = {k: inputs[k] for k in _INPUTS if inputs.get(k) is not None}
        model = str(known.get("model", ""))
        return {**known, "model": os.path.basename(model)} if os.path.isabs(model) else known

    @property
    def sites(self) -> tuple[str, ...]:
        """Sites of a recording."""
        return tuple(self.metadata.get("sites", ()))

    @property
    def shape(self) -> dict[str, int]:
        """Length of each dimension that has one length in all of it."""
        return dict(self.metadata.get("shape", {}))


@dataclass(frozen=True)
class Package:
    """A package as a whole.

    Attributes
    ----------
    title
        One line.
    items
        Its entries.
    licence
        SPDX expression of all of it; None where none is known for an entry.
    licence_text
        The licence in full, as given; "" where only its name is known.
    authors
        Names of those who made it.
    citation
        How it is cited, in one text; "" where nothing was given or recorded.
    published
        Day, ISO 8601.
    """

    title: str
    items: tuple[Item, ...]
    licence: str | None = None
    licence_text: str = ""
    authors: tuple[str, ...] = ()
    citation: str = ""
    published: str = ""

    @property
    def tags(self) -> tuple[str, ...]:
        """Tags of all entries, each once."""
        given = ("actome", "activations", "interpretability", *(t for item in self.items for t in item.tags))
        return tuple(dict.fromkeys(given))


def read_root(location: Location) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return the attributes and the arrays of a finalised recording or a result.

    Raises
    ------
    InputError
        It is not finished, so it has no digest that could stand for it.
    DamagedError
        Its metadata are none that Actome wrote.
    """
    try:
        location.group()  # says that there is nothing
        root = json.loads(location.read("zarr.json"))
        attrs = dict(root.get("attributes", {}))
        arrays = dict(_arrays(root.get("consolidated_metadata") or {}))
    except ActomeError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedError(
            f"{location}: zarr.json is not as Actome writes it, {type(error).__name__}: {error}; get it again"
        ) from error
    if not attrs.get("manifest_digest"):
        raise InputError(
            f"{location} is not finished, or was not made by Actome: it has no manifest of digests; "
            "record it to its end, or save it with actome.save or actome.save_result"
        )
    return attrs, arrays


def _arrays(consolidated: Mapping[str, Any]) -> Iterator[tuple[str, Array]]:
    for path, node in sorted(consolidated.get("metadata", {}).items()):
        if node.get("node_type") == "array":
            dtype = node["data_type"] if isinstance(node["data_type"], str) else node["data_type"]["name"]
            dims = tuple(str(d) for d in node.get("dimension_names") or ())
            meaning = str(node.get("attributes", {}).get("long_name", ""))
            yield path, Array(dims, tuple(node["shape"]), dtype, meaning)
