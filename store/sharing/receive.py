"""Import of a package: all of it is checked before anything of it enters the archive."""

import os
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from ..catalog.entry import Entry, read_entries
from ..catalog.origin import TEMPLATE
from ..errors import DamagedError, InputError
from ..housekeeping.staging import remove_unclaimed, staged
from ..integrity import verify
from ..location import Location
from ..safe_names import fits_package
from ..yaml import decode, parse_mapping
from .contents import Contents, open_contents
from .description import read_root
from .entering import Archive, Received

_TERMS = ("LICENSE.txt", "CITATION.cff", "README.md")  # what must stay with the data


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
    kept in ``about/NAME`` beside the entries. Others may use the archive while the package is copied. Killed
    at any point, each entry is as it was or as in the package, and the same call goes on.

    Parameters
    ----------
    package
        A folder or ``.zip`` that `export` wrote or `pull` fetched.
    archive_folder
        Where the entries go, as ``NAME.zarr``; made where it is missing.
    catalog
        The catalog they are entered in; by default ``catalog.yaml`` of the archive, made where it is missing.
    overwrite
        Replace a recording or result of the same name that holds something else.
    rename
        Other names, by the name in the package.

    Returns
    -------
    The entries of the package, in its order.

    Raises
    ------
    MissingFileError, InputError
        There is no package; a name in it leads out of it; the name of an entry is taken by something else,
        or, with `overwrite`, by what is being recorded, is elsewhere or is not ours; the catalog cannot be
        edited.
    DamagedError
        A file is damaged, missing or not listed. Whatever is wrong, the archive is as before then.
    """
    folder = Path(archive_folder).absolute()
    catalog_path = folder / "catalog.yaml" if catalog is None else Path(catalog).absolute()
    archive = Archive(folder, catalog_path, overwrite)
    with open_contents(Path(package)) as contents, ExitStack() as work:
        if not {"catalog.yaml", "SHA256SUMS"} <= set(contents.names()):
            raise InputError(f"{package} is no package: it needs catalog.yaml and SHA256SUMS; export one")
        contents.check()
        entries = _renamed(_entries(contents, str(package)), rename or {})
        with archive.claimed():
            plan = archive.plan(entries)
            for name in entries:
                remove_unclaimed(archive.path(name))
            built = {name: work.enter_context(staged(archive.path(name), "import")) for name in entries}
        for received in plan:  # others may use the archive meanwhile: this takes long
            _copy_terms(contents, archive.about(received.name), built[received.name] / "about")
            if received.is_new:
                _copy_entry(contents, received.name, entries[received.name], built[received.name])
        with archive.claimed():
            plan = archive.plan(entries)
            archive.enter(plan, entries, built)
    return plan


def _entries(contents: Contents, package: str) -> dict[str, Entry]:
    """Read the catalog of a package."""
    source = f"{package}/catalog.yaml"
    text = decode(contents.read("catalog.yaml"), "catalog", source)
    return read_entries(parse_mapping(text, "catalog", source), source)


def _renamed(entries: Mapping[str, Entry], rename: Mapping[str, str]) -> dict[str, Entry]:
    """Return the entries by the name that each gets."""
    unknown = [name for name in rename if name not in entries]
    if unknown:
        raise InputError(f"the package has no entry {unknown[0]!r} to rename; it has {list(entries)}")
    names = {name: rename.get(name, name) for name in entries}
    wrong = [name for name in names.values() if not fits_package(name)]
    if wrong:
        raise InputError(
            f"{wrong[0]!r} cannot be the name of an entry: only letters, digits and . _ + - can; rename it"
        )
    if len(set(names.values())) < len(names):
        raise InputError(f"two entries would have one name: {names}; rename them otherwise")
    return {names[name]: entry for name, entry in entries.items()}


def _copy_entry(contents: Contents, name: str, entry: Entry, work: Path) -> None:
    """Copy an entry to ``entry`` in a folder, and compare it with its manifest and the catalog."""
    url, members, folder = entry.args.urlpath, contents.names(), work / "entry"
    member = url.removeprefix(f"{TEMPLATE}/")
    if member != url and member.endswith(".zip") and member in members:
        zipped = work / "entry.zip"
        contents.copy(member, zipped)
        with open_contents(zipped) as inner:
            inner.copy_below("", folder)
        zipped.unlink()
    elif member != url and any(m.startswith(f"{member}/") for m in members):
        contents.copy_below(f"{member}/", folder)
    else:
        raise InputError(
            f"entry {name!r} of the package lies elsewhere: {url}; only what it holds is entered"
        )
    attrs, _ = read_root(Location.of(folder))
    wrong = verify(folder)
    if attrs["manifest_digest"] != entry.metadata.digest:
        wrong.append(f"its digest is {attrs['manifest_digest']}, the catalog's {entry.metadata.digest}")
    if wrong:
        problem = "; ".join(wrong[:3])
        raise DamagedError(f"entry {name!r} of the package is not as it was recorded: {problem}")


def _copy_terms(contents: Contents, about: Path, folder: Path) -> None:
    """Build what is kept beside an entry: the terms of the package, and what else is there already."""
    folder.mkdir()
    if about.is_dir():
        shutil.copytree(about, folder, dirs_exist_ok=True)
    for name in _TERMS:
        (folder / name).unlink(missing_ok=True)
    for name in set(_TERMS) & set(contents.names()):
        contents.copy(name, folder / name)
