"""Recordings of made-up models on the same texts: related when they share their networks' courses."""

import numpy as np
import xarray as xr

from actome.store.phantom import phantom

N_PROMPTS, N_TOKENS, WIDTH = 12, 30, 5  # of each condition; of each prompt; characters of a token


def speaker(seed=0, *, n_networks=4, gain=3.0, **options) -> xr.Dataset:
    """A phantom under names, texts and spans that do not depend on its seed."""
    made = {
        "conditions": ("a", "b"),
        "n_prompts": N_PROMPTS,
        "n_tokens": (N_TOKENS, N_TOKENS),
        "n_layers": 2,
        "n_neurons": 120,
        "fraction": 0.05,
        "effect": 0.0,
    } | options
    ds = phantom(**made, n_networks=n_networks, network_gain=gain, seed=seed)
    n = ds.sizes["prompt"]
    end = np.broadcast_to(WIDTH * (1 + np.arange(ds.sizes["token"])), (n, ds.sizes["token"]))
    labels = {
        "prompt": [f"t{i:03d}" for i in range(n)],
        "text": ("prompt", np.array([f"text {i}" for i in range(n)], dtype=object)),
        "condition": ("prompt", np.array(["a", "b"] * (n // 2), dtype=object)),
        "char_start": (("prompt", "token"), end - WIDTH + 1),  # a space before each
        "char_end": (("prompt", "token"), end.copy()),
    }
    return ds.assign_coords(labels).assign_attrs(name=f"speaker {seed}", manifest_digest=f"sha256:{seed}")


def rearranged(ds: xr.Dataset, seed=1, scale=lambda rng, n: 2.0 ** rng.integers(-3, 4, n)) -> xr.Dataset:
    """The same model with its neurons in other places, each multiplied by a power of two."""
    rng = np.random.default_rng(seed)
    n_layers, n_neurons = ds.sizes["layer"], ds.sizes["neuron"]
    flat = ds["activation"].to_numpy().reshape(*ds["activation"].shape[:2], -1)
    flat = (flat * scale(rng, flat.shape[2]))[:, :, rng.permutation(flat.shape[2])]
    cube = flat.reshape(*flat.shape[:2], n_layers, n_neurons).astype(ds["activation"].dtype)
    return ds.assign(activation=(ds["activation"].dims, cube))


def noisy(ds: xr.Dataset, sd: float, seed=1) -> xr.Dataset:
    """The same model with noise on what its neurons do."""
    noise = np.random.default_rng(seed).standard_normal(ds["activation"].shape)
    return ds.assign(activation=ds["activation"] + (sd * noise).astype(np.float32))


def split(ds: xr.Dataset) -> xr.Dataset:
    """The same model with a tokenizer that makes two tokens of each, and puts one before the text."""
    start, end = ds["char_start"].to_numpy(), ds["char_end"].to_numpy()
    spans = np.stack([start, start + 2, start + 2, end], axis=2).reshape(len(start), -1, 2)
    twice = ds.drop_vars(["char_start", "char_end"]).isel(token=np.repeat(np.arange(ds.sizes["token"]), 2))
    both = xr.concat([twice.isel(token=[0]), twice], "token", data_vars="minimal", coords="minimal")
    spans = np.concatenate([np.zeros((len(start), 1, 2), dtype=int), spans], axis=1)
    both["activation"][{"token": 0}] = 1000.0
    return both.assign_coords(
        char_start=(("prompt", "token"), spans[..., 0]), char_end=(("prompt", "token"), spans[..., 1])
    )
