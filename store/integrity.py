"""Digests against bytes: the manifest of a finalised recording or result, and its check.

`actome/manifest.json` lists every file with its SHA-256. The root `zarr.json` holds the manifest's
own digest, so that one short string stands for the whole; its entry in the manifest is therefore
the digest of its content with that string left empty.
"""

import json
import os
from typing import Any

from .location import Location
from .provenance import digest_bytes

MANIFEST = "actome/manifest.json"
_ROOT = "zarr.json"


def unit_file(i: int) -> str:
    """Name the file that holds the digests of unit `i`."""
    return f"actome/units/{i:06d}.json"


def unit_files(location: Location) -> list[str]:
    """List the files that hold the digests of units, without those whose writing was cut off."""
    return [key for key in location.keys("actome/units") if key.endswith(".json")]


def write_manifest(location: Location) -> str:
    """Digest every file, write the manifest, and note its digest in the root; return it."""
    known: dict[str, str] = {}
    for key in unit_files(location):
        known |= json.loads(location.read(key))["files"]
    files = {
        key: known.get(key) or digest_bytes(location.read(key))
        for key in location.keys()
        if key not in (MANIFEST, _ROOT)
    }
    root = json.loads(location.read(_ROOT))
    files[_ROOT] = digest_bytes(_root_bytes(root, ""))
    manifest = json.dumps({"files": dict(sorted(files.items()))}, indent=1).encode()
    digest = digest_bytes(manifest)
    location.write(MANIFEST, manifest)
    location.write(_ROOT, _root_bytes(root, digest))
    return digest


def _root_bytes(root: dict[str, Any], manifest_digest: str) -> bytes:
    attributes = {**root.get("attributes", {}), "manifest_digest": manifest_digest}
    return json.dumps({**root, "attributes": attributes}, indent=2).encode()


def verify(path: str | os.PathLike[str]) -> list[str]:
    """Compare the digests kept with a recording or a result with the bytes that are there.

    Parameters
    ----------
    path
        A recording or a result.

    Returns
    -------
    One line for each file that is damaged, missing or foreign; [] when all is sound. Damage never
    raises; only a path that holds nothing does.

    Raises
    ------
    MissingFileError
        There is nothing at `path`.
    """
    location = Location.of(path)
    present = set(location.keys())
    if not present & {_ROOT, MANIFEST}:
        location.group()  # says that there is nothing
    if MANIFEST in present:
        return _verify_manifest(location, present)
    return _verify_units(location, present)


def _verify_manifest(location: Location, present: set[str]) -> list[str]:
    content = location.read(MANIFEST)
    files = _listed(content)
    if files is None:
        return [f"damaged: {MANIFEST} is not readable"]
    breaches = _compare(location, present, {k: digest for k, digest in files.items() if k != _ROOT})
    if _ROOT not in present:
        breaches.append(f"missing: {_ROOT}")
    else:
        breaches += _verify_root(location.read(_ROOT), files.get(_ROOT, ""), digest_bytes(content))
    foreign = present - set(files) - {MANIFEST}
    return breaches + [f"foreign: {key}" for key in sorted(foreign)]


def _listed(manifest: bytes) -> dict[str, str] | None:
    try:
        files = json.loads(manifest)["files"]
    except (ValueError, KeyError, TypeError):
        return None
    return files if isinstance(files, dict) else None


def _verify_root(content: bytes, expected: str, manifest_digest: str) -> list[str]:
    root = _noted(content)
    if root is None:
        return [f"damaged: {_ROOT} names no manifest or is not readable"]
    noted = root["attributes"]["manifest_digest"]
    if noted != manifest_digest:
        return [f"damaged: {MANIFEST} is not the one that {_ROOT} names"]
    sound = content == _root_bytes(root, noted) and digest_bytes(_root_bytes(root, "")) == expected
    return [] if sound else [f"damaged: {_ROOT}"]


def _noted(root: bytes) -> dict[str, Any] | None:
    """Return the content of the root's `zarr.json` where it names a manifest."""
    try:
        content = json.loads(root)
        noted = content["attributes"]["manifest_digest"]
    except (ValueError, KeyError, TypeError):
        return None
    return content if noted else None


def _verify_units(location: Location, present: set[str]) -> list[str]:
    if _noted(location.read(_ROOT)):
        breaches = [f"missing: {MANIFEST}"]
    else:
        breaches = ["unfinished: no manifest; only complete units are checked"]
    for key in sorted(k for k in present if k.startswith("actome/units/") and k.endswith(".json")):
        files = _listed(location.read(key))
        if files is None:
            breaches.append(f"damaged: {key} is not readable")
        else:
            breaches += _compare(location, present, files)
    return breaches


def _compare(location: Location, present: set[str], files: dict[str, str]) -> list[str]:
    breaches = []
    for key, digest in files.items():
        if key not in present and not location.exists(key):  # it may be written just now
            breaches.append(f"missing: {key}")
        elif digest_bytes(location.read(key)) != digest:
            breaches.append(f"damaged: {key}")
    return breaches
