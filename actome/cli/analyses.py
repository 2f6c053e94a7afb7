"""Commands that analyse: `overlap`, `identify` and `report`."""

import json
from typing import Annotated

import typer

from .options import (
    CatalogOption,
    Json,
    Measure,
    Out,
    Recording,
    Site,
    Threshold,
    TwoSided,
    Where,
    chosen,
    masks_of,
    refuse_threshold_of_masks,
)


def overlap(
    first: Annotated[str, typer.Argument(help="Saved contrasts, components or masks.")],
    second: Annotated[
        str | None, typer.Argument(help="Others; the first among themselves when left out.")
    ] = None,
    metric: Annotated[str, typer.Option(help="dice, jaccard or coefficient.")] = "dice",
    null: Annotated[
        str | None, typer.Option(help="Chance to compare with: hypergeometric or layers.")
    ] = None,
    threshold: Threshold = None,
    two_sided: TwoSided = False,
    catalog: CatalogOption = None,
    as_json: Json = False,
) -> None:
    """Print how far networks share their neurons; with --null, beside what chance would give."""
    from ..analyze.overlap import overlap as run

    given = [name for name in (first, second) if name is not None]
    refuse_threshold_of_masks(given, catalog, threshold, two_sided)
    a = masks_of(first, catalog, threshold, two_sided)
    b = None if second is None else masks_of(second, catalog, threshold, two_sided)
    ds = run(a, b, metric=metric, null=null)  # type: ignore[arg-type]
    names = [metric] if null is None else [metric, "intersection", "expected", "p_value"]
    tables = {name: ds[name].to_pandas() for name in names}
    if as_json:
        found = {name: json.loads(table.to_json(orient="split")) for name, table in tables.items()}
        print(json.dumps(found[metric] if null is None else found, indent=1))
        return
    empty = [name for name, d in zip(given, ("network", "network_other"), strict=False) if not ds.sizes[d]]
    if empty:
        print("\n".join(f"{name} holds no network: there is nothing to compare" for name in empty))
        return
    for name, table in tables.items():
        title = "" if null is None else f"{name}\n"
        print(title + (table.to_string(float_format="{:.3g}".format)))


def identify(
    name: Recording,
    by: Annotated[str, typer.Option(help="Label whose values are left out in turn.")] = "run",
    measure: Measure = "magnitude",
    score: Annotated[str, typer.Option(help="difference, dice or correlation.")] = "difference",
    level: Annotated[str, typer.Option(help="What is named: each prompt, or each run's map.")] = "prompt",
    permutations: Annotated[int, typer.Option(help="Label permutations.")] = 200,
    where: Where = None,
    site: Site = None,
    catalog: CatalogOption = None,
    as_json: Json = False,
) -> None:
    """Name the condition of what is held out from the networks of the others."""
    from ..analyze.reliability.identification import identify as run
    from ..store.archive import open as open_recording

    ds = run(
        chosen(open_recording(name, site=site, level="prompt", catalog=catalog), where),
        by=by,
        measure=measure,  # type: ignore[arg-type]
        score=score,  # type: ignore[arg-type]
        level=level,  # type: ignore[arg-type]
        n_permutations=permutations,
    )
    if as_json:
        print(json.dumps({"accuracy": float(ds["accuracy"]), "p_value": float(ds["p_value"])}))
        return
    print(ds["confusion"].to_pandas().to_string())
    print(f"accuracy {float(ds['accuracy']):.3f}, p {float(ds['p_value']):.3g}")


def report(
    results: Annotated[
        list[str], typer.Argument(help="Recordings and results: paths or names of the catalog.")
    ],
    out: Out,
    catalog: CatalogOption = None,
) -> None:
    """Write one self-contained HTML file from recordings and results; a report that is there is replaced."""
    from ..analyze.report import report as run
    from ..analyze.report.gather import as_result
    from ..store.archive import open as open_result

    given = (as_result(open_result(name, catalog=catalog), name) for name in results)
    print(run(*given, out=out))
