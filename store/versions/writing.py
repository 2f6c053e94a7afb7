"""From the files of a recording or a result to those of a snapshot: only what changed is written."""

import json
from collections.abc import Callable, Coroutine, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from fsspec.asyn import get_loop, sync
from tqdm import tqdm
from zarr.buffer import default_buffer_prototype

from ..errors import DamagedError, InputError, StorageError
from ..location import Location
from ..manifest import MANIFEST, ROOT, listed_files, noted_root, root_bytes
from ..provenance import digest_bytes
from .packing import GROUP, is_packed, pack, unpack

if TYPE_CHECKING:
    from zarr.abc.store import Store

_THREADS = 4  # each holds one file


class Source:
    """What is committed: every file that the manifest lists, checked against it while it is read.

    Attributes
    ----------
    digest
        Digest of the manifest.
    files
        The digest of each file but the manifest itself, by key.
    kind
        ``recording``, or the kind of the result.

    Raises
    ------
    MissingFileError, InputError, DamagedError
        There is nothing; it is not finalised; the manifest is not the one that the root names.
    """

    def __init__(self, location: Location) -> None:
        self._location = location
        location.group()  # says that there is nothing
        root = noted_root(location.read(ROOT))
        if root is None:
            raise InputError(f"{location} is not finished; a version is made of what has its manifest")
        self._root, self.digest = root, str(root["attributes"]["manifest_digest"])
        self.kind = root["attributes"].get("kind")
        self._manifest = location.read(MANIFEST)
        files = listed_files(self._manifest)
        if files is None or digest_bytes(self._manifest) != self.digest:
            raise self._damaged(MANIFEST)
        self.files = files

    def __str__(self) -> str:
        """Return the path or the URL."""
        return str(self._location)

    def read(self, key: str) -> bytes:
        """Return a file; one that is not what was written raises DamagedError."""
        if key == MANIFEST:
            return self._manifest
        content = self._location.read(key)
        if key == ROOT:
            is_sound = content == root_bytes(self._root, self.digest)
            is_sound &= digest_bytes(root_bytes(self._root, "")) == self.files[ROOT]
        else:
            is_sound = digest_bytes(content) == self.files[key]
        if not is_sound:
            raise self._damaged(key)
        return content

    def _damaged(self, key: str) -> DamagedError:
        return DamagedError(
            f"{self}: {key} is not what was written, so nothing is committed; "
            "`actome verify` names all that is damaged"
        )


def files_of(store: "Store") -> dict[str, str]:
    """Return the digests of the files that a version holds, by key."""
    return listed_files(unpack(store).get(MANIFEST, b"")) or {}


def check_kind(store: "Store", source: Source) -> None:
    """Refuse to go on with a history of something of another kind."""
    root = noted_root(_read(store, ROOT))
    kind = root["attributes"].get("kind") if root else source.kind
    if kind != source.kind:
        raise InputError(
            f"{source} is a {source.kind}, the history holds versions of a {kind}; choose another history"
        )


def write_files(store: "Store", source: Source, before: Mapping[str, str]) -> None:
    """Make the store of a session hold the files of a source.

    Parameters
    ----------
    store
        Of a writable session of Icechunk.
    source
        What it is to hold.
    before
        The digests of what it holds, by key; {} where they are not known, then all is written.

    Raises
    ------
    DamagedError
        A file of the source is not what was written.
    StorageError
        What Icechunk lists in the end is not what was written.
    """
    before = {key: digest for key, digest in before.items() if not is_packed(key)}
    after = {key: digest for key, digest in source.files.items() if not is_packed(key)}
    changed = {key for key, digest in after.items() if before.get(key) != digest} | {ROOT}
    nodes = {key: source.read(key) for key in changed if _is_node(key)}
    if not before or any(_node_type(nodes[k]) != _node_type(_read(store, k)) for k in nodes.keys() & before):
        _run(store.clear)  # an array where a group was, or nothing known
        before, changed = {}, set(after)
        nodes = {key: source.read(key) for key in changed if _is_node(key)}
    for key in sorted(before.keys() - after, key=lambda k: (_is_node(k), -len(k))):
        _run(store.delete, key)  # chunks before the array's new shape excludes them
    for key in sorted(nodes, key=len):
        _set(store, key, nodes[key])
    _copy(store, source, [key for key in after if key in changed and not _is_node(key)])
    packed = pack({key: source.read(key) for key in (MANIFEST, *filter(is_packed, source.files))})
    _run(store.delete_dir, GROUP)
    for key, content in packed.items():
        _set(store, key, content)
    unexpected = _listed(store) ^ {*after, *packed}
    if unexpected:
        raise StorageError(f"the version of {source} does not hold its files: {sorted(unexpected)[:3]}")


def _copy(store: "Store", source: Source, keys: Iterable[str]) -> None:
    """Copy chunks and shards."""
    keys = list(keys)
    with ThreadPoolExecutor(_THREADS, "commit") as pool:
        written = [pool.submit(lambda key: _set(store, key, source.read(key)), key) for key in keys]
        try:
            for future in tqdm(written, desc="commit", unit="file", disable=None):
                future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _is_node(key: str) -> bool:
    return key.rpartition("/")[2] == "zarr.json"


def _node_type(content: bytes) -> str:
    return str(json.loads(content)["node_type"])


def _listed(store: "Store") -> set[str]:
    async def listed() -> set[str]:
        return {key async for key in store.list()}

    found: set[str] = _run(listed)
    return found


def _read(store: "Store", key: str) -> bytes:
    content = _run(store.get, key, default_buffer_prototype())
    return b"" if content is None else bytes(content.to_bytes())


def _set(store: "Store", key: str, content: bytes) -> None:
    _run(store.set, key, default_buffer_prototype().buffer.from_bytes(content))


def _run(task: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> Any:
    return sync(get_loop(), task, *args)
