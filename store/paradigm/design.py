"""The block design: runs and blocks, drawn from a seed."""

from typing import Literal

import numpy as np
import pandas as pd
import pydantic

from ..errors import InputError


class Design(pydantic.BaseModel, extra="forbid", frozen=True):
    """A block design: how often and in which order the conditions are shown.

    Every run shows each task condition once, in an order drawn from `seed`, as the blocks of
    `pattern`; no prompt is shown twice.

    Attributes
    ----------
    pattern
        Blocks around one task, each "rest" or "task".
    per_block, rest_per_block
        Prompts in a task block, and in a rest block (as many when left out).
    runs
        Repeats of the whole design.
    rest
        The condition whose prompts fill the rest blocks.
    seed
        Draws the order of the tasks in a run and of the prompts in a condition.
    """

    pattern: tuple[Literal["rest", "task"], ...] = ("rest", "task", "rest")
    per_block: int = pydantic.Field(10, ge=1)
    rest_per_block: int | None = pydantic.Field(None, ge=1)
    runs: int = pydantic.Field(3, ge=1)
    rest: str
    seed: int = pydantic.Field(0, ge=0)

    @pydantic.field_validator("pattern")
    @classmethod
    def _shows_the_task(cls, pattern: tuple[str, ...]) -> tuple[str, ...]:
        if "task" not in pattern:
            raise ValueError("needs at least one 'task'")
        return pattern


def lay_out(table: pd.DataFrame, design: Design) -> pd.DataFrame:
    """Order the prompts in runs and blocks; prompts beyond the design's need are left out.

    Raises
    ------
    InputError
        A condition has fewer prompts than the design needs, or there is none but its rest.
    """
    rng = np.random.default_rng(design.seed)
    tasks = [c for c in table["condition"].unique() if c != design.rest]
    if not tasks:
        raise InputError(f"the design needs a condition other than its rest, {design.rest!r}")
    size = {"task": design.per_block, "rest": design.rest_per_block or design.per_block}
    per_run = {c: size["task"] * design.pattern.count("task") for c in tasks}
    per_run[design.rest] = size["rest"] * design.pattern.count("rest") * len(tasks)
    queues: dict[str, list[int]] = {}
    for condition, need in per_run.items():
        rows = np.flatnonzero(table["condition"] == condition)
        if len(rows) < need * design.runs:
            raise InputError(
                f"the design needs {need * design.runs} prompts of condition {condition!r} "
                f"({design.runs} runs of {need}), the paradigm has {len(rows)}"
            )
        queues[condition] = rng.permutation(rows).tolist()
    order, blocks, runs, block = [], [], [], 0
    for run in range(design.runs):
        for task in rng.permutation(np.array(tasks, dtype=object)):
            for part in design.pattern:
                queue = queues[task if part == "task" else design.rest]
                order += [queue.pop(0) for _ in range(size[part])]
                blocks += [block] * size[part]
                runs += [run] * size[part]
                block += 1
    return table.iloc[order].assign(block=blocks, run=runs).reset_index(drop=True)
