"""What a model writes behind its prompts, as text."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..store.errors import InputError
from ..store.seeds import seed_of
from .forward import Generation, Sampling
from .models import LoadedModel
from .tokens import Tokens


def check_room(model: LoadedModel, tokens: Tokens, sampling: Sampling) -> None:
    """Refuse prompts that leave no room for new tokens in the model's context.

    Raises
    ------
    InputError
        One is too long.
    """
    longest = int(tokens.n_tokens.max()) + sampling.max_new_tokens
    if model.context is not None and longest > model.context:
        raise InputError(
            f"the longest prompt has {longest} tokens with {sampling.max_new_tokens} new ones, the "
            f"model's context {model.context}; shorten the prompts or ask for fewer"
        )


def complete(
    model: LoadedModel, token_id: npt.NDArray[np.int32], names: Sequence[str], sampling: Sampling
) -> list[str]:
    """Let the model as it is now continue a batch of prompts; return what it wrote behind each.

    Parameters
    ----------
    model
        Causal, with whatever was done to it.
    token_id
        (prompt, token), right-padded with -1.
    names
        Ids of the prompts: what is drawn belongs to these.
    sampling
        How tokens are chosen.
    """
    generation = Generation(model, token_id, [seed_of(name) for name in names], sampling)
    while not generation.is_over:
        generation.step()
    written = (ids[ids != -1].tolist() for ids in generation.result().token_id)
    return [str(model.tokenizer.decode(ids, skip_special_tokens=True)) for ids in written]
