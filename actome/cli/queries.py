"""Commands that ask a recording: `query`, and `index`, which makes most questions quick."""

import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from ..store.errors import InputError
from .options import CatalogOption, Json, Measure, Recording, Site


def index(name: Recording, catalog: CatalogOption = None) -> None:
    """Find what each neuron of a recording answers to, and write its labels as Parquet tables."""
    from ..store.catalog import resolve
    from ..store.index.build import build_index

    print(f"{build_index(resolve(name, catalog), progress=sys.stderr.isatty())}: indexed")


def query(
    name: Recording,
    top: Annotated[
        str | None, typer.Option(metavar="LAYER:NEURON", help="The tokens on which a neuron is strongest.")
    ] = None,
    like: Annotated[
        str | None, typer.Option(metavar="LAYER:NEURON", help="The neurons that behave like one.")
    ] = None,
    selective: Annotated[
        bool, typer.Option("--selective", help="The neurons that tell each condition from the others.")
    ] = False,
    token: Annotated[
        str | None, typer.Option(help="The neurons that answer to a token: its text, or #ID.")
    ] = None,
    fires: Annotated[
        str | None,
        typer.Option(metavar="PROMPT:TOKEN", help="The neurons for which one token of a prompt is unusual."),
    ] = None,
    sql: Annotated[str | None, typer.Option(help="SQL over the tables prompts and tokens.")] = None,
    k: Annotated[int, typer.Option("-k", help="How many rows; of --selective, rows a condition.")] = 20,
    by: Annotated[str, typer.Option(help="Of --selective: a label of the prompts.")] = "condition",
    measure: Measure = "magnitude",
    site: Site = None,
    catalog: CatalogOption = None,
    as_json: Json = False,
) -> None:
    """Ask a recording about its neurons and tokens; one question at a time."""
    from ..analyze.selectivity import selective_neurons, similar_neurons
    from ..store import queries
    from ..store.archive import open as open_recording
    from ..store.catalog import resolve
    from ..store.queries.sql import sql as run_sql

    def opened(level: Any) -> Any:
        return open_recording(name, site=site, catalog=catalog, level=level)

    shared: dict[str, Any] = {"k": k, "measure": measure}
    questions: dict[str, tuple[Any, Callable[[], Any]]] = {
        "--top": (top, lambda: queries.top_tokens(opened("token"), **_neuron(top, "--top"), **shared)),
        "--like": (like, lambda: similar_neurons(opened("prompt"), **_neuron(like, "--like"), **shared)),
        "--selective": (selective, lambda: selective_neurons(opened("prompt"), by=by, **shared)),
        "--token": (token, lambda: queries.token_neurons(opened("token"), token=_token(token), k=k)),
        "--fires": (fires, lambda: queries.firing_neurons(opened("token"), **_place(fires), k=k)),
        "--sql": (sql, lambda: run_sql(resolve(name, catalog), sql or "")),
    }
    asked = [option for option, (value, _) in questions.items() if value]
    if len(asked) != 1:
        raise InputError(f"give one of {', '.join(questions)}, got {' and '.join(asked) or 'none'}")
    table = questions[asked[0]][1]()
    if as_json:
        print(table.to_json(orient="records", indent=1, force_ascii=False))
    else:
        print(table.to_string(index=False) if len(table) else "nothing")


def _neuron(text: str | None, option: str) -> dict[str, Any]:
    layer, _, neuron = (text or "").partition(":")
    if not (layer.isdecimal() and neuron.isdecimal()):
        raise InputError(f"{option} must be LAYER:NEURON, such as 3:117, got {text!r}")
    return {"layer": int(layer), "neuron": int(neuron)}


def _place(text: str | None) -> dict[str, Any]:
    prompt, _, token = (text or "").rpartition(":")
    if not prompt or not token.isdecimal():
        raise InputError(f"--fires must be PROMPT:TOKEN, such as p7:12, got {text!r}")
    return {"prompt": prompt, "token": int(token)}


def _token(text: str | None) -> int | str:
    """Tell the number of a token, #318, from its text."""
    text = text or ""
    return int(text[1:]) if text[:1] == "#" and text[1:].isdecimal() else text
