"""The file system behind a path or a URL."""

from fsspec import AbstractFileSystem
from fsspec.core import split_protocol, url_to_fs

from ..errors import InputError, MissingDependencyError, StorageError


def file_system(url: str) -> tuple[AbstractFileSystem, str]:
    """Return the file system of a path or a URL, and the path in it.

    Options such as an endpoint come from fsspec's configuration (``FSSPEC_S3_ENDPOINT_URL`` or its
    files), credentials from where the store's own library looks for them.

    Raises
    ------
    InputError
        There is no such protocol, or several are chained.
    MissingDependencyError
        The package of the protocol is not installed.
    """
    if "::" in url:
        raise InputError(f"{url} chains protocols with '::'; give the path or the URL of the thing itself")
    protocol, _ = split_protocol(url)
    try:
        if protocol in ("http", "https"):
            from .web import WebFileSystem

            return WebFileSystem(), url
        if protocol in ("s3", "s3a"):
            from .object_store import ObjectStore

            return ObjectStore(), ObjectStore._strip_protocol(url)
        fs, path = url_to_fs(url)
    except ImportError as error:
        raise MissingDependencyError(
            f"{url} cannot be reached: {error}; s3:// and https:// need pip install 'actome[remote]'"
        ) from error
    except ValueError as error:
        raise InputError(f"{url} is no path and no URL that can be read: {error}") from error
    return fs, path


def size_of(fs: AbstractFileSystem, path: str) -> int:
    """Return the bytes of a file.

    Raises
    ------
    StorageError
        Its server does not say.
    """
    size = fs.size(path)
    if size is None:
        raise StorageError(f"the server of {path} does not say how long it is; fetch it by other means")
    return int(size)


def is_local(fs: AbstractFileSystem) -> bool:
    """Say whether this is the local disk."""
    return "file" in (fs.protocol if isinstance(fs.protocol, tuple) else (fs.protocol,))
