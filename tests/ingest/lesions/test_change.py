"""What each kind of lesion puts into a neuron, against plain NumPy."""

import numpy as np
import pytest
import torch
import xarray as xr

from actome.ingest.lesions.change import Change
from actome.ingest.lesions.draws import ByPrompt, Continued, InOrder
from actome.ingest.lesions.kinds import as_doses, check_kind
from actome.ingest.lesions.reference import (
    mean_activation,
    reference_identity,
    standard_deviation,
    token_pool,
)
from actome.store.errors import InputError, InputTypeError
from actome.store.phantom import phantom

SHAPE = (2, 6)


@pytest.fixture(scope="module")
def reference():
    return phantom(n_prompts=30, n_tokens=(2, 9), n_layers=2, n_neurons=6, seed=3)


def rows_of(ds):
    """All tokens: (row, layer, neuron)."""
    cube = ds["activation"].transpose("prompt", "token", "layer", "neuron").to_numpy().astype(np.float64)
    return cube[~np.isnan(cube[..., 0, 0])]


def test_reference__moments_are_those_of_all_tokens_at_either_level(reference):
    rows = rows_of(reference)
    np.testing.assert_allclose(mean_activation(reference, SHAPE, "mlp"), rows.mean(0))
    np.testing.assert_allclose(standard_deviation(reference, SHAPE, "mlp"), rows.std(0))
    magnitude = mean_activation(reference, SHAPE, "mlp", magnitude=True)
    np.testing.assert_allclose(magnitude, np.abs(rows).mean(0))


@pytest.mark.parametrize("amount", [None, 0.5])
def test_change__noise_has_the_moments_of_the_reference(reference, amount):
    change = Change.of("noise", reference, SHAPE, "mlp", 0)
    x = torch.full((1, 20_000, 6), 7.0)
    doses = None if amount is None else torch.tensor([amount])[:, None, None]
    new = change.values(x, 1, doses, InOrder(0)).numpy().reshape(-1, 6)
    rows = rows_of(reference)[:, 1]
    np.testing.assert_allclose(new.mean(0), rows.mean(0), atol=5 * rows.std() / 20_000**0.5)
    np.testing.assert_allclose(new.std(0), rows.std(0) * (1 if amount is None else amount), rtol=0.03)


def test_change__noise_without_a_reference_is_added():
    x = torch.full((2, 5_000, 3), 4.0)
    new = Change("noise").values(x, 0, torch.tensor([0.5, 2.0])[:, None, None], InOrder(0)).numpy()
    np.testing.assert_allclose(new.mean(1), 4.0, atol=0.15)
    np.testing.assert_allclose(new.std(1), [[0.5] * 3, [2.0] * 3], rtol=0.05)
    np.testing.assert_allclose((new[1] - 4) / 2, (new[0] - 4) / 0.5, rtol=1e-3, atol=1e-5)  # the same draws


def test_change__resample_takes_whole_tokens_of_other_prompts(reference):
    change = Change.of("resample", reference, SHAPE, "mlp", 0)
    own = str(reference["prompt"].to_numpy()[3])
    draws = ByPrompt(0, [own, "elsewhere"])
    x = torch.zeros((1, 2 * 40, 6))
    new = np.stack([change.values(x, layer, None, draws).numpy() for layer in (0, 1)], axis=1)
    prompts = reference["activation"].transpose("prompt", "token", "layer", "neuron").to_numpy()
    there = [p[~np.isnan(p[:, 0, 0])].astype(np.float32) for p in prompts]
    donors = [{i for i, rows in enumerate(there) if (rows == token).all((1, 2)).any()} for token in new]
    assert all(donors) and not any(3 in d for d in donors[:40]) and len(set(map(tuple, donors))) > 10


def test_token_pool__needs_the_cube_and_another_prompt(reference):
    summary = xr.Dataset(
        {n: (("prompt", "layer", "neuron"), np.ones((2, *SHAPE))) for n in ("mean", "m2", "mean_abs")},
        coords={"count": ("prompt", [1, 1]), "layer": [0, 1], "neuron": range(6)},
    )
    with pytest.raises(InputError, match="open it with level='token'"):
        token_pool(summary, SHAPE, "mlp", 0)
    alone = reference.isel(prompt=[4])
    pool = token_pool(alone, SHAPE, "mlp", 0)
    with pytest.raises(InputError, match="takes values of others"):
        pool.others(str(alone["prompt"].item()))
    assert token_pool(reference.isel(neuron=slice(None, None, -1)), SHAPE, "mlp", 5).values.shape[1:] == SHAPE


def test_by_prompt__draws_belong_to_the_prompt_whatever_it_is_batched_with(reference):
    pool = token_pool(reference, SHAPE, "mlp", 0)
    both, one = ByPrompt(1, ["x", "y"]), ByPrompt(1, ["y"])
    wide = both.normal(2, 2 * 7, 5).reshape(2, 7, 5)
    np.testing.assert_array_equal(wide[1, :4], one.normal(2, 4, 5))
    assert not np.array_equal(wide[0], wide[1]) and not np.array_equal(
        wide, both.normal(1, 14, 5).reshape(2, 7, 5)
    )
    np.testing.assert_array_equal(both.donors(0, 14, pool)[7:11], one.donors(1, 4, pool))


def test_continued__goes_on_with_the_draws_of_the_prompt_behind_padding_on_the_left(reference):
    pool, names, n_tokens = token_pool(reference, SHAPE, "mlp", 0), ["x", "y"], [3, 5]
    whole, parts = ByPrompt(1, names), Continued(1, names, n_tokens)
    normal, donors = whole.normal(1, 2 * 8, 5).reshape(2, 8, 5), whole.donors(1, 2 * 8, pool).reshape(2, 8)
    read, chosen = parts.normal(1, 2 * 5, 5).reshape(2, 5, 5), parts.donors(1, 2 * 5, pool).reshape(2, 5)
    assert not read[0, :2].any()
    for i, n in enumerate(n_tokens):
        np.testing.assert_array_equal(read[i, -n:], normal[i, :n])
        np.testing.assert_array_equal(chosen[i, -n:], donors[i, :n])
    for step in range(3):
        np.testing.assert_array_equal(parts.normal(1, 2, 5), normal[[0, 1], np.add(n_tokens, step)])
        np.testing.assert_array_equal(parts.donors(1, 2, pool), donors[[0, 1], np.add(n_tokens, step)])
    np.testing.assert_array_equal(parts.donors(0, 2 * 5, pool).reshape(2, 5)[1], chosen[1])  # any layer


def test_continued__takes_no_token_of_the_prompt_itself(reference):
    pool = token_pool(reference, SHAPE, "mlp", 0)
    own = str(pool.prompt[9])
    draws = Continued(0, [own], [400])
    places = np.concatenate([draws.donors(0, 400, pool), *(draws.donors(0, 1, pool) for _ in range(400))])
    assert len(set(places.tolist())) > 200 and not (pool.prompt[places] == own).any()


def test_token_pool__does_not_hang_on_the_order_of_the_prompts(reference):
    pool, turned = (
        token_pool(ds, SHAPE, "mlp", 2) for ds in (reference, reference.isel(prompt=slice(None, None, -1)))
    )
    np.testing.assert_array_equal(pool.values, turned.values)
    np.testing.assert_array_equal(pool.prompt, turned.prompt)


@pytest.mark.parametrize("kind", ["noise", "resample", "zero"])
def test_reference_identity__is_of_the_values_whatever_the_chunks(reference, kind):
    def identity(ds):
        magnitude = mean_activation(ds, SHAPE, "mlp", magnitude=True)
        return reference_identity(ds, magnitude, Change.of(kind, ds, SHAPE, "mlp", 0).digest())

    found = identity(reference)
    for same in (
        reference.chunk(prompt=7),
        reference.isel(neuron=slice(None, None, -1)),
        reference.copy(deep=True),
    ):
        assert identity(same) == found
    changed = reference.copy(deep=True)
    changed["activation"][3, 1] += 0.01
    for other in (changed, reference.isel(token=slice(0, 2)), reference.isel(prompt=slice(0, 29))):
        assert identity(other)["reference_values_digest"] != found["reference_values_digest"]


@pytest.mark.parametrize(
    ("kind", "amount", "reference", "message"),
    [
        ("burn", None, None, "kind must be one of"),
        ("scale", None, None, "needs `amount`"),
        ("resample", None, None, "needs `reference`"),
        ("noise", None, None, "needs `reference` or `amount`"),
        ("zero", 2.0, None, "takes no amount"),
        ("noise", -1.0, None, "must be 0 or more"),
        ("add", float("inf"), None, "must be a finite number"),
    ],
)
def test_check_kind__refuses(kind, amount, reference, message):
    with pytest.raises(InputError, match=message):
        check_kind(kind, amount, reference)


def test_as_doses__takes_one_or_several():
    assert as_doses(None) == (None,) and as_doses(2) == (2.0,) and as_doses(np.arange(3)) == (0.0, 1.0, 2.0)
    for wrong, error in (
        ([], InputError),
        ([1, 1], InputError),
        ("2", InputTypeError),
        (["a"], InputTypeError),
    ):
        with pytest.raises(error):
            as_doses(wrong)
