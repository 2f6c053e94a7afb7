"""A recording on which shortcuts show: nothing in it is balanced, and its tokens depend on each other."""

import numpy as np

from actome.store.phantom import phantom


def unequal(seed=0, **options):
    """Conditions and runs of unequal size, prompts of unequal length, tokens that depend on each other."""
    made = {
        "n_prompts": 6,
        "n_tokens": (1, 6),
        "n_layers": 2,
        "n_neurons": 5,
        "fraction": 0.1,
        "prompt_sd": 1.0,
    }
    ds = phantom(**{**made, **options}, autocorrelation=0.4, seed=seed)
    return ds.isel(prompt=[i for i in range(ds.sizes["prompt"]) if i not in (0, 3, 4)])


def token_rows(ds, fit):
    """Valid activations, their design, their prompt: (row, neuron), (row, regressor), (row,)."""
    valid = (ds["token_id"] != -1).to_numpy()
    y = ds["activation"].to_numpy().astype(np.float64)[valid].reshape(valid.sum(), -1)
    group = np.nonzero(valid)[0]
    y = np.abs(y) if fit.attrs["measure"] == "magnitude" else y
    design = fit["design"].to_numpy()
    return y, design[valid] if design.ndim == 3 else design[group], group
