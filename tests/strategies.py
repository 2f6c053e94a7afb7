"""Hypothesis strategies: recordings, their chunkings, paradigms."""

from typing import Any

import numpy as np
import xarray as xr
from hypothesis import strategies as st

DTYPES = ("float16", "float32", "float64")
_texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6)


@st.composite
def recordings(draw: st.DrawFn, *, labels: bool | None = None, empty_prompts: bool = True) -> xr.Dataset:
    """A Dataset of the schema in memory: ragged prompts, NaN padding, with or without labels."""
    n_prompts, high = draw(st.integers(1, 9)), draw(st.integers(1, 6))
    shape = (n_prompts, high, draw(st.integers(1, 3)), draw(st.integers(1, 5)))
    fewest = 0 if empty_prompts else 1
    lengths = np.array(draw(st.lists(st.integers(fewest, high), min_size=n_prompts, max_size=n_prompts)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    cube = (rng.standard_normal(shape) * 10.0 ** rng.integers(-4, 3, shape)).astype(
        draw(st.sampled_from(DTYPES))
    )
    cube[rng.random(shape) < 0.1] = -0.0
    valid = np.arange(high) < lengths[:, None]
    cube[~valid] = np.nan
    ds = xr.Dataset({"activation": (("prompt", "token", "layer", "neuron"), cube)})
    if draw(st.booleans()) if labels is None else labels:
        ds = ds.assign_coords(_labels(draw, rng, valid))
        ds = ds.assign_coords(layer=np.arange(shape[2]) * 2, neuron=rng.permutation(shape[3]))
        ds["logprob"] = (
            ("prompt", "token"),
            np.where(valid, -rng.random(valid.shape), np.nan).astype(np.float32),
        )
    return ds


def _labels(draw: st.DrawFn, rng: np.random.Generator, valid: np.ndarray) -> dict[str, Any]:
    n = len(valid)
    return {
        "prompt": [f"p{i}" for i in rng.permutation(n)],
        "text": ("prompt", np.array(draw(st.lists(_texts, min_size=n, max_size=n)), dtype=object)),
        "condition": ("prompt", np.array(draw(st.lists(_texts, min_size=n, max_size=n)), dtype=object)),
        "run": ("prompt", rng.integers(0, 3, n)),
        "score": ("prompt", rng.standard_normal(n)),
        "age": ("prompt", rng.integers(0, 99, n).astype(np.uint8)),
        "seen": ("prompt", rng.random(n) < 0.5),
        "n_tokens": ("prompt", valid.sum(axis=1)),
        "token_id": (
            ("prompt", "token"),
            np.where(valid, rng.integers(0, 99, valid.shape), -1).astype(np.int32),
        ),
        "generated": (("prompt", "token"), valid & (rng.random(valid.shape) < 0.5)),
    }


@st.composite
def chunkings(draw: st.DrawFn, ds: xr.Dataset) -> dict[str, int]:
    """Chunk sizes for a Dataset; one may exceed the dimension."""
    return {str(d): draw(st.integers(1, n + 1)) for d, n in ds.sizes.items()}


@st.composite
def prompt_rows(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Rows of a paradigm, all with the same optional columns."""
    n = draw(st.integers(1, 8))
    values = {
        "condition": st.sampled_from(["fr", "en", "no", "off", "1"]),
        "run": st.integers(0, 3),
        "block": st.integers(0, 9),
        "score": st.floats(-1e6, 1e6),
        "note": _texts,
        "flag": st.booleans(),
    }
    columns = draw(st.lists(st.sampled_from(sorted(values)), unique=True))
    texts = draw(st.lists(_texts.filter(bool), min_size=n, max_size=n))
    return [{"text": t, **{c: draw(values[c]) for c in columns}} for t in texts]
