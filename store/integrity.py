"""Digests against bytes: whether a recording or a result, or a copy of it, is what was written."""

import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Set
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from .errors import AccessError, DamagedError, InputError, MissingFileError
from .location import Location
from .manifest import (
    INDEX,
    INDEX_MANIFEST,
    MANIFEST,
    ROOT,
    listed_files,
    noted_root,
    root_bytes,
    unit_file,
    unit_files,
)
from .provenance import digest_bytes, digest_pieces

_RECORDED = "recorded/zarr.json"
_UNIT = re.compile(r"actome/units/\d+\.json")
_MOST_UNITS = 10_000  # that are asked for one by one: how many there are is what the recording says of itself
_DOUBT = f"damaged: {ROOT} or {MANIFEST}: the one does not name the other by its digest"
_THREADS = 8  # each holds a piece of one file


def verify(path: str | os.PathLike[str]) -> list[str]:
    """Compare the digests kept with a recording or a result with the bytes that are there.

    Every file is read, none is held whole. A web server does not list its files: there, foreign ones
    cannot be seen.

    Parameters
    ----------
    path
        A recording or a result.

    Returns
    -------
    One line for each file that is damaged, missing or foreign, or an index that is stale; [] when
    all is sound. Damage never raises; only a path that holds nothing, or a store that fails, does.

    Raises
    ------
    MissingFileError
        There is nothing at `path`.
    StorageError
        The store does not answer, so that nothing can be said.
    """
    location = Location.of(path)
    manifest, root = _content(location, MANIFEST), _content(location, ROOT)
    if manifest is None and root is None:
        location.group()  # says that there is nothing
    if manifest is None:
        return _verify_units(location, root or b"") + _links_out(location)
    files = listed_files(manifest)
    if files is None:
        return [f"damaged: {MANIFEST} is not readable"]
    breaches = [f"missing: {ROOT}"] if root is None else _verify_root(root, files.get(ROOT, ""), manifest)
    files = {key: digest for key, digest in files.items() if key != ROOT}
    breaches += (_check_doubtful if breaches == [_DOUBT] else _check_files)(location, files)
    index = _optional(location, INDEX_MANIFEST)
    derived = {} if index is None else listed_files(index)
    if index is not None:
        breaches += _verify_index(location, index, derived, digest_bytes(manifest))
        files[INDEX_MANIFEST] = ""
    foreign = _foreign(location, {ROOT, MANIFEST, *files, *(derived or {})})
    return breaches + (foreign if index is not None else _without_remains(foreign))


def _without_remains(foreign: list[str]) -> list[str]:
    """Say in one line what an interrupted `actome index` left."""
    others = [line for line in foreign if not line.startswith(f"foreign: {INDEX}")]
    unfinished = f"unfinished: {INDEX} was not written to its end; `actome index` builds it again"
    return others if len(others) == len(foreign) else [*others, unfinished]


def _foreign(location: Location, known: Set[str]) -> list[str]:
    """Name what is there though nothing lists it, and what lies elsewhere."""
    try:
        present = set() if location.is_web else set(location.keys())
    except AccessError:  # who may read need not be allowed to list
        return []
    foreign = present - known - set(location.links_out())
    return [f"foreign: {key}" for key in sorted(foreign)] + _links_out(location)


def _links_out(location: Location) -> list[str]:
    return [f"foreign: {key} is a link out of the recording" for key in location.links_out()]


def _content(location: Location, key: str) -> bytes | None:
    try:
        return location.fetch(key)
    except FileNotFoundError:
        return None
    except DamagedError:  # in a ZIP file that is itself damaged
        return b""


def _optional(location: Location, key: str) -> bytes | None:
    try:
        return _content(location, key)
    except AccessError:  # many stores refuse what they do not have
        return None


def _verify_root(content: bytes, expected: str, manifest: bytes) -> list[str]:
    root = noted_root(content)
    if root is None:
        return [f"damaged: {ROOT} names no manifest or is not readable"]
    noted = root["attributes"]["manifest_digest"]
    if noted != digest_bytes(manifest):
        return [_DOUBT]
    sound = content == root_bytes(root, noted) and digest_bytes(root_bytes(root, "")) == expected
    return [] if sound else [f"damaged: {ROOT}"]


def _check_doubtful(location: Location, files: Mapping[str, str]) -> list[str]:
    """Check what a manifest lists that may be damaged, by the units' digests where they have the file too."""
    known: dict[str, str] = {}
    for key in filter(_UNIT.fullmatch, files):
        known |= listed_files(_content(location, key) or b"") or {}
    lines = _check_files(location, {key: known.get(key, digest) for key, digest in files.items()})
    sure = {f"damaged: {key}" for key in known}
    return [line if line in sure else f"{line}, or its line in {MANIFEST} is" for line in lines]


def _verify_index(
    location: Location, content: bytes, files: Mapping[str, str] | None, source: str
) -> list[str]:
    if files is None:
        return [f"damaged: {INDEX_MANIFEST} is not readable"]
    made_of = json.loads(content).get("source")
    breaches = _check_files(location, files)
    if made_of != source:
        breaches.append(f"stale: {INDEX} was made of {made_of}, this is {source}; build it again")
    return breaches


def _verify_units(location: Location, root: bytes) -> list[str]:
    """Check the complete units of what has no manifest."""
    if noted_root(root):
        breaches = [f"missing: {MANIFEST}"]
    else:
        breaches = ["unfinished: no manifest; only complete units are checked"]
    n_units = _count_units(location)
    if n_units is None:
        return [*breaches, f"damaged: {_RECORDED} is not readable"]
    units = _listed_units(location)
    if units is None:
        units = [unit_file(i) for i in range(min(n_units, _MOST_UNITS))]
        if n_units > _MOST_UNITS:
            breaches.append(
                f"unfinished: of {n_units} units that cannot be listed, {_MOST_UNITS} are checked"
            )
    for key in units:
        content = _optional(location, key)
        if content is None:
            continue
        files = listed_files(content)
        breaches += [f"damaged: {key} is not readable"] if files is None else _check_files(location, files)
    return breaches


def _listed_units(location: Location) -> list[str] | None:
    """List the files of the units that are there; None where nothing can be listed."""
    try:
        return None if location.is_web else list(filter(_UNIT.fullmatch, unit_files(location)))
    except AccessError:  # who may read need not be allowed to list
        return None


def _count_units(location: Location) -> int | None:
    """Count the units that a recording will have; no listing is needed. None where that is not readable."""
    content = _content(location, _RECORDED)
    if content is None:
        return 0
    try:
        array = json.loads(content)
        n_prompts, unit = array["shape"][0], array["chunk_grid"]["configuration"]["chunk_shape"][0]
        return math.ceil(int(n_prompts) / int(unit))
    except (ValueError, KeyError, TypeError, IndexError, ArithmeticError):
        return None


def _check_files(location: Location, files: Mapping[str, str]) -> list[str]:
    """Digest every file, several at a time; return a line for each that is not what it was."""
    with ThreadPoolExecutor(_THREADS, "verify") as pool:
        lines = pool.map(lambda item: _check_file(location, *item), files.items())
        return [line for line in lines if line]


def _check_file(location: Location, key: str, digest: str) -> str:
    attempts = 1 if location.is_local else 2  # a store that cut one answer short did not lose the file
    problem = ""
    for _ in range(attempts):
        try:
            if digest_pieces(location.pieces(key)) == digest:
                return ""
        except FileNotFoundError:
            return f"missing: {key}"
        except DamagedError:
            pass
        except OSError as error:
            if not location.is_local:
                raise
            problem = f" cannot be read: {error.strerror}"
    return f"damaged: {key}{problem}"


def compare(a: str | os.PathLike[str], b: str | os.PathLike[str]) -> list[str]:
    """Say in what two recordings or results differ, by their digests alone.

    Two small files of each are read: the manifest, and the `zarr.json` that names it. Whether the
    bytes still fit the digests, `verify` says of each.

    Parameters
    ----------
    a, b
        Recordings or results, finalised.

    Returns
    -------
    First what differs in the provenance, then one line for each file that differs or that only one
    has; [] when both hold the same bytes.

    Raises
    ------
    MissingFileError
        There is nothing at `a` or `b`.
    InputError
        One is not finalised.
    DamagedError
        A manifest is not the one that its `zarr.json` names.
    """
    (root_a, files_a), (root_b, files_b) = _signed(a), _signed(b)
    lines = []
    for name in sorted(root_a.keys() | root_b.keys()):
        if root_a.get(name) != root_b.get(name):
            lines.append(f"provenance differs: {name}: {root_a.get(name)} in {a}, {root_b.get(name)} in {b}")
    for key in sorted(files_a.keys() | files_b.keys()):
        if key not in files_a or key not in files_b:
            lines.append(f"only in {a if key in files_a else b}: {key}")
        elif files_a[key] != files_b[key]:
            lines.append(f"differs: {key}")
    return lines


def _signed(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return provenance, by dotted name, and digests of the files, once the one digest is checked."""
    location = Location.of(path)
    content = _content(location, ROOT)
    if content is None:
        raise MissingFileError(f"there is no recording or result at {location}: no {ROOT} in it")
    root, manifest = noted_root(content), _content(location, MANIFEST)
    if root is None:
        raise InputError(f"{location} has no manifest to compare: it is not recorded to its end")
    files = None if manifest is None else listed_files(manifest)
    if files is None or digest_bytes(manifest or b"") != root["attributes"]["manifest_digest"]:
        raise DamagedError(
            f"{location}: {MANIFEST} is not the one that {ROOT} names; "
            "`actome verify` names all that is damaged"
        )
    return dict(_flat(root["attributes"].get("provenance", {}))), files


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else key)
    else:
        yield name, value
