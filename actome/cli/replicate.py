"""The command `replicate`."""

from pathlib import Path
from typing import Annotated, Any

import typer

_BLOCKS, _NETWORKS, _REGIONS = "2311.10898", "2502.20408", "2310.14928"


def replicate(
    study: Annotated[str, typer.Argument(help=f"Its number on arXiv: {_BLOCKS}, {_NETWORKS} or {_REGIONS}.")],
    model: Annotated[
        str, typer.Option("--model", "-m", help="'demo', a Hugging Face id, or a local folder.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the recordings, results and report.")],
    paradigm: Annotated[
        list[str] | None,
        typer.Option(
            help=f"A paradigm's YAML or the name of a shipped one; {_NETWORKS}: may be given again, each a "
            f"data set. [{_BLOCKS}: tasks, languages for the demo; {_NETWORKS}: all that ship; {_REGIONS}: "
            "languages]"
        ),
    ] = None,
    site: Annotated[
        str | None,
        typer.Option(
            help=f"The site whose networks are compared. [{_BLOCKS}: residual; {_NETWORKS}: mlp_out]"
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Draws the permutations, samples and starts.")] = 0,
    device: Annotated[str | None, typer.Option(help="Where the model runs, such as cuda:0.")] = None,
    rest: Annotated[
        str | None,
        typer.Option(
            help=f"{_BLOCKS}: The condition between the tasks, where the paradigm's design has none."
        ),
    ] = None,
    sites: Annotated[
        str | None,
        typer.Option(help=f"{_BLOCKS}: All sites that are recorded, commas between them. [all]"),
    ] = None,
    max_new_tokens: Annotated[
        int | None, typer.Option(help=f"{_BLOCKS}: Generated after each prompt. [20]")
    ] = None,
    measure: Annotated[str | None, typer.Option(help=f"{_BLOCKS}: magnitude or signed. [magnitude]")] = None,
    control: Annotated[
        str | None, typer.Option(help=f"{_BLOCKS}: bonferroni, fdr or by. [bonferroni]")
    ] = None,
    alpha: Annotated[
        float | None, typer.Option(help=f"{_BLOCKS}: Error rate of the networks. [0.05]")
    ] = None,
    permutations: Annotated[int | None, typer.Option(help=f"{_BLOCKS}: Of the tests. [200]")] = None,
    part: Annotated[
        str | None, typer.Option(help=f"{_NETWORKS}: Part of the study: networks, lesions or all. [networks]")
    ] = None,
    mode: Annotated[
        str | None,
        typer.Option(
            help=f"{_NETWORKS}: Which way is shown first: practice, as we would do it, or paper, its choices "
            "to the letter. [practice]"
        ),
    ] = None,
    components: Annotated[int | None, typer.Option(help=f"{_NETWORKS}: Of each decomposition. [10]")] = None,
    samples: Annotated[
        int | None,
        typer.Option(
            help=f"{_NETWORKS}: Of each data set: so many for the templates, as many to find them in. [100]"
        ),
    ] = None,
    runs: Annotated[
        int | None,
        typer.Option(help=f"{_NETWORKS}: Repeats of a decomposition, for its stability. [10]"),
    ] = None,
    controls: Annotated[
        int | None,
        typer.Option(help=f"Random controls of every lesion. [{_NETWORKS}: 4; {_REGIONS}: 3]"),
    ] = None,
    scored: Annotated[
        int | None, typer.Option(help=f"{_NETWORKS}: Of each data set, scored under lesions. [30]")
    ] = None,
    language: Annotated[
        str | None,
        typer.Option(help=f"{_REGIONS}: The condition to train on. [the one the model foretells worst]"),
    ] = None,
    steps: Annotated[int | None, typer.Option(help=f"{_REGIONS}: Updates of the training. [20]")] = None,
    learning_rate: Annotated[float | None, typer.Option(help=f"{_REGIONS}: Of the training. [1e-4]")] = None,
    probe: Annotated[
        str | None,
        typer.Option(help=f"{_REGIONS}: Questions, a YAML with item and correct. [ten on Linux and Python]"),
    ] = None,
) -> None:
    """Repeat a published study on a model; print its statements, and write the report."""
    from ..replicate import run

    given: dict[str, Any] = {
        "paradigm": paradigm[0] if paradigm and len(paradigm) == 1 else paradigm,
        "site": site,
        "seed": seed,
        "device": device,
        "rest": rest,
        "sites": None if sites is None else tuple(s.strip() for s in sites.split(",")),
        "max_new_tokens": max_new_tokens,
        "measure": measure,
        "control": control,
        "alpha": alpha,
        "n_permutations": permutations,
        "part": part,
        "mode": mode,
        "n_components": components,
        "n_samples": samples,
        "n_runs": runs,
        "n_controls": controls,
        "n_scored": scored,
        "language": language,
        "steps": steps,
        "learning_rate": learning_rate,
        "probe": probe,
    }
    options = {name: value for name, value in given.items() if value is not None}
    outcome = run(study, model=model, out=out, **options)
    told = outcome.statements
    for verdict, claim in zip(told["verdict"].to_numpy(), told["claim"].to_numpy(), strict=True):
        print(f"{verdict}: {claim}")
    print(outcome.report)
