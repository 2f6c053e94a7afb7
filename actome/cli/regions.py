"""The command that selects the parameters that conditions rest on: `regions`."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, get_args

import typer

from ..store.errors import InputError
from .options import Json, Out, Where, beside, chosen_prompts, refuse_taken


def regions(
    model: Annotated[str, typer.Argument(help="'demo', a Hugging Face id, or a local folder.")],
    paradigm: Annotated[str, typer.Argument(help="The texts that select: a YAML, or a shipped one's name.")],
    out: Out,
    importance: Annotated[
        str | None,
        typer.Option(help="Where the importance is, or will be, kept. [OUT with -importance in its name]"),
    ] = None,
    top: Annotated[
        list[float] | None, typer.Option(help="Share of the parameters; may be given again. [0.01]")
    ] = None,
    role: Annotated[
        list[str] | None, typer.Option(help="top, bottom or random; may be given again. [top]")
    ] = None,
    of: Annotated[
        str, typer.Option(help="core: of all conditions; condition: one each; monolingual: of one alone.")
    ] = "core",
    scope: Annotated[str, typer.Option(help="Share of each tensor, or of the whole model.")] = "tensor",
    condition: Annotated[
        list[str] | None, typer.Option(help="Look at this condition; may be given again. [all]")
    ] = None,
    matrix: Annotated[
        list[str] | None,
        typer.Option(help="Look at this type of matrix: q, k, v, o, gate, up, down; again. [all]"),
    ] = None,
    by: Annotated[str, typer.Option(help="The label whose values are the conditions.")] = "condition",
    parameters: Annotated[
        str, typer.Option(help="blocks: their matrices; all: norms, biases, embeddings and the head too.")
    ] = "blocks",
    per_sample: Annotated[
        bool, typer.Option("--per-sample", help="Sum the magnitude of each text's product.")
    ] = False,
    where: Where = None,
    seed: Annotated[int, typer.Option(help="Draws random regions.")] = 0,
    device: Annotated[str | None, typer.Option(help="Where the model runs, such as cuda:0.")] = None,
    as_json: Json = False,
) -> None:
    """Find how important each parameter is for each condition, and save regions of the most important."""
    from ..store.arguments import whole_number

    shares, roles = top or [0.01], role or ["top"]
    _check(shares, roles, of, scope)
    shown = [f"{share:g}" for share in shares]  # as in the names of the regions
    _check_once({"--top": shown, "--role": roles, "--condition": condition, "--matrix": matrix})
    whole_number(seed, "--seed", least=0)
    from ..analyze.regions.selection import region
    from ..analyze.regions.sets import join_regions
    from ..ingest.importance import importance as find_importance
    from ..ingest.models import load_model
    from ..ingest.parameters import find_parameters
    from ..store.results import save_result

    refuse_taken(out)
    texts = chosen_prompts(paradigm, where)
    _check_conditions(texts.table[by].astype(str).unique() if by in texts.table else [], condition, of)
    loaded = load_model(model, device=device)
    found = find_parameters(loaded.module, parameters)  # type: ignore[arg-type]
    _check_there("--matrix", matrix, [p.matrix for p in found])
    weights = find_importance(
        loaded, texts, importance or beside(out, "importance"),
        by=by, parameters=parameters, per_sample=per_sample,  # type: ignore[arg-type]
    )  # fmt: skip
    chosen = [
        region(
            weights, top=share, role=kind, of=of, scope=scope,  # type: ignore[arg-type]
            conditions=condition, matrices=matrix, seed=seed,
        )
        for share in shares
        for kind in roles
    ]  # fmt: skip
    selected = join_regions(*chosen, names=_names(chosen))
    save_result(selected, out, derived_from=weights.attrs.get("manifest_digest"))
    for row in _summary(selected):
        print(json.dumps(row, ensure_ascii=False) if as_json else _line(row))


def _check(shares: list[float], roles: list[str], of: str, scope: str) -> None:
    """Refuse before the importance is found what would be refused after it."""
    from ..analyze.regions.selection import Of, Role, Scope

    wrong = [share for share in shares if not 0 < share <= 1]
    if wrong:
        raise InputError(f"--top must be above 0 and at most 1, got {wrong[0]:g}")
    for name, values, allowed in (
        ("--role", roles, get_args(Role)),
        ("--of", [of], get_args(Of)),
        ("--scope", [scope], get_args(Scope)),
    ):
        unknown = [v for v in values if v not in allowed]
        if unknown:
            raise InputError(f"{name} must be one of {list(allowed)}, got {unknown[0]!r}")
    if of == "monolingual" and roles != ["top"]:
        raise InputError(f"--of monolingual goes with --role top alone, got {roles}")


def _check_once(given: Mapping[str, Sequence[object] | None]) -> None:
    """Refuse the same value twice of an option that may be given again."""
    for name, values in given.items():
        twice = [v for v in dict.fromkeys(values or ()) if (values or []).count(v) > 1]
        if twice:
            raise InputError(f"{name} {twice[0]} is given twice; give each value once")


def _check_there(name: str, values: Sequence[str] | None, there: Iterable[str]) -> None:
    """Refuse what the texts, or the model, do not have."""
    known = list(dict.fromkeys(there))
    unknown = [v for v in values or () if v not in known]
    if unknown:
        raise InputError(f"{name} must be one of {known}, got {unknown[0]!r}")


def _check_conditions(known: Sequence[str], asked: Sequence[str] | None, of: str) -> None:
    """Refuse conditions that no text has, and a single one where it is to be told from others."""
    if not len(known):
        return  # no such label: the importance says so, before any work too
    _check_there("--condition", asked, known)
    if of == "monolingual" and len(asked or known) < 2:
        raise InputError(f"--of monolingual needs at least two conditions, got {list(asked or known)}")


def _names(chosen: list[Any]) -> list[str]:
    """Name all regions, with their share where several are of the same condition."""
    from ..store.regions import region_names

    given = [(name, f"{100 * float(one['top'][0]):g}%") for one in chosen for name in region_names(one)]
    names = [name for name, _ in given]
    return [f"{name} {share}" if names.count(name) > 1 else name for name, share in given]


def _summary(selected: Any) -> list[dict[str, Any]]:
    """Say of each region what it is and how many parameters it has."""
    import dask

    from ..store.regions import labels_of, masks, region_names

    tensors = [mask for _, mask in masks(selected)]
    sizes: Any = sum(dask.base.compute(*(m.sum(("row", "column")).data for m in tensors)))  # type: ignore[no-untyped-call]
    total = sum(m.sizes["row"] * m.sizes["column"] for m in tensors)
    return [
        {"region": name, "role": role, "condition": condition, "top": float(share), "parameters": int(n),
         "share": int(n) / total}
        for name, role, condition, share, n in zip(
            region_names(selected), labels_of(selected, "role"), labels_of(selected, "condition"),
            selected["top"].to_numpy(), sizes, strict=True,
        )
    ]  # fmt: skip


def _line(row: dict[str, Any]) -> str:
    return f"{row['region']}: {row['parameters']:,} parameters ({100 * row['share']:.3g} %)"
