"""Fetching a file piece by piece, so that a fetch that broke off goes on where it stopped."""

from pathlib import Path
from typing import Any

from ..errors import DamagedError, StorageError
from ..location.filesystems import size_of
from .container import digest_file

_PIECE = 2**24  # bytes of one range request


def fetch(fs: Any, remote: str, path: Path, digest: str, bar: Any) -> None:
    """Fetch a file of a file system and check it, before it is there under its name.

    What an earlier call fetched is kept beside it as ``.NAME.partial``, and continued.

    Parameters
    ----------
    fs, remote
        An fsspec file system that reads ranges, and the file in it.
    path
        Where it goes.
    digest
        Its SHA-256, in hexadecimal.
    bar
        A tqdm bar of bytes.

    Raises
    ------
    DamagedError, StorageError
        What was fetched is not what the digest says; an answer was cut short, or says no length.
    """
    if path.is_file() and digest_file(path) == digest:
        bar.update(path.stat().st_size)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    size = size_of(fs, remote)
    there = partial.stat().st_size if partial.is_file() else 0
    if there > size:
        partial.unlink()
        there = 0
    bar.update(there)
    options = {} if fs.async_impl else {"cache_type": "none"}  # no more is read than is asked for
    with partial.open("ab") as target:
        for start in range(there, size, _PIECE):
            end = min(start + _PIECE, size)
            piece = fs.cat_file(remote, start=start, end=end, **options)
            if len(piece) != end - start:
                raise StorageError(f"{remote}: {len(piece)} bytes came of {end - start}; fetch it again")
            target.write(piece)
            bar.update(len(piece))
    if digest_file(partial) != digest:
        partial.unlink()
        raise DamagedError(f"{remote} is damaged, or was changed while it was fetched; fetch it again")
    partial.replace(path)
