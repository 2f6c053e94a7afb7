"""The command `replicate`."""

from pathlib import Path
from typing import Annotated

import typer

from .options import Measure


def replicate(
    study: Annotated[str, typer.Argument(help="Its number on arXiv: 2311.10898.")],
    model: Annotated[
        str, typer.Option("--model", "-m", help="'demo', a Hugging Face id, or a local folder.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the recording, results and report.")],
    paradigm: Annotated[
        str | None,
        typer.Option(help="A paradigm's YAML or the name of a shipped one [tasks; languages for the demo]."),
    ] = None,
    rest: Annotated[
        str | None,
        typer.Option(help="The condition between the tasks, where the paradigm's design has none."),
    ] = None,
    site: Annotated[str, typer.Option(help="The site whose networks are compared.")] = "residual",
    sites: Annotated[
        str, typer.Option(help="All sites that are recorded, commas between them.")
    ] = "mlp,mlp_out,attention_out,residual",
    max_new_tokens: Annotated[int, typer.Option(help="Generated after each prompt.")] = 20,
    measure: Measure = "magnitude",
    control: Annotated[str, typer.Option(help="bonferroni, fdr or by.")] = "bonferroni",
    alpha: Annotated[float, typer.Option(help="Error rate of the networks.")] = 0.05,
    permutations: Annotated[int, typer.Option(help="Of the tests.")] = 200,
    seed: Annotated[int, typer.Option(help="Draws the permutations.")] = 0,
    device: Annotated[str | None, typer.Option(help="Where the model runs, such as cuda:0.")] = None,
) -> None:
    """Repeat a published study on a model; print its statements, and write the report."""
    from ..replicate import replicate as run
    from ..store.archive import open as open_result

    path = run(
        study, model=model, out=out, paradigm=paradigm, rest=rest, site=site,
        sites=tuple(s.strip() for s in sites.split(",")), max_new_tokens=max_new_tokens, measure=measure,
        control=control, alpha=alpha, n_permutations=permutations, seed=seed, device=device,
    )  # fmt: skip
    told = open_result(out / "statements.zarr")
    for verdict, claim in zip(told["verdict"].to_numpy(), told["claim"].to_numpy(), strict=True):
        print(f"{verdict}: {claim}")
    print(path)
