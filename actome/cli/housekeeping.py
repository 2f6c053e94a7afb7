"""Commands that keep an archive in order: `append`, `merge`, `rechunk`, `cast`, `rm` and `gc`."""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from ..store.errors import InputError
from .options import CatalogOption, Json, Out, Recording

Runs = Annotated[str, typer.Option(help="keep the numbers of runs and blocks, or renumber them.")]
Duplicates = Annotated[str, typer.Option(help="refuse a prompt id that stands twice, or skip equal prompts.")]


def append(
    name: Recording,
    source: Annotated[str, typer.Argument(help="The recording whose prompts are added; a path or a name.")],
    runs: Runs = "keep",
    duplicates: Duplicates = "refuse",
    catalog: CatalogOption = None,
) -> None:
    """Add the prompts of another recording of the same model, in place."""
    from ..store.catalog import open_catalog, resolve
    from ..store.housekeeping import append as run
    from ..store.location import Location

    path, added = resolve(name, catalog), resolve(source, catalog)
    _print_prompts(run(path, added, runs=runs, duplicates=duplicates))  # type: ignore[arg-type]
    for file in catalog or [file for file in ("catalog.yaml",) if Path(file).is_file()]:
        entries = open_catalog(file)  # each alone: several together cannot be changed
        for listed in [] if "://" in file else _names_at(Location.of(path), entries):
            entries.refresh(listed)
            entries.save()
            print(f"{listed}: brought up to date in {entries}")


def merge(
    names: Annotated[list[str], typer.Argument(help="Two recordings or more: paths or names.")],
    out: Out,
    runs: Runs = "keep",
    duplicates: Duplicates = "refuse",
    catalog: CatalogOption = None,
) -> None:
    """Join recordings of the same model into a new one; goes on with an interrupted one."""
    from ..store.catalog import resolve
    from ..store.housekeeping import merge as run

    paths = [resolve(name, catalog) for name in names]
    _print_prompts(run(paths, out, runs=runs, duplicates=duplicates))  # type: ignore[arg-type]


def rechunk(
    name: Recording,
    out: Out,
    unit: Annotated[int | None, typer.Option(help="Prompts in a unit.")] = None,
    tokens: Annotated[int | None, typer.Option(help="Tokens in a chunk.")] = None,
    neurons: Annotated[int | None, typer.Option(help="Neurons in a chunk.")] = None,
    catalog: CatalogOption = None,
) -> None:
    """Write a recording anew, cut otherwise; goes on with an interrupted one."""
    from ..store.catalog import resolve
    from ..store.housekeeping import rechunk as run

    _print_prompts(run(resolve(name, catalog), out, unit=unit, tokens=tokens, neurons=neurons))


def cast(
    name: Recording,
    out: Out,
    dtype: Annotated[str, typer.Option(help="float16, float32 or float64.")],
    clip: Annotated[
        bool, typer.Option("--clip", help="Keep values that the type does not hold at its largest.")
    ] = False,
    catalog: CatalogOption = None,
) -> None:
    """Write a recording anew in another type; goes on with an interrupted one."""
    from ..store.catalog import resolve
    from ..store.housekeeping import cast as run

    _print_prompts(run(resolve(name, catalog), out, dtype, clip=clip))


def _print_prompts(path: str) -> None:
    from ..store.location import Location

    print(f"{path}: {Location.of(path).group()['prompt'].shape[0]} prompts")  # type: ignore[union-attr]


def rm(
    names: Annotated[list[str], typer.Argument(help="Recordings or results: paths or names.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    keep_entry: Annotated[
        bool, typer.Option("--keep-entry", help="Leave the entry of the catalog, which says how to rebuild.")
    ] = False,
    catalog: CatalogOption = None,
) -> None:
    """Remove recordings or results, and their entries in the catalog."""
    from ..store.catalog import resolve
    from ..store.catalog.search import made_of
    from ..store.housekeeping import remove
    from ..store.housekeeping.removing import check_removable
    from ..store.location import Location

    entries = _catalog_for(catalog)
    locations = {_place(at): at for at in (Location.of(resolve(name, catalog)) for name in names)}
    for location in locations.values():
        check_removable(location)
    listed = {place: _names_at(location, entries) for place, location in locations.items()}
    if any(listed.values()) and not keep_entry:
        entries.path  # noqa: B018  a catalog that cannot be changed is refused before anything is removed
    if not yes:
        made = made_of(entries)
        _confirm([_described(location, listed[place], made) for place, location in locations.items()])
    for place, location in locations.items():
        remove(str(location))
        print(f"{location}: removed")
        for name in [] if keep_entry else listed[place]:
            entries.remove(name)
            entries.save()
            print(f"{name}: taken out of {entries}")


def _catalog_for(catalog: Any) -> Any:
    """Return the catalog that is given, or the one here; nothing where there is none."""
    from ..store.catalog import open_catalog

    if catalog:
        return open_catalog(catalog)
    return open_catalog("catalog.yaml") if Path("catalog.yaml").is_file() else {}


def _place(location: Any) -> str:
    """Return what two locations of the same thing have in common, whatever links lead to it."""
    return os.path.realpath(location.root) if location.is_local else str(location)


def _names_at(location: Any, entries: Any) -> list[str]:
    """Return the names under which a catalog lists what is at a location, however it writes the path."""
    from ..store.location import Location

    addresses = {name: entries.address(name).removeprefix("file://") for name in entries}
    place = _place(location)
    if location.is_local:
        return [name for name, at in addresses.items() if os.path.realpath(at) == place]
    alike = [name for name, at in addresses.items() if at.endswith(f"/{location.name}")]
    return [name for name in alike if _place(Location.of(addresses[name])) == place]


def _described(location: Any, names: list[str], made: Mapping[str, list[str]]) -> str:
    """Say what would be removed, and what the catalog knows to be derived from it."""
    from ..store.catalog.search import descendants

    digest = location.group().attrs.get("manifest_digest")
    n_bytes = sum(location.fs.size(f"{location.root}/{key}") for key in location.keys())
    derived = descendants([*names, str(digest)], made)
    text = f"{location} ({n_bytes / 1e6:.1f} MB)"
    return (
        f"{text}, of which {', '.join(derived)} {'was' if len(derived) == 1 else 'were'} made"
        if derived
        else text
    )


def _confirm(described: list[str]) -> None:
    """Ask on a terminal; elsewhere nobody can answer."""
    if not sys.stdin.isatty():
        raise InputError(f"nothing was removed: --yes is needed to remove {'; '.join(described)}")
    typer.confirm("remove " + "; ".join(described) + "?", abort=True)


def gc(
    path: Annotated[str, typer.Argument(help="A recording, a result, or a folder of them.")] = ".",
    older_than: Annotated[
        float, typer.Option(help="Hours; what changed since is taken for work in progress.")
    ] = 1.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print what is there.")] = False,
    as_json: Json = False,
) -> None:
    """Remove what interrupted writes left; what is complete stays as it is."""
    from dataclasses import asdict

    from ..store.housekeeping import gc as run

    found = run(path, older_than=older_than, dry_run=dry_run)
    if as_json:
        print(json.dumps([asdict(item) for item in found], indent=1))
        return
    for item in found:
        print(f"{item.path}: {item.what}, {item.n_bytes / 1e6:.1f} MB: {item.done}")
    removed = sum(item.n_bytes for item in found if item.done == ("found" if dry_run else "removed"))
    print(f"{removed / 1e6:.1f} MB {'would be removed' if dry_run else 'removed'}")
