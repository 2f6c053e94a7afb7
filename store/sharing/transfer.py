"""Push and pull: a package goes to a bucket or to the Hub, and comes from there, with resumed transfers."""

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..catalog import CatalogLike
from ..errors import ActomeError, DamagedError, InputError, MissingFileError
from ..location.filesystems import file_system, size_of
from ..location.retries import clear_errors
from . import checksums, hub
from .container import check_free, digest_file
from .contents import is_package, open_contents
from .cut import Cut
from .download import fetch
from .package import export, forecast, repack
from .s3 import PART, Bucket


def push(
    source: str | os.PathLike[str],
    url: str,
    *,
    catalog: CatalogLike | None = None,
    endpoint: str | None = None,
    private: bool = True,
    part_bytes: int = PART,
    progress: bool = False,
) -> list[str]:
    """Send a package to a bucket or to a dataset repository of the Hugging Face Hub.

    Every entry goes as one ZIP file that `actome.open` reads in place, beside the metadata, and
    ``SHA256SUMS`` last. A file that is there already is not sent again. After a break the same call goes
    on: on S3 with the parts that are missing, on the Hub as huggingface_hub resumes.

    Parameters
    ----------
    source
        A package that `export` wrote, or a name or path of an entry, which is exported whole for this.
    url
        ``s3://BUCKET/PREFIX`` or ``hf://datasets/ORG/NAME``.
    catalog
        The catalog in which a name is looked up.
    endpoint
        Address of another Hub; by default ``HF_ENDPOINT``. That of an object store, and all credentials,
        come from the environment.
    private
        Whether a repository that is made on the Hub is private.
    part_bytes
        S3: bytes of a part of a big file.
    progress
        Show a bar when on a terminal.

    Returns
    -------
    The names of the files that are now there.

    Raises
    ------
    InputError, MissingFileError, UnknownNameError, MissingDependencyError
        The URL is none that can be written, a package is damaged, a file is too big for the Hub,
        HF_HUB_OFFLINE is set, or the package for it is not installed.
    DamagedError
        The package or the entry is not what was written.
    StorageError
        The transfer broke off; the same call goes on with it.
    """
    _check_url(url)
    repository = hub.Repository(url, endpoint) if url.startswith("hf://") else None
    bucket = None if repository else Bucket(*_file_system(url, None), part=part_bytes)
    with tempfile.TemporaryDirectory(prefix="actome-push-") as work:
        folder = _packed(source, catalog, Path(work))
        sums = checksums.read_sums((folder / checksums.NAME).read_text(encoding="utf-8"), str(folder))
        files = {name: folder / name for name in _by_size(folder, sums)}
        total = sum(path.stat().st_size for path in files.values())
        with _bar(total, "push", progress) as bar, _clear_errors(url, "sent"):
            if repository is not None:
                hub.send_package(repository, files, sums, bar, private=private)
            elif bucket is not None:
                _send(bucket, files, sums, bar)
    return list(files)


def forecast_push(
    source: str | os.PathLike[str],
    url: str,
    *,
    catalog: CatalogLike | None = None,
) -> Mapping[str, int]:
    """Return the bytes of what `push` would send, by name; nothing is sent or asked.

    Raises
    ------
    InputError, MissingFileError, UnknownNameError
        As `push`.
    DamagedError
        A file that the package lists is missing.
    """
    _check_url(url)
    if not is_package(source):
        return forecast(source, Cut(), catalog)
    with open_contents(Path(source)) as contents:
        sums = contents.sums()
        missing = sorted(sums.keys() - set(contents.names()))
        if missing:
            raise DamagedError(f"{source} is not as it was exported: missing: {missing[0]}; copy it again")
        return {name: contents.size(name) for name in sums}


def pull(
    url: str,
    out: str | os.PathLike[str],
    *,
    endpoint: str | None = None,
    progress: bool = False,
) -> str:
    """Fetch a package; `receive` enters it into an archive.

    Parameters
    ----------
    url
        Where `push` sent it: ``s3://BUCKET/PREFIX``, ``hf://datasets/ORG/NAME``, or any other URL of fsspec.
    out
        A folder, which must not exist yet. After a break the same call goes on; until the end the files
        are in ``.NAME.partial`` beside it.
    endpoint
        Address of another Hub.
    progress
        Show a bar when on a terminal.

    Returns
    -------
    The folder.

    Raises
    ------
    InputError, MissingFileError, MissingDependencyError
        `out` is taken; there is no package at `url`.
    DamagedError
        A file is not what its digest says.
    StorageError
        The transfer broke off; the same call goes on with it.
    """
    target = Path(out)
    check_free(target)
    fs, root = _file_system(url, endpoint)
    staging = target.with_name(f".{target.name}.partial")
    with _clear_errors(url, "fetched"):
        try:
            listed = fs.cat_file(f"{root}/{checksums.NAME}", start=0, end=checksums.MOST_BYTES + 1)
        except FileNotFoundError as error:
            raise MissingFileError(f"there is no package at {url}: no {checksums.NAME} in it") from error
        if len(listed) > checksums.MOST_BYTES:
            raise InputError(
                f"{checksums.NAME} of {url} has more than {checksums.MOST_BYTES:,} bytes; none are read"
            )
        sums = checksums.read_sums(listed.decode(errors="replace"), url)
        total = sum(size_of(fs, f"{root}/{name}") for name in sums)
        with _bar(total, "pull", progress) as bar:
            for name, digest in sums.items():
                fetch(fs, f"{root}/{name}", staging / name, digest, bar)
    staging.mkdir(exist_ok=True)
    (staging / checksums.NAME).write_bytes(listed)
    _remove_others(staging, {*sums, checksums.NAME})
    staging.replace(target)
    return str(out)


def _check_url(url: str) -> None:
    if not url.startswith(("s3://", "hf://")):
        raise InputError(f"push goes to s3://BUCKET/PREFIX or hf://datasets/ORG/NAME, got {url}")


def _file_system(url: str, endpoint: str | None) -> tuple[Any, str]:
    """Return the file system of a URL, without what it remembers of an earlier call, and the path in it."""
    if not url.startswith("hf://"):
        fs, root = file_system(url)
    else:
        hub.Repository(url, endpoint)  # says what is wrong with the URL, or that this is offline
        from huggingface_hub import HfFileSystem

        fs, root = HfFileSystem(endpoint=endpoint), url.removeprefix("hf://")
    fs.invalidate_cache()
    return fs, root.rstrip("/")


def _packed(source: str | os.PathLike[str], catalog: Any, work: Path) -> Path:
    """Return a checked package of the source whose entries are one ZIP file each."""
    if not is_package(source):
        return Path(export(source, work / "package", catalog=catalog, packed=True))
    with open_contents(Path(source)) as contents:
        contents.check()
        zipped = not Path(source).is_dir()
        if zipped:
            contents.copy_below("", work / "unpacked")
    folder = work / "unpacked" if zipped else Path(source)
    if not any(folder.glob("*/zarr.json")):
        return folder
    repack(folder, work / "package")
    return work / "package"


@contextmanager
def _clear_errors(url: str, done: str) -> Iterator[None]:
    """Turn whatever a server or the way to it does wrong into one clear error."""
    what = f"{url} was not {done} to its end; the same command goes on from here"
    with clear_errors(what), hub.clear_hub_errors(what):
        try:
            yield
        except FileNotFoundError as error:
            if isinstance(error, ActomeError):
                raise
            raise MissingFileError(f"there is no such place as {url}: {error}") from error


def _by_size(folder: Path, sums: Mapping[str, str]) -> list[str]:
    """Biggest first, checksums last: who sees them sees all."""
    names = sorted(sums, key=lambda name: (-(folder / name).stat().st_size, name))
    return [*names, checksums.NAME]


def _send(bucket: Bucket, files: dict[str, Path], sums: Mapping[str, str], bar: Any) -> None:
    for name, path in files.items():
        digest = sums.get(name) or digest_file(path)
        if bucket.has(name, path.stat().st_size, digest):
            bar.update(path.stat().st_size)
        else:
            bucket.send(name, path, digest, bar)


def _bar(total: int, what: str, progress: bool) -> Any:
    return tqdm(total=total, unit="B", unit_scale=True, desc=what, disable=None if progress else True)


def _remove_others(folder: Path, names: set[str]) -> None:
    """Remove what an earlier call fetched of a package that was replaced meanwhile."""
    for path in [p for p in folder.rglob("*") if p.is_file()]:
        if path.relative_to(folder).as_posix() not in names:
            path.unlink()
