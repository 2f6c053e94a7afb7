"""Sending files to a dataset repository of the Hugging Face Hub."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import InputError, MissingDependencyError, StorageError

_SMALL = 10 * 2**20  # bytes; smaller files go together in one commit
_MOST_BYTES = 50 * 10**9  # what the Hub takes as one file
_SCHEME = "hf://datasets/"


class Repository:
    """A dataset repository that takes files.

    Parameters
    ----------
    url
        ``hf://datasets/ORG/NAME``.
    endpoint
        Address of the Hub; by default that of huggingface_hub's environment, as is the token.

    Raises
    ------
    MissingDependencyError, InputError
        huggingface_hub is not installed; the URL names no repository; HF_HUB_OFFLINE is set.
    """

    def __init__(self, url: str, endpoint: str | None = None) -> None:
        try:
            from huggingface_hub import HfApi, constants
        except ImportError as error:
            raise MissingDependencyError(
                f"{url} needs huggingface_hub, which is not installed here: pip install 'actome[hub]'"
            ) from error
        parts = url.removeprefix(_SCHEME).strip("/").split("/")
        if not url.startswith(_SCHEME) or len(parts) != 2 or not all(parts):
            raise InputError(f"{url} names no dataset repository; write hf://datasets/ORG/NAME")
        if constants.HF_HUB_OFFLINE:
            raise InputError(f"{url} cannot be reached: HF_HUB_OFFLINE is set; unset it")
        self._id = "/".join(parts)
        self._api = HfApi(endpoint=endpoint)

    def create(self, *, private: bool) -> None:
        """Create the repository where it is missing."""
        self._api.create_repo(self._id, repo_type="dataset", private=private, exist_ok=True)

    def present(self, names: list[str]) -> dict[str, tuple[int, str]]:
        """Return the size and the SHA-256 of the big files that are there; small ones have none."""
        found = self._api.get_paths_info(self._id, names, repo_type="dataset")
        files = {f.path: getattr(f, "lfs", None) for f in found}
        return {path: (lfs.size, lfs.sha256) for path, lfs in files.items() if lfs is not None}

    def send(self, files: dict[str, Path], message: str) -> None:
        """Send files in one commit; content that the Hub holds already is not sent again."""
        from huggingface_hub import CommitOperationAdd

        operations = [CommitOperationAdd(name, str(path)) for name, path in files.items()]
        try:
            with _silent():
                self._api.create_commit(self._id, operations, commit_message=message, repo_type="dataset")
        except RuntimeError as error:
            if type(error) is RuntimeError and error.__cause__ is not None:  # any failure to send one file
                raise OSError(f"{error} {error.__cause__}") from error
            raise


@contextmanager
def _silent() -> Iterator[None]:
    """Keep huggingface_hub's own bars off: they show where there is no terminal, too."""
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    before = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if not before:
            enable_progress_bars()


@contextmanager
def clear_hub_errors(what: str) -> Iterator[None]:
    """Turn the failures of huggingface_hub's HTTP client that are no OSError into errors of Actome.

    Parameters
    ----------
    what
        What was to be done.

    Raises
    ------
    StorageError
        The Hub, or the way to it, failed.
    """
    clients = (sys.modules[name].HTTPError for name in ("httpx", "httpx2") if name in sys.modules)
    try:
        yield
    except tuple(clients) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise StorageError(f"{what}: {reason}; check the address and the connection") from error


def _check_sizes(files: dict[str, Path]) -> None:
    """Refuse a file that is bigger than the Hub takes, before any is sent."""
    for name, path in files.items():
        if os.path.getsize(path) > _MOST_BYTES:
            raise InputError(
                f"{name} has {os.path.getsize(path):,} bytes, and the Hub takes {_MOST_BYTES:,} in one file; "
                "export it in parts (layers=, conditions=), or with dtype='float16' (--dtype float16)"
            )


def send_package(
    repository: Repository, files: dict[str, Path], digests: dict[str, str], bar: Any, *, private: bool
) -> None:
    """Send big files one by one, each with its commit, then all small ones together.

    Parameters
    ----------
    repository
        Where.
    files, digests
        The files and their SHA-256 (hexadecimal), by name.
    bar
        A tqdm bar of bytes.
    private
        Whether a repository that is made for it is private.

    Raises
    ------
    InputError, StorageError
        A file is bigger than the Hub takes; it does not answer.
    """
    _check_sizes(files)
    repository.create(private=private)
    there = repository.present(list(files))
    big = [name for name, path in files.items() if path.stat().st_size > _SMALL]
    for name in big:
        if there.get(name) != (files[name].stat().st_size, digests[name]):
            repository.send({name: files[name]}, f"Add {name}")
        bar.update(files[name].stat().st_size)
    small = {name: path for name, path in files.items() if name not in big}
    repository.send(small, "Add the package's card, metadata and checksums")
    bar.update(sum(path.stat().st_size for path in small.values()))
