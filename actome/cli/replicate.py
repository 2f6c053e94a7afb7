"""The command `replicate`: a sub-command for each study, with the options of its `run`."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

Model = Annotated[str, typer.Option("--model", "-m", help="'demo', a Hugging Face id, or a local folder.")]
Folder = Annotated[
    Path, typer.Option("--out", "-o", help="Folder of the recordings, results and report; gone on with.")
]
Device = Annotated[str | None, typer.Option(help="Where the model runs, such as cuda:0.")]


class _Studies(TyperGroup):
    """Sub-commands that are studies: one that is not known gets our line, not that of a mistyped command."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        from ..replicate import check_study

        check_study(args[0])
        return super().resolve_command(ctx, args)


replicate = typer.Typer(
    cls=_Studies,
    subcommand_metavar="STUDY [OPTIONS]",
    help="Repeat a published study on a model; print its statements, and write the report.",
    no_args_is_help=True,
)


@replicate.command("2311.10898")
def block_design(
    model: Model,
    out: Folder,
    paradigm: Annotated[
        str | None,
        typer.Option(
            help="Tasks in blocks: a YAML or a shipped one's name. [tasks; for the demo model languages]"
        ),
    ] = None,
    rest: Annotated[
        str | None,
        typer.Option(help="The condition between the tasks, where the paradigm's design has none."),
    ] = None,
    site: Annotated[str, typer.Option(help="The site whose networks are compared.")] = "residual",
    sites: Annotated[
        str | None, typer.Option(help="The sites that are recorded, commas between them. [all]")
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(help="Generated after each prompt.")] = 20,
    measure: Annotated[str, typer.Option(help="magnitude or signed.")] = "magnitude",
    control: Annotated[str, typer.Option(help="bonferroni, fdr or by.")] = "bonferroni",
    alpha: Annotated[float, typer.Option(help="Error rate of the networks.")] = 0.05,
    permutations: Annotated[int, typer.Option(help="Of the tests.")] = 200,
    seed: Annotated[int, typer.Option(help="Draws the permutations.")] = 0,
    device: Device = None,
) -> None:
    """Task networks: a block design, a linear model."""
    recorded = {} if sites is None else {"sites": tuple(s.strip() for s in sites.split(","))}
    _repeat(
        "2311.10898", model=model, out=out, paradigm=paradigm, rest=rest, site=site, **recorded,
        max_new_tokens=max_new_tokens, measure=measure, control=control, alpha=alpha,
        n_permutations=permutations, seed=seed, device=device,
    )  # fmt: skip


@replicate.command("2502.20408")
def functional_networks(
    model: Model,
    out: Folder,
    part: Annotated[str, typer.Option(help="networks: how often they come back; lesions; all.")] = "networks",
    mode: Annotated[
        str,
        typer.Option(help="The way shown first: practice, as we would do it, or paper, to the letter."),
    ] = "practice",
    paradigm: Annotated[
        list[str] | None,
        typer.Option(help="A data set: a YAML or a shipped one's name; again for more. [all that ship]"),
    ] = None,
    site: Annotated[str, typer.Option(help="Where good practice looks.")] = "mlp_out",
    components: Annotated[int, typer.Option(help="Of each decomposition.")] = 10,
    samples: Annotated[
        int, typer.Option(help="Of each data set: so many for the templates, as many to find them in.")
    ] = 100,
    runs: Annotated[int, typer.Option(help="Repeats of a decomposition, for its stability.")] = 10,
    controls: Annotated[int, typer.Option(help="Random controls of every lesion.")] = 4,
    scored: Annotated[int, typer.Option(help="Samples of each data set, scored under lesions.")] = 30,
    kept_components: Annotated[
        list[int] | None,
        typer.Option(
            help="Of the curve of preservation, more than --components and rising; again. [32, 64, 128]"
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Draws samples, bootstraps, starts and controls.")] = 0,
    device: Device = None,
) -> None:
    """Functional networks by ICA, and their lesions."""
    asked: dict[str, Any] = {"paradigm": paradigm, "kept_components": kept_components}
    _repeat(
        "2502.20408", model=model, out=out, part=part, mode=mode, site=site, n_components=components,
        n_samples=samples, n_runs=runs, n_controls=controls, n_scored=scored, seed=seed, device=device,
        **{name: value for name, value in asked.items() if value},
    )  # fmt: skip


@replicate.command("2310.14928")
def linguistic_region(
    model: Model,
    out: Folder,
    paradigm: Annotated[
        str, typer.Option(help="Texts whose conditions are the languages: a YAML or a shipped one's name.")
    ] = "languages",
    controls: Annotated[int, typer.Option(help="Random regions beside each.")] = 3,
    language: Annotated[
        str | None,
        typer.Option(help="The condition to train on. [the one that the model foretells worst]"),
    ] = None,
    steps: Annotated[int, typer.Option(help="Updates of the training.")] = 20,
    learning_rate: Annotated[float, typer.Option(help="Of the training.")] = 1e-4,
    probe: Annotated[
        str | None,
        typer.Option(help="Questions, a YAML with item and correct. [ten on Linux and Python]"),
    ] = None,
    seed: Annotated[int, typer.Option(help="Draws the split of the texts, controls and batches.")] = 0,
    device: Device = None,
) -> None:
    """Linguistic regions: removed, perturbed, frozen."""
    _repeat(
        "2310.14928", model=model, out=out, paradigm=paradigm, n_controls=controls, language=language,
        steps=steps, learning_rate=learning_rate, probe=probe, seed=seed, device=device,
    )  # fmt: skip


def _repeat(study: str, **options: Any) -> None:
    """Print each statement behind its verdict, and where the report is."""
    from ..replicate import run

    outcome = run(study, **options)
    told = outcome.statements
    for verdict, claim in zip(told["verdict"].to_numpy(), told["claim"].to_numpy(), strict=True):
        print(f"{verdict}: {claim}")
    print(outcome.report)
