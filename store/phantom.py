"""A recording whose truth is known: every statistic is scored on its planted effects and networks."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import xarray as xr

from .errors import InputError
from .moments import Float64


def phantom(
    *,
    conditions: Sequence[str] = ("a", "b", "rest"),
    n_prompts: int = 20,
    n_runs: int = 2,
    n_tokens: tuple[int, int] = (8, 16),
    n_layers: int = 4,
    n_neurons: int = 64,
    effect: float = 1.0,
    fraction: float = 0.05,
    n_networks: int = 0,
    network_gain: float = 1.0,
    network_spread: float = 1.0,
    network_overlap: bool = False,
    network_autocorrelation: float = 0.0,
    autocorrelation: float = 0.0,
    prompt_sd: float = 0.0,
    dtype: npt.DTypeLike = np.float32,
    seed: int = 0,
) -> xr.Dataset:
    """Make a recording with planted truth.

    activation = effect of the prompt's condition + prompt effect + networks + AR(1) noise of unit
    variance; the first condition to the last but one each raise their own neurons, the last is a
    baseline.

    Parameters
    ----------
    conditions
        Labels; the last gets no effect.
    n_prompts
        Prompts per condition, spread over the runs.
    n_runs
        Runs; the conditions are in random order within each.
    n_tokens
        Fewest and most tokens of a prompt.
    n_layers, n_neurons
        Layers, and neurons in each.
    effect
        Raise of the planted neurons, in standard deviations of the noise; 0 makes a null.
    fraction
        Share of the neurons that each condition raises.
    n_networks, network_gain
        Networks of neurons with a common time course (super-Gaussian), and its gain.
    network_spread
        Gain of the first network over that of the last; those between lie between.
    network_overlap
        Draw each network on its own, so that two may share neurons; by default none do.
    network_autocorrelation
        Lag-1 correlation of the time courses over the tokens of a prompt.
    autocorrelation
        Lag-1 correlation of the noise over the tokens of a prompt.
    prompt_sd
        Standard deviation of an effect common to all tokens of a prompt, drawn for each neuron.
    dtype
        Type of ``activation``.
    seed
        Draws everything.

    Returns
    -------
    Dataset
        As `actome.open` gives it, and the truth: ``true_effect`` (condition_name, layer, neuron),
        ``true_network`` (network, layer, neuron).

    Raises
    ------
    InputError
        A size, a fraction or a correlation that cannot be.

    Examples
    --------
    >>> ds = phantom(n_prompts=4, n_tokens=(3, 5))
    >>> dict(ds.sizes)["prompt"], float(ds.true_effect.sel(condition_name="rest").max())
    (12, 0.0)
    """
    low, high = n_tokens
    if not 1 <= low <= high:
        raise InputError(f"n_tokens must be (fewest, most) with 1 <= fewest <= most, got {n_tokens}")
    for name, rho in (
        ("autocorrelation", autocorrelation),
        ("network_autocorrelation", network_autocorrelation),
    ):
        if not -1 < rho < 1:
            raise InputError(f"{name} must lie between -1 and 1, got {rho}")
    if network_spread <= 0:
        raise InputError(f"network_spread must be positive, got {network_spread}")
    rng = np.random.default_rng(seed)
    labels, runs = _design(rng, conditions, n_prompts, n_runs)
    lengths = rng.integers(low, high + 1, size=len(labels))
    valid = np.arange(high) < lengths[:, None]
    shape = (n_layers, n_neurons)
    true_effect = effect * _planted(rng, len(conditions), shape, fraction)
    true_effect[-1] = 0.0
    which = np.array([list(conditions).index(c) for c in labels])
    networks = (_drawn_alone if network_overlap else _planted)(rng, n_networks, shape, fraction)
    cube = _noise(rng, (len(labels), high, *shape), autocorrelation)
    cube += true_effect[which][:, None]
    cube += prompt_sd * rng.standard_normal((len(labels), 1, *shape))
    courses = _persistent(rng.laplace(size=(len(labels), high, n_networks)), network_autocorrelation)
    courses *= np.linspace(1.0, 1.0 / network_spread, n_networks)
    cube += network_gain * np.tensordot(courses, networks, axes=1)
    cube[~valid] = np.nan
    return xr.Dataset(
        {
            "activation": (("prompt", "token", "layer", "neuron"), cube.astype(dtype)),
            "true_effect": (("condition_name", "layer", "neuron"), true_effect),
            "true_network": (("network", "layer", "neuron"), networks.astype(bool)),
        },
        coords={
            "prompt": [f"p{i:04d}" for i in range(len(labels))],
            "text": ("prompt", [f"{c} {i}" for i, c in enumerate(labels)]),
            "condition": ("prompt", labels),
            "run": ("prompt", runs),
            "block": ("prompt", np.arange(len(labels))),
            "n_tokens": ("prompt", lengths),
            "token_id": (("prompt", "token"), np.where(valid, 1, -1).astype(np.int32)),
            "layer": np.arange(n_layers),
            "neuron": np.arange(n_neurons),
            "condition_name": list(conditions),
        },
        attrs={"kind": "recording", "name": "phantom", "seed": seed},
    )


def _design(
    rng: np.random.Generator, conditions: Sequence[str], n_prompts: int, n_runs: int
) -> tuple[npt.NDArray[np.object_], npt.NDArray[np.int64]]:
    """Spread each condition over the runs, in random order within a run."""
    run_of = np.tile(np.arange(n_prompts) % n_runs, len(conditions))
    label_of = np.repeat(np.array(list(conditions), dtype=object), n_prompts)
    order = np.lexsort((rng.random(len(run_of)), run_of))
    return label_of[order], run_of[order].astype(np.int64)


def _planted(rng: np.random.Generator, n: int, shape: tuple[int, int], fraction: float) -> Float64:
    """Draw `n` disjoint sets of neurons: 1 in the set, 0 elsewhere."""
    total = shape[0] * shape[1]
    size = max(1, round(fraction * total))
    if n * size > total:
        raise InputError(f"{n} sets of {fraction:.0%} of the neurons do not fit; lower `fraction`")
    out = np.zeros((n, total))
    order = rng.permutation(total)
    for i in range(n):
        out[i, order[i * size : (i + 1) * size]] = 1.0
    return out.reshape(n, *shape)


def _drawn_alone(rng: np.random.Generator, n: int, shape: tuple[int, int], fraction: float) -> Float64:
    """Draw `n` sets of neurons that may overlap."""
    return np.concatenate([np.empty((0, *shape)), *(_planted(rng, 1, shape, fraction) for _ in range(n))])


def _noise(rng: np.random.Generator, shape: tuple[int, ...], rho: float) -> Float64:
    """AR(1) over axis 1, unit variance."""
    return _persistent(rng.standard_normal(shape), rho)


def _persistent(noise: Float64, rho: float) -> Float64:
    """Make independent values an AR(1) over axis 1, of the same variance."""
    for t in range(1, noise.shape[1]):
        noise[:, t] = rho * noise[:, t - 1] + np.sqrt(1 - rho**2) * noise[:, t]
    return noise
