"""Commands on the versions of a recording or a result: `commit`, `log` and `tag`."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer

from .options import CatalogOption, Json, Recording

History = Annotated[
    str,
    typer.Argument(help="A history NAME.icechunk, or the recording or result beside it: path, URL or name."),
]


def commit(
    name: Recording,
    message: Annotated[str, typer.Option("--message", "-m", help="What is new, in a line.")],
    history: Annotated[
        str | None, typer.Argument(help="NAME.icechunk; beside NAME.zarr when left out.")
    ] = None,
    tag_name: Annotated[str | None, typer.Option("--tag", help="A name for this version, for good.")] = None,
    branch: Annotated[str, typer.Option(help="The line of versions that it goes on.")] = "main",
    catalog: CatalogOption = None,
) -> None:
    """Keep a recording or a result as a version, to be opened as NAME@TAG."""
    from ..store.catalog import resolve
    from ..store.versions import commit as run
    from ..store.versions import history_beside

    source = resolve(name, catalog)
    snapshot = run(source, history or history_beside(source), message=message, tag=tag_name, branch=branch)
    print(snapshot)


def log(
    history: History,
    branch: Annotated[str, typer.Option(help="The line of versions that is listed.")] = "main",
    catalog: CatalogOption = None,
    as_json: Json = False,
) -> None:
    """List the versions of a recording or a result, the newest first."""
    from ..store.versions import log as run

    versions = run(_history(history, catalog), branch=branch)
    if as_json:
        rows = [{**asdict(v), "time": v.time.isoformat()} for v in versions]
        print(json.dumps(rows, indent=1))
        return
    for v in versions:
        tags = f"  ({', '.join(v.tags)})" if v.tags else ""
        print(f"{v.id}  {v.time:%Y-%m-%d %H:%M}  {v.message}{tags}")


def tag(
    history: History,
    tag_name: Annotated[str, typer.Argument(metavar="TAG", help="The name; it never moves.")],
    version: Annotated[
        str | None, typer.Argument(help="Snapshot, tag or branch; the newest when left out.")
    ] = None,
    catalog: CatalogOption = None,
) -> None:
    """Name a version, for good."""
    from ..store.versions import tag as run

    print(run(_history(history, catalog), tag_name, version))


def _history(name: str, catalog: Sequence[str] | None) -> str:
    from ..store.catalog import resolve
    from ..store.versions import history_beside

    return history_beside(resolve(name, catalog))
