"""An archive that entries of a package are put into: what is in their way, and all of them or none."""

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..catalog import Catalog, Entry, open_catalog
from ..catalog.edit import EMPTY, edit
from ..catalog.entry import read_entry
from ..catalog.origin import TEMPLATE, Origin
from ..catalog.stored_metadata import stored_metadata
from ..errors import InputError
from ..housekeeping.removing import check_removable
from ..housekeeping.staging import put_all_in_place, repair
from ..location import Location
from ..location.claim import claimed_folder
from ..yaml import read_mapping


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


@dataclass(frozen=True)
class Archive:
    """A folder of entries, and the catalog that lists them.

    Attributes
    ----------
    folder
        Absolute path; need not be there yet.
    catalog
        Absolute path of the YAML file, which need not be there yet.
    overwrite
        Whether what has the name of a new entry is replaced.
    """

    folder: Path
    catalog: Path
    overwrite: bool

    def path(self, name: str) -> Path:
        """Return where an entry goes."""
        return self.folder / f"{name}.zarr"

    def about(self, name: str) -> Path:
        """Return where licence, citation and card of an entry go."""
        return self.folder / "about" / name

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Let other imports, and whoever changes the catalog, wait."""
        folders = {os.path.realpath(self.folder), os.path.dirname(os.path.realpath(self.catalog))}
        with ExitStack() as stack:
            for folder in sorted(folders):  # in one order, so that no two wait for each other
                stack.enter_context(claimed_folder(folder, wait=True))
            yield

    def plan(self, entries: Mapping[str, Entry]) -> list[Received]:
        """Decide which entries are entered, and which are there already.

        Raises
        ------
        InputError
            One is in the way of another, or has no digest.
        """
        own = self._own()
        return [self._planned(name, entry, own) for name, entry in entries.items()]

    def _own(self) -> Catalog | None:
        return open_catalog(self.catalog) if self.catalog.is_file() else None

    def _planned(self, name: str, entry: Entry, own: Catalog | None) -> Received:
        if not entry.metadata.digest:
            raise InputError(f"entry {name!r} of the package has no digest; export it again")
        path, about = self.path(name), self.about(name)
        if os.path.lexists(about) and (about.is_symlink() or not about.is_dir()):
            raise InputError(f"{about} is no folder, in which the licence could be kept; move it away")
        repair(path)
        listed = None if own is None or name not in own else own.location(name).removeprefix("file://")
        found = _digest(listed or str(path))
        if found == entry.metadata.digest:
            return Received(name, listed or str(path), is_new=False)
        if listed or os.path.lexists(path):
            if not self.overwrite:
                raise InputError(
                    f"the archive has an entry {name!r} already, with other content "
                    f"({found or 'not built'}, the package's is {entry.metadata.digest}); "
                    "rename the package's, or overwrite it"
                )
            if listed and os.path.realpath(listed) != os.path.realpath(path):
                raise InputError(
                    f"the catalog lists {name!r} at {listed}, not at {path}; rename the package's entry, or "
                    "take that one out of the catalog"
                )
            _check_replaceable(path)
        return Received(name, str(path), is_new=True)

    def enter(self, plan: list[Received], entries: Mapping[str, Entry], built: Mapping[str, Path]) -> None:
        """Put entries in their places and write the catalog: all of it, or nothing.

        Parameters
        ----------
        plan, entries
            What becomes of each entry, and what the package's catalog says of it.
        built
            By name, a folder with ``entry``, where the plan had it as new before, and ``about``.

        Raises
        ------
        InputError
            The archive was changed since the entries were built, or the catalog cannot be edited.
        """
        late = [r.path for r in plan if r.is_new and not (built[r.name] / "entry").is_dir()]
        if late:
            raise InputError(f"{late[0]} was changed by another process just now; import the package again")
        before = read_mapping(self.catalog, "catalog")[1] if self.catalog.is_file() else ""
        changes = self._changes(plan, entries, built)
        text = edit(before or EMPTY, changes, str(self.catalog)) if changes or not before else before
        places = {  # the terms first: after a kill, no entry stands with those of another
            built[r.name] / "about": self.about(r.name)
            for r in plan
            if r.is_new or not self.about(r.name).exists()
        }
        places |= {built[r.name] / "entry": Path(r.path) for r in plan if r.is_new}
        with ExitStack() as claims:
            for path in places.values():
                path.parent.mkdir(parents=True, exist_ok=True)
                if path.exists():
                    claims.enter_context(claimed_folder(str(path), create=False))
            put_all_in_place(places, lambda: self._write_catalog(text) if text != before else None)

    def _changes(
        self, plan: list[Received], entries: Mapping[str, Entry], built: Mapping[str, Path]
    ) -> dict[str, Entry]:
        """Return the entries of the catalog that are to be added or replaced."""
        own: Mapping[str, Entry] = self._own() or {}
        changes = {}
        for received in plan:
            entry, listed = entries[received.name], own.get(received.name)
            known = None if listed is None else listed.metadata.digest
            if received.is_new:
                source = built[received.name] / "entry"
            elif listed is None or (known and known != entry.metadata.digest):
                source = Path(received.path)  # there, though an import was killed before it wrote the catalog
            else:
                continue
            changes[received.name] = self._listed(received, entry, str(source), listed)
        return changes

    def _listed(self, received: Received, entry: Entry, source: str, listed: Entry | None) -> Entry:
        """Return an entry as this catalog lists it: with what its store says, too."""
        given = entry.metadata.model_dump(mode="json", exclude_defaults=True)
        place, folder = Path(received.path), self.catalog.parent
        if listed is not None:
            urlpath = listed.args.urlpath
        elif Path(os.path.realpath(place)).is_relative_to(os.path.realpath(folder)) and place.is_relative_to(
            folder
        ):
            urlpath = f"{TEMPLATE}/{place.relative_to(folder).as_posix()}"
        else:
            urlpath = received.path
        Origin.of(self.catalog).locate(urlpath, received.name)  # refuses what no catalog can hold
        content = {
            "driver": "zarr",
            "description": entry.description,
            "args": {"urlpath": urlpath},
            "metadata": {**stored_metadata(source), **given},
        }
        return read_entry(received.name, content, str(self.catalog))

    def _write_catalog(self, text: str) -> None:
        file = Path(os.path.realpath(self.catalog))
        Location.of(file.parent).write(file.name, text.encode())


def _digest(path: str) -> str:
    """Return the digest of what is at a path; "" where that is nothing or not finished."""
    if not os.path.lexists(path) and "://" not in path:
        return ""
    location = Location.of(path)
    return str(location.group().attrs.get("manifest_digest", "")) if location.exists() else ""


def _check_replaceable(path: Path) -> None:
    """Refuse to replace what is not ours, or is being recorded."""
    if not os.path.lexists(path):
        return
    if path.is_symlink() or not (path / "zarr.json").is_file():
        what = "a link" if path.is_symlink() else "no recording and no result"
        raise InputError(
            f"{path} is {what}; it is not overwritten: move it away, or rename the package's entry"
        )
    with claimed_folder(str(path), create=False):
        check_removable(Location.of(path))
