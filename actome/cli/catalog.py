"""Commands on the catalog: `ls`, `add` and `info`."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..store.errors import InputError
from .options import CatalogOption, Json, Recording, Site

if TYPE_CHECKING:
    from ..store.catalog import Catalog
    from ..store.footprint import ArrayLayout

Tags = Annotated[list[str] | None, typer.Option("--tag", help="A tag; may be given again.")]


def list_entries(
    tag: Tags = None,
    condition: Annotated[str | None, typer.Option(help="A label of the prompts; * stands for any.")] = None,
    model: Annotated[str | None, typer.Option(help="The model; * stands for any letters.")] = None,
    site: Annotated[str | None, typer.Option(help="A site of a recording.")] = None,
    licence: Annotated[str | None, typer.Option(help="The licence; * stands for any letters.")] = None,
    kind: Annotated[str | None, typer.Option(help="recording, contrast, mask, ...")] = None,
    search: Annotated[
        str | None, typer.Option(help="Part of the name, description, tags, model or citation.")
    ] = None,
    catalog: CatalogOption = None,
    as_json: Json = False,
) -> None:
    """List the entries of the catalog, or those that are searched for; nothing is opened."""
    from ..store.catalog import open_catalog

    entries = open_catalog(catalog or "catalog.yaml").search(
        tag=tag, condition=condition, model=model, site=site, licence=licence, kind=kind, text=search
    )
    if as_json:
        print(json.dumps([_row(entries, name) for name in entries], indent=1))
        return
    width = max(map(len, entries), default=0)
    lines = (
        f"{name:<{width}}  {entries.state(name):<9}  {_one_line(entry.description)}".rstrip()
        for name, entry in entries.items()
    )
    print(*lines, sep="\n", end="\n" if entries else "")


def _row(entries: "Catalog", name: str) -> dict[str, Any]:
    """Return what a program may want to know; whether a remote entry is built is not asked: null."""
    document = entries[name].document()
    return {
        "name": name,
        "built": {"built": True, "not built": False, "remote": None}[entries.state(name)],
        "location": entries.address(name),
        "description": entries[name].description,
        "metadata": document.get("metadata", {}),
    }


def _one_line(text: str) -> str:
    """Return a text that cannot move the cursor of a terminal."""
    line = " ".join(text.split())
    return line if line.isprintable() else "".join(c if c.isprintable() else "?" for c in line)


def add(
    name: Annotated[str, typer.Argument(help="A name that is not taken.")],
    location: Annotated[str, typer.Argument(help="The recording or result: a path or a URL.")],
    tag: Tags = None,
    description: Annotated[str, typer.Option(help="One line.")] = "",
    licence: Annotated[str | None, typer.Option(help="SPDX expression; by default the store's.")] = None,
    citation: Annotated[str | None, typer.Option(help="How it is cited.")] = None,
    look: Annotated[bool, typer.Option(help="Take what is not given from what is at the location.")] = True,
    catalog: CatalogOption = None,
) -> None:
    """Enter a recording or a result in the catalog, which is made if there is none."""
    from ..store.catalog import open_catalog
    from ..store.catalog.edit import create

    if catalog and len(catalog) > 1:
        raise InputError(f"an entry is added to one catalog, got {len(catalog)}")
    path = catalog[0] if catalog else "catalog.yaml"
    if "://" not in path and not Path(path).exists():
        create(Path(path))
    entries = open_catalog(path)
    given = {"tags": tag, "licence": licence, "citation": citation}
    entries.add(
        name, _seen_from(entries.path, location), description=description, look=look,
        **{field: value for field, value in given.items() if value},
    )  # fmt: skip
    entries.save()
    print(f"{path}: {name} -> {entries.address(name)}")


def _seen_from(catalog: Path, location: str) -> str:
    """Return a path of the command line as the catalog writes it: relative where it lies in its folder."""
    if "://" in location or location.startswith("{{"):
        return location
    absolute = Path(os.path.abspath(location))
    folder = Path(os.path.abspath(catalog)).parent
    return str(absolute.relative_to(folder) if absolute.is_relative_to(folder) else absolute)


def info(name: Recording, catalog: CatalogOption = None, site: Site = None, as_json: Json = False) -> None:
    """Say what a recording or a result holds, where it comes from, and what reading a part of it costs."""
    from ..store.archive import open as open_entry
    from ..store.archive import sites_of
    from ..store.catalog import open_catalog, resolve
    from ..store.footprint import array_layouts
    from ..store.location import Location

    path = resolve(name, catalog)
    location = Location.of(path)
    sites = sites_of(location.group())
    ds = open_entry(path, site=site or (sites[0] if sites else None))
    content = _held(ds, sites)
    layouts = array_layouts(location)
    content["layout"] = {x.name: x.summary() for x in layouts}
    if location.is_local:
        sizes = [os.path.getsize(f"{location.root}/{key}") for key in location.keys()]
        content["stored"] = {"files": len(sizes), "bytes": sum(sizes)}
    content["attrs"] = ds.attrs
    if path != name and "@" not in name:  # a version is no entry of its own
        content["entry"] = open_catalog(catalog or "catalog.yaml")[name].document()
    if as_json:
        print(json.dumps(content, indent=1, default=str))
        return
    del content["layout"]
    for key, value in content.items():
        if isinstance(value, dict) and value:
            print(f"{key}:", *(f"  {k:<14} {_shown(v)}" for k, v in value.items()), sep="\n")
        elif value not in ({}, []):
            print(f"{key}: {_shown(value)}")
    lines = [_units(layouts)] if sites else []
    lines += _told(layouts)
    if lines:
        print("layout, in bytes before compression:", *(f"  {line}" for line in lines), sep="\n")


def _held(ds: Any, sites: list[str]) -> dict[str, Any]:
    """Say what there is; of a tree of tensors how many, and of a recording that has begun how far it is."""
    from ..store.trees import TREE

    content: dict[str, Any] = {"kind": ds.attrs.get("kind", "result")}
    if "unfinished" in ds.attrs:
        content["unfinished"] = ds.attrs["unfinished"]
    content["sites"] = sites
    content["sizes"] = {str(d): n for d, n in ds.sizes.items()}
    content["variables"] = {str(v): f"{ds[v].dtype} {ds[v].dims}" for v in ds.variables}
    if TREE in ds.attrs:
        content["tensors"] = sum(bool(node.data_vars) for node in ds.descendants)
    if "condition" in ds.coords and ds["condition"].dims == ("prompt",):
        content["conditions"] = _counts(ds["condition"].to_numpy())
    return content


def _units(layouts: "list[ArrayLayout]") -> str:
    x = next(x for x in layouts if x.dims[0] == "prompt")
    n_units = -(-x.shape[0] // x.file[0])
    return f"{n_units} units of {x.file[0]} prompts: what is written, resumed and read at once"


def _told(layouts: "list[ArrayLayout]") -> list[str]:
    """Say how the arrays of neurons are stored, those alike together, and what reading a part costs."""
    alike: dict[Any, list[str]] = {}
    for x in layouts:
        if "neuron" in x.dims:
            alike.setdefault((os.path.dirname(x.name), replace(x, name="")), []).append(x.name)
    lines = []
    for (folder, x), names in alike.items():
        axes = ", ".join(f"{n} {d}s" for d, n in zip(x.dims, x.shape, strict=True))
        name = os.path.join(folder, ", ".join(map(os.path.basename, names)))
        lines.append(f"{name}: {x.dtype}, {axes}, {_size(x.n_bytes)}")
        lines.append(f"  {x.n_files} files of {_size(x.file_bytes)}: {x.file}")
        lines.append(f"  in chunks of {_size(x.chunk_bytes)}: {x.chunk}")
        lines += [f"  {what} takes {n} of the files, {_size(size)}" for what, (n, size) in x.reads().items()]
    return lines


def _size(n_bytes: int) -> str:
    """Write a number of bytes.

    >>> _size(1_536)
    '1.54 kB'
    """
    power = min(4, (len(str(int(n_bytes))) - 1) // 3)
    return f"{n_bytes / 1000**power:.3g} {('B', 'kB', 'MB', 'GB', 'TB')[power]}"


def _shown(value: Any) -> str:
    text = (
        json.dumps(value, default=str, ensure_ascii=False) if isinstance(value, (dict, list)) else str(value)
    )
    return _one_line(text)


def _counts(values: Any) -> dict[str, int]:
    import numpy as np

    from ..store.schema import text_array

    labels, counts = np.unique(text_array(values), return_counts=True)
    return dict(zip(labels.tolist(), counts.tolist(), strict=True))
