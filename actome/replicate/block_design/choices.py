"""What a block-design study leaves open, as it was chosen: the report tells it beside the verdicts."""

import xarray as xr

from ...analyze.threshold import Top
from ...store.paradigm.design import Design
from ..outcome import Choice
from .settings import Settings


def choices(
    recording: xr.Dataset, design: Design | None, settings: Settings, identifying: Top
) -> list[Choice]:
    """List the choices that a replication made, from what was recorded and asked for.

    Parameters
    ----------
    recording
        With its tokens and labels.
    design
        The paradigm's, None where its prompts are shown as listed.
    settings, identifying
        What the analyses were asked for.
    """
    return [*_shown(recording, design), *_analysed(settings), *_tested(settings, identifying)]


def _shown(recording: xr.Dataset, design: Design | None) -> list[Choice]:
    blocks = "as the paradigm lists its prompts"
    if design is not None:
        blocks = (
            f"{', '.join(design.pattern)}; {design.per_block} prompts in a task block, "
            f"{design.rest_per_block or design.per_block} in a rest block"
        )
    n_runs = len(set(recording["run"].to_numpy().tolist()))
    most = int(recording["n_tokens"].max())
    return [
        ("blocks", blocks, "off, on, off, as in the study; the lengths are the paradigm's"),
        ("context", "each prompt by itself", "what came before cannot leak into a task"),
        ("runs", f"{n_runs}, no prompt in two of them", "what repeats is the task, not a prompt"),
        (
            "tokens",
            f"generated ones alone, at most {most} a prompt, the likeliest each time",
            "without chance in the tokens, the same model gives the same recording",
        ),
    ]


def _analysed(settings: Settings) -> list[Choice]:
    reasons = {
        "residual": "the literal reading of a layer's output; mind that layers hand their values on",
    }
    measures = {
        "magnitude": "how strongly a value is used, whatever its sign",
        "signed": "what is used with a negative sign counts as inactive",
    }
    return [
        ("values", settings.site, reasons.get(settings.site, "as asked for")),
        ("measure", settings.measure, measures[settings.measure]),
        (
            "noise",
            "clustered by prompt, with degrees of freedom for few prompts",
            "tokens of one prompt depend on each other; counted as independent they would make p too small",
        ),
        ("contrast", f"every task against {settings.rest}; runs as confounds", "on against off"),
        (
            "threshold",
            f"{settings.control}"
            + (f", alpha {settings.alpha:g}" if isinstance(settings.control, str) else ""),
            "one-sided: values that a task raises",
        ),
    ]


def _tested(settings: Settings, identifying: Top) -> list[Choice]:
    n = settings.n_permutations
    return [
        (
            "overlap",
            "Dice, against networks with as many values in each layer",
            "1 is the same network; networks that favour the same layers overlap by that alone",
        ),
        (
            "repeats",
            f"maps of single runs, the same threshold; {n} permutations of conditions within runs",
            "maps of different runs share no prompt",
        ),
        (
            "identification",
            f"each run left out in turn; networks of the {identifying.fraction:.0%} with the largest t of a "
            "task against the mean of the others; a held-out map goes to the network whose values are "
            "the most above the rest of the map",
            f"networks of one size can be compared; rest is no task; p from {n} permutations",
        ),
        ("time course", "one value of the first task", "chosen and predicted by the runs not shown"),
    ]
