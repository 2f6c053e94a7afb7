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


def refuse_taken(out: str) -> None:
    """Refuse before any work what would be refused after it."""
    from ..store.location import Location

    location = Location.of(out)
    if location.exists():
        raise InputError(f"{out} holds a result already; choose another path or remove it")
    location.check_new()
