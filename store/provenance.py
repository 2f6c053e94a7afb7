"""Where numbers come from: digests of inputs and the versions that made them."""

import hashlib
import json
import platform
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from .._version import __version__
from .errors import MissingFileError

# of what results are made of
ORIGIN: Final = ("source", "source_name", "site", "weights_digest", "unfinished")
_LIBRARIES = ("numpy", "xarray", "zarr", "dask", "scikit-learn", "torch", "transformers", "tokenizers")


def source_attrs(attrs: Mapping[str, Any]) -> dict[str, str]:
    """Return what a result says of the recording that it was computed from, given the attrs of that."""
    return {
        "source": attrs.get("manifest_digest", ""),
        "source_name": attrs.get("name", ""),
        "site": attrs.get("site", ""),
        "weights_digest": weights_of(attrs),
        "actome": __version__,
        **unfinished_of(attrs),
    }


def unfinished_of(*attrs: Mapping[str, Any]) -> dict[str, str]:
    """Return which of the recordings that a result comes from lacked prompts, as an attribute; {} if none.

    >>> unfinished_of({"unfinished": "4 of 9 prompts of a"}, {})
    {'unfinished': '4 of 9 prompts of a'}
    """
    told = dict.fromkeys(str(a["unfinished"]) for a in attrs if a.get("unfinished"))
    return {"unfinished": "; ".join(told)} if told else {}


def weights_of(attrs: Mapping[str, Any]) -> str:
    """Return the digest of the weights of the model that a recording or a result is of; "" where unknown."""
    for known in (attrs, attrs.get("inputs"), attrs.get("provenance", {}).get("inputs")):
        if isinstance(known, Mapping) and isinstance(known.get("weights_digest"), str):
            return str(known["weights_digest"])
    return ""


def lineage(attrs: Mapping[str, Any]) -> set[str]:
    """Return the digests of a recording and of those that it was appended, cast, rechunked or cut from."""
    provenance = attrs.get("provenance", {})
    steps = [provenance, *provenance.get("operations", ())]
    return {str(attrs.get("manifest_digest", ""))}.union(*(s.get("derived_from", ()) for s in steps)) - {""}


def digest_bytes(*parts: bytes) -> str:
    """Return the SHA-256 of the parts, written ``sha256:<hex>``.

    >>> digest_bytes(b"")[:20]
    'sha256:e3b0c44298fc1'
    """
    return digest_pieces(parts)


def digest_pieces(pieces: Iterable[bytes]) -> str:
    """Return the digest of pieces that follow one another, of which only one is held."""
    h = hashlib.sha256()
    for piece in pieces:
        h.update(piece)
    return f"sha256:{h.hexdigest()}"


def digest_file(path: Path) -> str:
    """Return the digest of a file, which is read in pieces.

    Raises
    ------
    MissingFileError
        There is none.
    """
    if not path.is_file():
        raise MissingFileError(f"there is no file at {path}")
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def canonical_json(value: Any) -> bytes:
    """Serialise so that equal values give equal bytes: sorted keys, no white space, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def digest_json(value: Any) -> str:
    """Return the digest of a JSON value, independent of the order of its keys."""
    return digest_bytes(canonical_json(value))


def library_versions() -> dict[str, str]:
    """Return the versions of Python, Actome and of the libraries that shape the numbers."""
    from .._version import __version__

    versions = {"python": platform.python_version(), "actome": __version__}
    for name in _LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # an optional library that took no part
    return versions


def now() -> str:
    """Return the time in UTC, to the second, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")
