"""Datasets of labels alone, and of labels with tokens, for tests of the design matrix."""

import numpy as np
import xarray as xr

CONDITION = list("aabbccab")
RUN = [0, 1, 0, 1, 0, 1, 2, 2]


def labelled(**columns):
    """A Dataset of labels, a prompt a value."""
    n = len(next(iter(columns.values())))
    labels = {
        k: ("prompt", np.array(v, dtype=object if isinstance(v[0], str) else None))
        for k, v in columns.items()
    }
    return xr.Dataset(coords={"prompt": [f"p{i}" for i in range(n)], **labels})


def tokens(valid, rng, **columns):
    """The same with tokens: `valid` (prompt, token), random ids, and logprob missing on each first token."""
    valid = np.asarray(valid, dtype=bool)
    ids = np.where(valid, rng.integers(0, 9, valid.shape), -1).astype(np.int32)
    logprob = np.where(valid, -rng.random(valid.shape), np.nan).astype(np.float32)
    logprob[valid.any(axis=1), valid.argmax(axis=1)[valid.any(axis=1)]] = np.nan
    return labelled(**columns).assign_coords(
        token_id=(("prompt", "token"), ids), logprob=(("prompt", "token"), logprob)
    )
