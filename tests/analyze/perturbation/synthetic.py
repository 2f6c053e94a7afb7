"""Scores as `actome.score` gives them, with planted effects."""

import numpy as np
import xarray as xr

CONDITIONS = ("en", "fr")


def make_scores(
    rng,
    *,
    n_prompts=12,
    n_tokens=6,
    targets=("fr net", "en net"),
    draws=4,
    effect=0.0,
    prompt_sd=0.0,
    own=0.0,
    doses=None,
    conditions=CONDITIONS,
    **inputs,
):
    """Scores with a loss of about 2 nats a token; lesions differ by noise but for what is planted.

    Parameters
    ----------
    effect, prompt_sd
        What the targets add to the loss of all prompts, and the spread of that over prompts.
    own
        What a target adds to the condition that its name begins with.
    doses
        Amounts; the planted effects are multiplied by them.
    inputs
        Settings of `score` to put into the attrs.
    """
    rows = [("baseline", "", -1, np.nan)]
    for dose in doses or [np.nan]:
        for name in targets:
            rows += [("target", name, -1, dose)] + [("control", name, d, dose) for d in range(draws)]
    role, target, draw, dose = (np.array(x, dtype=object) for x in zip(*rows, strict=True))
    dose = dose.astype(float)
    condition = np.array([conditions[i % len(conditions)] for i in range(n_prompts)], dtype=object)
    shape = (len(rows), n_prompts, n_tokens)
    loss = 2 + rng.random(shape[1:]) + 0.1 * rng.standard_normal(shape)
    hurt = effect + prompt_sd * rng.standard_normal((len(rows), n_prompts, 1))
    hurt = hurt + own * (np.char.partition(target.astype(str), " ")[:, :1] == condition)[:, :, None]
    hurt = hurt * np.where(np.isnan(dose), 1.0, dose)[:, None, None]
    loss = loss + np.where((role == "target")[:, None, None], hurt, 0.0)
    lengths = rng.integers(2, n_tokens + 1, n_prompts)
    unscored = (np.arange(n_tokens) >= lengths[:, None]) | (np.arange(n_tokens) == 0)
    logprob = np.where(unscored, np.nan, -loss)
    coords = {
        "lesion": np.array([f"{t}/{r}{d}/{a}" for r, t, d, a in rows], dtype=object),
        "role": ("lesion", role),
        "target": ("lesion", target),
        "draw": ("lesion", draw.astype(int)),
        "prompt": [f"p{i:02}" for i in range(n_prompts)],
        "condition": ("prompt", condition),
    }
    if doses:
        coords["dose"] = ("lesion", dose)
    return xr.Dataset(
        {
            "logprob": (("lesion", "prompt", "token"), logprob.astype(np.float32)),
            "network": (("lesion", "layer", "neuron"), rng.random((len(rows), 2, 5)) < 0.4),
        },
        coords=coords,
        attrs={"kind": "scores", "inputs": {"kind": "zero", "site": "mlp", **inputs}},
    )
