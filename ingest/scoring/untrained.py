"""An untrained copy of a model: the same architecture with the random weights it would begin with."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ...store.errors import InputError
from ..models import LoadedModel


def untrained_copy(model: LoadedModel, seed: Sequence[int]) -> LoadedModel:
    """Make a model of the same configuration, with weights drawn as its architecture initialises them.

    Parameters
    ----------
    model
        Any; it is left as it is.
    seed
        Draws the weights; torch's own random numbers go on as if nothing had been drawn.

    Raises
    ------
    InputError
        The model is wrapped, or quantised, so that its configuration does not make it again.
    """
    module: Any = model.module
    kind = type(module)
    reference = next(module.parameters())
    number = int(np.random.SeedSequence(list(seed)).generate_state(1)[0])
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(number)
            made = kind(copy.deepcopy(module.config))
        shapes = [{n: p.shape for n, p in m.named_parameters()} for m in (module, made)]
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"no untrained copy of this {kind.__name__} can be made from its configuration: {error}"
        ) from error
    if shapes[0] != shapes[1]:
        raise InputError(
            f"no untrained copy of this {kind.__name__} can be made: its parameters are not those of its "
            "configuration (it may be quantised, or hold adapters)"
        )
    made = made.to(device=reference.device, dtype=reference.dtype).eval()
    return replace(model, module=made, name=f"untrained {model.name}")
