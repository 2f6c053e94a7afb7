"""What a permutation test claims beside its numbers: invariance, odd neurons, options, error rates."""

import dask
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from actome.analyze.permutation import permutation_test
from actome.analyze.threshold import threshold
from actome.store.archive import open as open_recording
from actome.store.blocks import prompt_level
from actome.store.errors import ActomeError
from actome.store.phantom import phantom
from actome.store.results import save_result
from tests.strategies import chunkings

SCHEMES = ("labels", "signs")
EVERY = 10**4  # more permutations than a small design has


def unequal(seed=0, **options):
    made = {
        "n_prompts": 6,
        "n_tokens": (1, 5),
        "n_layers": 2,
        "n_neurons": 5,
        "fraction": 0.1,
        "prompt_sd": 1.0,
    }
    return phantom(**{**made, **options}, seed=seed).isel(prompt=slice(1, None))


def run(ds, **options):
    with dask.config.set(scheduler="synchronous"):
        return permutation_test(ds, "a - mean(rest)", **{"n_permutations": 40, "seed": 3, **options})


def assert_same(a, b):
    for name in ("p_value", "p_corrected"):
        np.testing.assert_array_equal(a[name], b[name])
    for name in ("effect", "stat", "null_max"):
        np.testing.assert_allclose(a[name], b[name], rtol=1e-9)


@settings(max_examples=6)
@given(data=st.data(), scheme=st.sampled_from(SCHEMES))
def test_permutation_test__does_not_depend_on_chunks(data, scheme):
    ds = unequal()
    chunked = ds.chunk(data.draw(chunkings(ds)))
    assert_same(run(chunked, scheme=scheme), run(ds, scheme=scheme))


@settings(max_examples=6)
@given(order=st.permutations(range(17)), scheme=st.sampled_from(SCHEMES))
def test_permutation_test__does_not_depend_on_the_order_of_prompts(order, scheme):
    ds = unequal()
    assert_same(run(ds.isel(prompt=order), scheme=scheme), run(ds, scheme=scheme))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_permutation_test__does_not_depend_on_blocks_or_workers(scheme, monkeypatch):
    ds = unequal()
    expected = run(ds, scheme=scheme)
    monkeypatch.setattr("actome.analyze.permutation.max_t._BLOCK_BYTES", 17 * 8 * 3)
    monkeypatch.setattr("actome.analyze.permutation.max_t._BATCH_BYTES", 16 * 4 * 17 * 7)
    with dask.config.set(scheduler="threads", num_workers=3):
        assert_same(
            permutation_test(ds, "a - mean(rest)", scheme=scheme, n_permutations=40, seed=3), expected
        )


def test_permutation_test__is_the_same_from_summaries_and_from_disk(tiny, tiny_path):
    expected = run(tiny)
    for ds in (
        prompt_level(tiny).compute(),
        open_recording(tiny_path),
        open_recording(tiny_path, level="prompt"),
    ):
        assert_same(run(ds), expected)


def test_permutation_test__seed_decides():
    ds = unequal()
    assert_same(run(ds), run(ds))
    assert not np.array_equal(run(ds)["null_max"], run(ds, seed=4)["null_max"])


@pytest.mark.parametrize("scheme", SCHEMES)
def test_permutation_test__neurons_without_a_statistic_count_nowhere(scheme):
    ds = prompt_level(unequal()).compute()
    expected = run(ds.isel(neuron=slice(2, None)), scheme=scheme)
    values = ds["mean_abs"].copy()
    values[:, :, 0] = 300.3
    values[4, :, 1] = np.nan
    values[5, 1, 1] = np.inf
    result = run(ds.assign(mean_abs=values), scheme=scheme)
    for name in ("stat", "p_value", "p_corrected"):
        assert np.isnan(result[name].isel(neuron=slice(2))).all()
    assert_same(result.isel(neuron=slice(2, None)), expected)
    nothing = run(ds.assign(mean_abs=values).isel(neuron=[0]), scheme=scheme)
    assert np.isnan(nothing["p_corrected"]).all() and (nothing["null_max"] == -np.inf).all()


def test_permutation_test__a_permutation_that_leaves_no_variance_reaches_everything():
    ds = phantom(conditions=("a", "rest"), n_prompts=3, n_runs=1, n_tokens=(3, 3), n_layers=1, n_neurons=2)
    ds = ds.sortby("condition")  # a a a rest rest rest
    level = xr.DataArray([2.0, 0.0, 0.0, 2.0, 2.0, 0.0], dims="prompt")  # one exchange tells all apart
    cube = xr.where(ds["neuron"] == 0, ds["activation"] * 0 + level, ds["activation"])
    result = permutation_test(ds.assign(activation=cube), "rest - a", n_permutations=EVERY)
    assert result.attrs["n_distinct"] == 20
    assert np.isposinf(result["null_max"]).sum() == 1
    assert np.isfinite(result["stat"]).all() and (result["p_corrected"] >= 2 / 20).all()
    # of 20 ways, one parts the levels and 9 part them as here: ties, whatever the rounding
    assert result["p_value"][0, 0].item() == 2 * 10 / 20


def test_permutation_test__leaves_empty_prompts_out():
    ds = unequal()
    empty = ds.copy(deep=True)
    empty["token_id"][[2, 9]] = -1
    empty["activation"][[2, 9]] = np.nan
    kept = [i for i in range(17) if i not in (2, 9)]
    assert_same(run(empty), run(ds.isel(prompt=kept)))
    assert run(empty).attrs["selected_on"] == ds["prompt"][kept].to_numpy().tolist()


def test_permutation_test__says_what_it_did(tmp_path):
    attrs = run(unequal(), scheme="signs", measure="signed", two_sided=True).attrs
    expected = {
        "kind": "contrast", "test": "permutation", "contrast": "a - mean(rest)", "scheme": "signs",
        "measure": "signed", "n_permutations": 40, "n_distinct": 2**17, "seed": 3, "two_sided": True,
        "smallest_p_corrected": 1 / 41, "smallest_p_value": 2 / 41, "confounds": ["run"],
        "exchangeability": "the error of each prompt is symmetric around 0 and independent of the others'",
    }  # fmt: skip
    assert {k: attrs[k] for k in expected} == expected
    result = run(phantom(n_prompts=40))
    assert result.attrs["n_distinct"] == 2**53
    xr.testing.assert_identical(
        open_recording(save_result(result, tmp_path / "r.zarr")).compute()["stat"], result["stat"]
    )


def test_permutation_test__goes_into_threshold():
    ds = unequal(n_prompts=20, n_neurons=30, effect=3.0)
    result = run(ds, n_permutations=200, measure="signed")
    mask = threshold(result, control="maxt", alpha=0.05)
    np.testing.assert_array_equal(mask, result["p_corrected"] <= 0.05)
    assert mask.any() and mask.attrs["selected_on"] == ds["prompt"].to_numpy().tolist()


def test_permutation_test__exchanges_within_the_runs_that_the_formula_names():
    contrast, formula = "`condition[a]` - `condition[b]`", "0 + condition + C(run)"
    result = permutation_test(unequal(), contrast, formula=formula, n_permutations=9)
    assert result.attrs["confounds"] == []
    assert "between prompts of one run" in result.attrs["exchangeability"]


REFUSED = [
    ({"scheme": "rows"}, ValueError, "scheme must be 'labels' or 'signs', got 'rows'"),
    ({"n_permutations": 0}, ValueError, "n_permutations must be at least 1, got 0"),
    ({"n_permutations": 10.5}, TypeError, "n_permutations must be a whole number, got 10.5"),
    ({"measure": "power"}, ValueError, "measure must be .* got 'power'"),
    ({"contrast": "a"}, ValueError, "permuting tests nothing"),
    ({"contrast": "a + rest"}, ValueError, "stays when labels are permuted"),
    ({"contrast": "`run[0]`"}, ValueError, "stays when labels are permuted"),
    ({"contrast": [[1, -1, 0, 0], [0, 1, -1, 0]]}, ValueError, "takes a contrast of one row"),
    ({"contrast": "a - c"}, ValueError, "unknown regressor 'c'"),
    ({"confounds": ("token_position",)}, ValueError, r"\['token_position'\] vary from token to token"),
    ({"confounds": ("half",)}, ValueError, "permuting tests nothing"),
    ({"confounds": ("halves",)}, ValueError, r"\['halves'\], which the recording lacks"),
]


@pytest.mark.parametrize(("options", "error", "message"), REFUSED)
def test_permutation_test__refuses_before_it_reads(options, error, message, raise_if_computes):
    ds = unequal()
    half = np.where(ds["condition"] == "a", "x", "y").astype(object)
    half[np.flatnonzero(ds["condition"] == "b")[:2]] = "x"
    ds = ds.assign_coords(half=("prompt", half)).assign(activation=ds["activation"].chunk(prompt=5))
    with raise_if_computes(), pytest.raises(error, match=message) as caught:
        permutation_test(ds, **{"contrast": "a - rest", **options})
    assert isinstance(caught.value, ActomeError)


def family_wise(n, alpha, spread=1.0, **options):
    """Share of null recordings in which any neuron passes; one condition varies `spread` times as much."""
    false = []
    for seed in range(n):
        ds = phantom(
            conditions=("a", "rest"), n_prompts=6, n_tokens=(1, 4), n_layers=1, n_neurons=40, effect=0.0,
            prompt_sd=1.0, n_networks=2, seed=seed,
        )  # fmt: skip
        cube = ds["activation"] * xr.where(ds["condition"] == "a", spread, 1.0)
        result = permutation_test(
            prompt_level(ds.assign(activation=cube)).compute(),
            "a - rest",
            n_permutations=79,
            seed=seed,
            **options,
        )
        false.append((result["p_corrected"] <= alpha).any().item())
    return np.mean(false)


def test_permutation_test__holds_the_family_wise_rate():
    rate = family_wise(30, 0.25)
    assert abs(rate - 0.25) < 3 * np.sqrt(0.25 * 0.75 / 30)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [{}, {"two_sided": True, "measure": "signed"}, {"scheme": "signs", "measure": "signed", "spread": 3.0}],
)
def test_permutation_test__holds_the_family_wise_rate_over_many_nulls(options):
    rate = family_wise(500, 0.1, **options)
    assert abs(rate - 0.1) < 3 * np.sqrt(0.1 * 0.9 / 500)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_permutation_test__finds_planted_effects(scheme):
    ds = phantom(n_prompts=25, effect=1.0, n_layers=2, n_neurons=200, fraction=0.05, seed=1)
    result = permutation_test(
        prompt_level(ds).compute(), "a - rest", measure="signed", scheme=scheme, n_permutations=300
    )
    planted = (ds["true_effect"].sel(condition_name="a") > 0).to_numpy()
    found = (result["p_corrected"] <= 0.05).to_numpy()
    assert found[planted].mean() > 0.9 and found[~planted].sum() <= 1
