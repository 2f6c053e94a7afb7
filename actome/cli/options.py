"""What the commands share: options, the networks of a result, what is refused before any work."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from ..store.errors import InputError

Recording = Annotated[str, typer.Argument(help="A recording: a path, a URL, or a name of the catalog.")]
CatalogOption = Annotated[
    list[str] | None, typer.Option("--catalog", help="A catalog to look names up in; may be given again.")
]
Out = Annotated[str, typer.Option("--out", "-o", help="Where the result is written.")]
Site = Annotated[str | None, typer.Option(help="Site of the recording; the only one when left out.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Measure = Annotated[str, typer.Option(help="magnitude or signed.")]
Where = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        help="LABEL=VALUE,VALUE or LABEL!=VALUE: these prompts alone; given again, those that meet all.",
    ),
]


def masks_of(name: str, catalog: Sequence[str] | None) -> Any:
    """Masks of a saved result: its own, or those of its components at z of 3.6."""
    from ..analyze.components.networks import networks
    from ..store.archive import open as open_result

    ds = open_result(name, catalog=catalog)
    if "component_map" in ds:
        return networks(ds.load())
    if "mask" not in ds:
        raise InputError(f"{name} holds no networks: neither `mask` nor `component_map`")
    return ds["mask"].load().assign_attrs(ds.attrs)


def contrasts_of(name: str, catalog: Sequence[str] | None) -> Any:
    """Open saved contrasts."""
    from ..store.archive import open as open_result

    ds = open_result(name, catalog=catalog)
    if "stat" not in ds:
        raise InputError(f"{name} holds no contrast: `stat` is missing")
    return ds


def digests(*given: Any) -> list[str]:
    """List the digests of what a result is derived from, of all that have one."""
    return [d for ds in given if (d := ds.attrs.get("manifest_digest"))]


def chosen(ds: Any, where: Sequence[str] | None) -> Any:
    """Keep the prompts of a recording whose labels are as `--where` asks.

    Raises
    ------
    InputError
        There is no such label or value, or no prompt meets all that is asked.
    """
    import numpy as np

    kept = np.ones(ds.sizes["prompt"], dtype=bool)
    for asked in where or ():
        name, without, values = asked.partition("!=") if "!=" in asked else asked.partition("=")
        labels = sorted(str(c) for c in ds.coords if ds[c].dims == ("prompt",))
        if not without or name not in labels:
            raise InputError(f"--where takes LABEL=VALUE of a label in {labels}, got {asked!r}")
        shown = np.array([str(v) for v in ds[name].to_numpy().tolist()])
        wanted = [values] if values in shown else values.split(",")
        unknown = [v for v in wanted if v not in shown]
        if unknown:
            known = np.unique(shown)[:20].tolist()
            raise InputError(f"no prompt has the {name} {unknown[0]!r}; there are {known}")
        kept &= np.isin(shown, wanted) == (without == "=")
    if not kept.any():
        raise InputError(f"no prompt meets all of {list(where or ())}")
    return ds if kept.all() else ds.isel(prompt=np.flatnonzero(kept))


def beside(out: str, what: str) -> str:
    """Name a second result beside the first: ``OUT.zarr`` -> ``OUT-what.zarr``."""
    folder, slash, name = out.rstrip("/").rpartition("/")
    stem, dot, suffix = name.partition(".")
    return f"{folder}{slash}{stem}-{what}{dot}{suffix}"


def refuse_taken(out: str) -> None:
    """Refuse before any work what would be refused after it."""
    from ..store.location import Location

    location = Location.of(out)
    if location.exists():
        raise InputError(f"{out} holds a result already; choose another path or remove it")
    location.check_new()
