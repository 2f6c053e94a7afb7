"""Commands that check what the archive holds: `validate` and `verify`."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from ..store.errors import InputError
from .options import CatalogOption, Json, Recording

if TYPE_CHECKING:
    from ..ingest.verdict import Recomputed


def validate(name: Recording, catalog: CatalogOption = None) -> None:
    """Check a recording against the schema; exit status 1 when it departs from it."""
    from ..store.catalog import resolve
    from ..store.validation import validate as run

    path = resolve(name, catalog)
    breaches = run(path)
    print("\n".join(breaches) or f"it fits the schema{_missing(path)}")
    if breaches:
        raise typer.Exit(1)


def _missing(path: str) -> str:
    """Say how many prompts of a recording are there, where that is not all."""
    from ..store.archive import recorded_in
    from ..store.location import Location

    recorded = recorded_in(Location.of(path).group())
    return "" if recorded.all() else f"; only {recorded.sum()} of {len(recorded)} prompts are recorded"


def verify(
    name: Recording,
    catalog: CatalogOption = None,
    against: Annotated[
        str | None, typer.Option(help="Compare with this copy instead, by digests alone: no shard is read.")
    ] = None,
    recompute: Annotated[
        int | None, typer.Option(min=1, help="Run so many random prompts through the model again.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="With --recompute: the model, where it is elsewhere now.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="With --recompute: draws the prompts.")] = 0,
    as_json: Json = False,
) -> None:
    """Compare the digests with the bytes, and the numbers with the model; exit status 1 on a breach."""
    from ..store.catalog import resolve
    from ..store.integrity import verify as run

    if against is not None:
        if recompute is not None:
            raise InputError("--against reads no numbers and --recompute does; give one of them")
        _compare(resolve(name, catalog), resolve(against, catalog), as_json)
        return
    if model is not None and recompute is None:
        raise InputError("--model says with which model to --recompute; give both or neither")
    path = resolve(name, catalog)
    breaches = run(path)
    if not as_json:
        print("\n".join(breaches) or _sound(path))
    again = None if recompute is None else _recompute(path, model, recompute, seed)
    if as_json:
        shown = {} if again is None else {"recomputed": again.to_json()}
        print(json.dumps({"breaches": breaches, **shown}, indent=1))
    elif again is not None:
        print(again)
    if breaches or (again is not None and not again.holds):
        raise typer.Exit(1)


def _sound(path: str) -> str:
    from ..store.location import Location

    unseen = "; what else lies there cannot be seen: a web server lists no files"
    return f"every byte is as it was written{unseen if Location.of(path).is_web else ''}"


def _compare(path: str, other: str, as_json: bool) -> None:
    from ..store.integrity import compare

    differences = compare(path, other)
    if as_json:
        print(json.dumps({"differences": differences}, indent=1))
    else:
        print("\n".join(differences) or "both hold the same bytes")
    if differences:
        raise typer.Exit(1)


def _recompute(path: str, model: str | None, n_prompts: int, seed: int) -> "Recomputed":
    from ..ingest.recompute import recompute

    return recompute(path, model=model, n_prompts=n_prompts, seed=seed)
