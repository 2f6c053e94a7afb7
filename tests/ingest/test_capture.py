"""Capture: what hooks see goes to its place, and is reduced as precisely as in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from actome.ingest.capture import DTYPES, Collected, Kept, Slab, captured, moments_of
from actome.ingest.sites import Tap
from actome.store.errors import InputError
from actome.store.moments import masked_moments

WIDTH = 5
IDENTITY = nn.Identity()
TAPS = {"mlp": [Tap("first", IDENTITY, "output", WIDTH)]}


def empty(n_prompts, n_kept, dtype="float32", *, neurons=None):
    width = WIDTH if neurons is None else len(neurons)
    sums = torch.full((1, 4, n_prompts, width), torch.nan)
    return Slab(neurons, sums, torch.full((1, n_prompts, n_kept, width), torch.nan, dtype=DTYPES[dtype]))


def run_through(slab, x, batches, positions):
    """Send (prompt, token, neuron) through a hooked module, batch by batch."""
    for rows in batches:
        kept = Kept.of(rows, [positions[r] for r in rows])
        with captured(TAPS, {"mlp": slab}, kept):
            IDENTITY(torch.from_numpy(x[rows]))


@st.composite
def passes(draw):
    """Activations with odd padding, batches in any order, and the kept tokens of each prompt."""
    n_prompts, n_tokens = draw(st.integers(1, 8)), draw(st.integers(1, 9))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    lengths = rng.integers(1, n_tokens + 1, n_prompts)
    lengths[rng.integers(n_prompts)] = n_tokens
    which = draw(st.sampled_from(["all", "last", "tail", "some"]))
    positions = []
    for n in lengths:
        some = np.flatnonzero(rng.random(n) < 0.6)
        places = {"all": np.arange(n), "last": np.array([n - 1]), "tail": np.arange(n // 2, n), "some": some}
        positions.append(places[which] if len(places[which]) else np.array([0]))
    scale = 10.0 ** rng.integers(-3, 3, WIDTH)
    x = rng.standard_normal((n_prompts, n_tokens, WIDTH)) * scale + rng.choice([0, 1, 100], WIDTH) * scale
    x[np.arange(n_tokens) >= lengths[:, None]] = draw(st.sampled_from([np.nan, np.inf, 1e30]))
    order = rng.permutation(n_prompts) if draw(st.booleans()) else np.arange(n_prompts)
    size = draw(st.integers(1, n_prompts))
    return (
        x.astype(np.float32),
        [order[i : i + size] for i in range(0, n_prompts, size)],
        positions,
        draw(st.sampled_from(sorted(DTYPES))),
        draw(st.sampled_from([None, (3, 0), (4,)])),
    )


def assert_moments(actual, expected, scale):
    """Within a millionth of the prompt's scale, and m2 within as much of its own."""
    np.testing.assert_array_equal(actual["count"], expected["count"])
    for name in ("mean", "mean_abs"):
        assert (abs(actual[name] - expected[name]) <= 1e-6 * scale).all()
    np.testing.assert_allclose(actual["m2"], expected["m2"], rtol=1e-6, atol=1e-30)


@settings(max_examples=60)
@given(passes())
def test_captured__kept_tokens_go_to_their_place_with_their_moments(case):
    x, batches, positions, dtype, neurons = case
    n_tokens = np.array([len(p) for p in positions])
    slab = empty(len(x), n_tokens.max(), dtype, neurons=neurons)
    with np.errstate(over="ignore"):
        stored = x.astype(dtype)[..., slice(None) if neurons is None else list(neurons)]
    run_through(slab, x, batches, positions)
    cube = np.moveaxis(slab.cube.numpy(), 0, 2)  # (prompt, token, layer, neuron)
    for prompt, places in enumerate(positions):
        np.testing.assert_array_equal(cube[prompt, : len(places), 0], stored[prompt, places])
    valid = np.arange(cube.shape[1]) < n_tokens[:, None]
    scale = np.array([abs(stored[p, places].astype(float)).max(0) for p, places in enumerate(positions)])
    expected = masked_moments(cube, valid)
    actual = moments_of(slab.sums.numpy(), n_tokens)
    assert_moments(actual, expected, scale[:, None])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("mean", "sd"), [(1000.0, 1e-2), (-1000.0, 1.0), (0.0, 1e-3), (30000.0, 0.0)])
def test_captured__moments_survive_a_large_mean_over_many_tokens(rng, dtype, mean, sd):
    n_tokens = np.array([1, 2, 700, 2048])
    x = (mean + sd * rng.standard_normal((4, 2048, WIDTH))).astype(np.float32)
    slab = empty(4, 2048, dtype)
    run_through(slab, x, [np.array([2, 0]), np.array([1, 3])], [np.arange(n) for n in n_tokens])
    cube = np.moveaxis(slab.cube.numpy(), 0, 2)
    expected = masked_moments(cube, np.arange(2048) < n_tokens[:, None])
    actual, scale = moments_of(slab.sums.numpy(), n_tokens), max(abs(mean), sd)
    assert_moments(actual, expected, scale)
    np.testing.assert_allclose(actual["mean"], expected["mean"], rtol=0, atol=1e-8 * abs(mean) + 1e-6 * sd)


def test_captured__a_module_that_does_not_run_or_runs_twice_is_named():
    kept = Kept.of(np.arange(2), [np.arange(1), np.arange(1)])
    for n in (0, 2):
        with (
            pytest.raises(InputError, match=f"module 'first' ran {n} times in one forward pass"),
            captured(TAPS, {"mlp": empty(2, 1)}, kept),
        ):
            for _ in range(n):
                IDENTITY(torch.ones(2, 1, WIDTH))
    assert not IDENTITY._forward_hooks


def test_captured__leaves_no_hook_after_an_error():
    with pytest.raises(ZeroDivisionError), captured(TAPS, {"mlp": empty(1, 1)}, Kept.of([0], [np.arange(1)])):
        raise ZeroDivisionError
    assert not IDENTITY._forward_hooks


def test_captured__flat_activations_are_taken_apart_and_others_refused():
    slab = empty(2, 3)
    kept = Kept.of(np.arange(2), [np.arange(3), np.arange(2)])
    flat = torch.arange(30.0).reshape(6, WIDTH)
    with captured(TAPS, {"mlp": slab}, kept):
        IDENTITY(flat)
    np.testing.assert_array_equal(slab.cube[0, 0], flat[:3])
    np.testing.assert_array_equal(slab.cube[0, 1, :2], flat[3:5])
    for shape in ((3, 2, WIDTH), (5, WIDTH), (2, 1, 3, WIDTH)):
        with pytest.raises(InputError, match="expected"), captured(TAPS, {"mlp": empty(2, 3)}, kept):
            IDENTITY(torch.zeros(shape))


def test_collected__keeps_each_step_although_the_module_goes_on_to_change_it(rng):
    """As Falcon does, which adds the output of the attention to that of the MLP in place."""
    x = rng.standard_normal((2, 3, WIDTH)).astype(np.float32)
    collected, slab = Collected(TAPS, 2), empty(2, 3)
    with collected.listening():
        for step in range(3):
            out = IDENTITY(torch.from_numpy(x[:, step : step + 1].copy()))
            out += 1.0
    collected.hand_over({"mlp": slab}, Kept.of(np.arange(2), [np.arange(3), np.arange(2)]))
    np.testing.assert_array_equal(slab.cube[0, 0], x[0])
    np.testing.assert_array_equal(slab.cube[0, 1, :2], x[1, :2])


def test_collected__a_module_that_missed_a_token_is_named():
    other = nn.Identity()
    collected = Collected({"mlp": [*TAPS["mlp"], Tap("second", other, "output", WIDTH)]}, 1)
    with collected.listening():
        IDENTITY(torch.zeros(1, 1, WIDTH))
    with pytest.raises(InputError, match=r"\['second'\] did not run for every token"):
        collected.hand_over({"mlp": empty(1, 1)}, Kept.of(np.arange(1), [np.arange(1)]))
