"""Labels of the prompts that would stand in the way of what a result holds itself."""

from collections.abc import Collection, Mapping
from typing import Final, Literal

from ..store.errors import InputError
from ..store.paradigm import Paradigm

Result = Literal["scores", "region_scores", "region_sweep", "training"]

# the kind of a result -> its variables and dimensions, but those that no paradigm may have as labels
NAMES: Final[Mapping[Result, frozenset[str]]] = {
    "scores": frozenset(
        "lesion role target control_kind draw dose mismatch mismatch_size mismatch_layers shared network "
        "hit kl copy logprob_untrained".split()
    ),
    "region_scores": frozenset("lesion role target draw region_role top size magnitude shared".split()),
    "region_sweep": frozenset("place factor loss loss_baseline n_scored".split()),
    "training": frozenset("arm step update loss train_loss n_trained n_scored shared".split()),
}
OF_CHOICES: Final = frozenset("choice choice_logprob choice_n_tokens correct answer_index parsed".split())
OF_PROBE: Final = frozenset(("item", "right"))


def check_labels(paradigm: Paradigm, result: Result, also: Collection[str] = ()) -> None:
    """Refuse labels whose names a result needs, before any work.

    Parameters
    ----------
    paradigm
        Its columns become labels of the result.
    result
        The kind of it.
    also
        Further names that it needs.

    Raises
    ------
    InputError
        A column has such a name.
    """
    reserved = sorted((NAMES[result] | set(also)) & set(paradigm.table.columns))
    if reserved:
        raise InputError(
            f"columns {reserved} of the paradigm are reserved for what the result holds itself; rename them"
        )
