"""Batches: which prompts go through the model together, and what to do when they do not fit."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..store.errors import InputError
from .models import LoadedModel
from .structure import text_config

_MOST_TOKENS = {"cpu": 4096, "cuda": 32768}  # more in a batch makes no device faster
_SHARE = 0.4  # of the memory beside the weights: the estimate is rough, and the recorder needs some


def batches(
    n_tokens: npt.NDArray[np.int64], batch_tokens: int, batch_size: int | None = None
) -> list[npt.NDArray[np.int64]]:
    """Group prompts of similar length: a pure function of the lengths, so that a resumed run repeats it.

    Parameters
    ----------
    n_tokens
        (prompt,): tokens of each.
    batch_tokens
        Most tokens in a batch, padding included; one prompt may have more.
    batch_size
        Prompts in a batch, whatever their length.

    >>> [b.tolist() for b in batches(np.array([9, 2, 8, 3]), 20)]
    [[1, 3], [2, 0]]
    """
    order = np.argsort(n_tokens, kind="stable")
    if batch_size is not None:
        return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    groups: list[npt.NDArray[np.int64]] = []
    end = len(order)
    while end:  # from the longest: it says how many fit
        size = max(1, batch_tokens // max(1, int(n_tokens[order[end - 1]])))
        groups.append(order[max(0, end - size) : end])
        end = max(0, end - size)
    return groups[::-1]


def fitting_batch_tokens(model: LoadedModel, longest: int, *, logits: bool, kept: int = 0) -> int:
    """Estimate how many tokens fit into the memory of the device at once.

    From its size, not from what is free just now, so that a device always gets the same answer.

    Parameters
    ----------
    model
        On its device.
    longest
        Tokens of the longest prompt.
    logits
        Whether the language-model head runs.
    kept
        Numbers that stay on the device for each token until the batch is over.
    """
    config: Any = text_config(model.module)
    hidden = int(config.hidden_size)
    inner = int(getattr(config, "intermediate_size", None) or 4 * hidden)
    heads = int(getattr(config, "num_attention_heads", 1))
    itemsize = next(model.module.parameters()).element_size()
    floats = 12 * hidden + 4 * inner + 2 * heads * longest  # of one block: the blocks before it are freed
    floats += kept
    if logits:
        floats += 3 * int(config.vocab_size)
    here = [p for p in model.module.parameters() if p.device == model.device]  # a model may be spread
    weights = sum(p.numel() * p.element_size() for p in here)
    fitting = int(_SHARE * (_memory(model.device) - weights)) // (max(itemsize, 4) * floats)
    return max(1, min(fitting, _MOST_TOKENS.get(model.device.type, 4096)))


def _memory(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 2**33


def run_fitting(
    groups: list[npt.NDArray[np.int64]], run: Callable[[npt.NDArray[np.int64]], None], device: torch.device
) -> int:
    """Run every batch; one that does not fit into memory is halved, and so are those after it.

    Returns
    -------
    How often a batch was halved.

    Raises
    ------
    InputError
        A single prompt does not fit.
    """
    waiting, n_split, most = groups[::-1], 0, max(map(len, groups))
    while waiting:
        rows = waiting.pop()
        if len(rows) > most:
            waiting += [rows[most:], rows[:most]]
            continue
        try:
            with _naming_what_is_out_of_memory():
                run(rows)
        except _OutOfMemoryError as error:
            if len(rows) == 1:
                raise InputError(
                    f"one prompt alone does not fit into the memory of {device}: {error}; "
                    "shorten it, truncate, or take a larger device"
                ) from error
            most, n_split = len(rows) // 2, n_split + 1
            waiting.append(rows)
        else:
            continue
        if device.type == "cuda":  # after the except block, whose traceback holds tensors
            torch.cuda.empty_cache()
    return n_split


class _OutOfMemoryError(Exception):
    pass


@contextmanager
def _naming_what_is_out_of_memory() -> Iterator[None]:
    """Tell a lack of memory from any other error: torch has a class for it on GPUs alone."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise _OutOfMemoryError(str(error).split("\n", maxsplit=1)[0]) from error
    except RuntimeError as error:
        if "can't allocate memory" not in str(error):
            raise
        raise _OutOfMemoryError(str(error).split("\n", maxsplit=1)[0]) from error
