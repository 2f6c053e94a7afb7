"""Import of a package: all of it is checked before anything of it enters the archive."""

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..catalog import Catalog, Entry, open_catalog
from ..catalog_edit import create
from ..errors import DamagedError, InputError
from ..integrity import verify
from ..location import Location
from .contents import Contents, open_contents
from .description import read_root

_NAME = re.compile(r"[\w][\w .+-]*")
_TERMS = ("LICENSE.txt", "CITATION.cff", "README.md")  # what must stay with the data
_HERE = "{{ CATALOG_DIR }}/"


@dataclass(frozen=True)
class Received:
    """An entry of a package in the archive.

    Attributes
    ----------
    name
        Its name in the catalog.
    path
        Where it is.
    is_new
        False where the same bytes were there already.
    """

    name: str
    path: str
    is_new: bool


def receive(
    package: str | os.PathLike[str],
    archive_folder: str | os.PathLike[str],
    *,
    catalog: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    rename: Mapping[str, str] | None = None,
) -> list[Received]:
    """Check a package and enter what it holds into an archive.

    Every file is compared with ``SHA256SUMS``, and every entry with its manifest, before the first is
    entered. An entry that is there with the same digest is left as it is. Licence, citation and card are
    kept in ``about/NAME`` beside the entries.

    Parameters
    ----------
    package
        A folder or ``.zip`` that `export` wrote or `pull` fetched.
    archive_folder
        Where the entries go, as ``NAME.zarr``; made where it is missing.
    catalog
        The catalog they are entered in; by default ``catalog.yaml`` of the archive, made where it is missing.
    overwrite
        Replace an entry of the same name that holds something else.
    rename
        Other names, by the name in the package.

    Returns
    -------
    The entries of the package, in its order.

    Raises
    ------
    MissingFileError, InputError
        There is no package; a name in it leads out of it; the name of an entry is taken by something else.
    DamagedError
        A file is damaged, missing or not listed. Whatever is wrong, the archive is as before then.
    """
    folder = Path(archive_folder).absolute()
    catalog_path = folder / "catalog.yaml" if catalog is None else Path(catalog).absolute()
    with open_contents(Path(package)) as contents:
        if not {"catalog.yaml", "SHA256SUMS"} <= set(contents.names()):
            raise InputError(f"{package} is no package: it needs catalog.yaml and SHA256SUMS; export one")
        contents.check()
        with Location.of(folder).claimed(wait=True), _staging(folder) as staging:
            (staging / "catalog.yaml").write_bytes(contents.read("catalog.yaml"))
            entries = open_catalog(staging / "catalog.yaml")
            names = _names(entries, rename or {})
            own = open_catalog(catalog_path) if catalog_path.is_file() else None
            plan = [
                _planned(name, names[name], entry, folder, own, overwrite) for name, entry in entries.items()
            ]
            for name, received in zip(entries, plan, strict=True):
                if received.is_new:
                    _stage(contents, name, entries[name], staging / "new" / received.name)
            for received in plan:
                if received.is_new:
                    _move_in(staging, received)
        _enter(plan, list(entries.values()), catalog_path)  # which claims the folder for itself
        for received in plan:
            _keep_terms(contents, folder / "about" / received.name)
    return plan


@contextmanager
def _staging(folder: Path) -> Iterator[Path]:
    """Make a folder for what is not checked yet; what an import that was killed left is removed."""
    staging = folder / ".import.partial"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir()
    try:
        yield staging
    finally:
        shutil.rmtree(staging)


def _names(entries: Catalog, rename: Mapping[str, str]) -> dict[str, str]:
    """Return the name that each entry gets."""
    unknown = [name for name in rename if name not in entries]
    if unknown:
        raise InputError(f"the package has no entry {unknown[0]!r} to rename; it has {list(entries)}")
    names = {name: rename.get(name, name) for name in entries}
    wrong = [name for name in names.values() if not _NAME.fullmatch(name)]
    if wrong:
        raise InputError(f"{wrong[0]!r} cannot be the name of an entry; rename it")
    if len(set(names.values())) < len(names):
        raise InputError(f"two entries would have one name: {names}; rename them otherwise")
    return names


def _planned(
    name: str, new_name: str, entry: Entry, folder: Path, own: Catalog | None, overwrite: bool
) -> Received:
    """Decide whether an entry is entered, is there already, or is in the way of another."""
    if not entry.metadata.digest:
        raise InputError(f"entry {name!r} of the package has no digest; export it again")
    path = str(folder / f"{new_name}.zarr")
    there = own.location(new_name) if own is not None and new_name in own else path
    found = _digest(there)
    if found == entry.metadata.digest:
        return Received(new_name, there, is_new=False)
    taken = (own is not None and new_name in own) or os.path.lexists(path)
    if taken and not overwrite:
        raise InputError(
            f"the archive has an entry {new_name!r} already, with other content ({found or 'not built'}, the "
            f"package's is {entry.metadata.digest}); rename the package's, or overwrite it"
        )
    return Received(new_name, path, is_new=True)


def _digest(path: str) -> str:
    """Return the digest of what is at a path; "" where that is nothing or not finished."""
    if not os.path.lexists(path) and "://" not in path:
        return ""
    location = Location.of(path)
    return str(location.group().attrs.get("manifest_digest", "")) if location.exists() else ""


def _stage(contents: Contents, name: str, entry: Entry, folder: Path) -> None:
    """Copy an entry out of the package, and compare it with its manifest and the catalog."""
    url = entry.args.urlpath
    if not url.startswith(_HERE):
        raise InputError(
            f"entry {name!r} of the package lies elsewhere: {url}; only what it holds is entered"
        )
    member = url.removeprefix(_HERE)
    if member.endswith(".zip") and member in contents.names():
        zipped = folder.parent / "entry.zip.partial"
        contents.copy(member, zipped)
        with open_contents(zipped) as inner:
            inner.copy_below("", folder)
        zipped.unlink()
    else:
        contents.copy_below(f"{member}/", folder)
    attrs, _ = read_root(Location.of(folder))
    wrong = verify(folder)
    if attrs["manifest_digest"] != entry.metadata.digest:
        wrong.append(f"its digest is {attrs['manifest_digest']}, the catalog's {entry.metadata.digest}")
    if wrong:
        problem = "; ".join(wrong[:3])
        raise DamagedError(f"entry {name!r} of the package is not as it was recorded: {problem}")


def _move_in(staging: Path, received: Received) -> None:
    """Put a checked entry in its place; what was there goes with the staging folder."""
    target = Path(received.path)
    if target.exists():
        old = staging / "old"
        old.mkdir(exist_ok=True)
        target.replace(old / target.name)
    (staging / "new" / received.name).replace(target)


def _enter(plan: list[Received], entries: list[Entry], path: Path) -> None:
    """Write the entries into the catalog."""
    if not path.is_file():
        create(path)
    catalog = open_catalog(path)
    for received, entry in zip(plan, entries, strict=True):
        if not received.is_new and received.name in catalog:
            continue
        if received.name in catalog:
            catalog.remove(received.name)
        place = Path(received.path)
        inside = place.is_relative_to(path.parent)
        catalog.add(
            received.name,
            place.relative_to(path.parent).as_posix() if inside else received.path,
            description=entry.description,
            **entry.metadata.model_dump(mode="json", exclude_defaults=True),
        )
    catalog.save()


def _keep_terms(contents: Contents, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in set(_TERMS) & set(contents.names()):
        Location.of(folder).write(name, contents.read(name))
