"""What files there are: the manifest of a finalised recording or result, and the digests of each unit.

`actome/manifest.json` lists every file with its SHA-256. The root `zarr.json` holds the manifest's
own digest, so that one short string stands for the whole; its entry in the manifest is therefore
the digest of its content with that string left empty. An index is derived from the rest, comes
and goes, and has a manifest of its own.
"""

import json
import threading
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from .errors import DamagedError
from .provenance import digest_bytes, digest_pieces
from .safe_names import leads_out

if TYPE_CHECKING:
    from .location import Location

MANIFEST: Final = "actome/manifest.json"
INDEX: Final = "actome/index/"
INDEX_MANIFEST: Final = f"{INDEX}manifest.json"
ROOT: Final = "zarr.json"


def unit_file(i: int) -> str:
    """Name the file that holds the digests of unit `i`."""
    return f"actome/units/{i:06d}.json"


def unit_files(location: "Location") -> list[str]:
    """List the files that hold the digests of units, without those whose writing was cut off."""
    return [key for key in location.keys("actome/units") if key.endswith(".json")]


def write_manifest(location: "Location") -> str:
    """Digest every file, write the manifest, and note its digest in the root; return it."""
    known: dict[str, str] = {}
    for key in unit_files(location):
        listed = listed_files(location.read(key))
        if listed is None:
            raise DamagedError(f"{location}: {key} is not readable; remove it and record its unit again")
        known |= listed
    files = {
        key: known.get(key) or digest_pieces(location.pieces(key))
        for key in location.keys()
        if key not in (MANIFEST, ROOT) and not key.startswith(INDEX)
    }
    root = json.loads(location.read(ROOT))
    files[ROOT] = digest_bytes(root_bytes(root, ""))
    manifest = json.dumps({"files": dict(sorted(files.items()))}, indent=1).encode()
    digest = digest_bytes(manifest)
    location.write(MANIFEST, manifest)
    location.write(ROOT, root_bytes(root, digest))
    return digest


def root_bytes(root: dict[str, Any], manifest_digest: str) -> bytes:
    """Serialise the root's `zarr.json` with the digest of the manifest in its attributes."""
    attributes = {**root.get("attributes", {}), "manifest_digest": manifest_digest}
    return json.dumps({**root, "attributes": attributes}, indent=2).encode()


def noted_root(content: bytes) -> dict[str, Any] | None:
    """Return the root's `zarr.json` where it names a manifest."""
    try:
        root = json.loads(content)
        noted = root["attributes"]["manifest_digest"]
    except (ValueError, KeyError, TypeError):
        return None
    return root if isinstance(noted, str) and noted else None


def listed_files(content: bytes) -> dict[str, str] | None:
    """Return the digests by key of a manifest or of a unit; None where it is not readable.

    Nor is one readable with a key that leads out of the folder: files are copied by these keys.
    """
    try:
        files = json.loads(content)["files"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if not isinstance(files, dict) or any(map(leads_out, files)):
        return None
    return files if all(isinstance(digest, str) for digest in files.values()) else None


def is_listed(location: "Location", key: str) -> bool:
    """Say whether a file must be there: the manifest names it, or, before it is written, its unit.

    Asked only of files that were looked for in vain; it costs one or two requests.

    Raises
    ------
    DamagedError
        The manifest is not the one that the root names.
    """
    if key.startswith("actome/"):
        return False
    if location.root.endswith(INDEX.rstrip("/")):  # an index has a manifest of its own
        return f"{INDEX}{key}" in (listed_files(location.fetch(INDEX_MANIFEST.removeprefix(INDEX))) or {})
    try:
        root = noted_root(location.fetch(ROOT))
    except FileNotFoundError:
        return "/c/" in key  # all of it was removed since it was opened
    if root is not None:
        return key in manifest_files(location, root["attributes"]["manifest_digest"])
    unit = key.partition("/c/")[2].partition("/")[0]
    if not unit.isdecimal():
        return False
    try:
        return key in (listed_files(location.fetch(unit_file(int(unit)))) or {})
    except FileNotFoundError:
        return False


def is_left_out(location: "Location", key: str) -> bool:
    """Say whether a file is known not to be there: there is a manifest, and it does not name it."""
    try:
        root = noted_root(location.fetch(ROOT))
    except FileNotFoundError:
        return False
    return root is not None and key not in manifest_files(location, root["attributes"]["manifest_digest"])


def manifest_files(location: "Location", digest: str) -> Mapping[str, str]:
    """Return the digests by key of the manifest that has a digest itself; it is read once.

    Raises
    ------
    DamagedError
        The manifest is gone, another, or not readable.
    """
    with _ONE_LOOKS:
        held = _held(location, digest)
    with held.lock:
        if held.files is None:
            held.files = _read_manifest(location, digest)
        return held.files


class _Held:
    """A manifest that is read once, by whoever has its lock."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.files: Mapping[str, str] | None = None


_ONE_LOOKS = threading.Lock()  # nothing is fetched under it


@lru_cache(maxsize=32)
def _held(location: "Location", digest: str) -> _Held:
    return _Held()


def _read_manifest(location: "Location", digest: str) -> Mapping[str, str]:
    try:
        content = location.fetch(MANIFEST)
    except FileNotFoundError:
        content = b""
    files = listed_files(content) if digest_bytes(content) == digest else None
    if files is None:
        raise DamagedError(
            f"{location}: {MANIFEST} is not the one that {ROOT} names, or cannot be read; "
            "`actome verify` names all that is damaged"
        )
    return files
