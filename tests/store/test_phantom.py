import numpy as np
import pytest

from actome.store import schema
from actome.store.errors import InputError
from actome.store.phantom import phantom


def means(ds, condition):
    return (
        ds["activation"].where(ds["condition"] == condition, drop=True).mean(("prompt", "token")).to_numpy()
    )


def test_phantom__fits_the_schema():
    ds = phantom(dtype=np.float16)
    assert schema.breaches(ds) == []
    assert ds["activation"].dtype == np.float16


def test_phantom__is_drawn_by_its_seed():
    assert phantom(seed=3).equals(phantom(seed=3))
    assert not phantom(seed=3)["activation"].equals(phantom(seed=4)["activation"])


def test_phantom__padding_follows_the_lengths():
    ds = phantom(n_tokens=(2, 7), n_prompts=30)
    real = ds["activation"].notnull()
    assert (real.all(("layer", "neuron")) == real.any(("layer", "neuron"))).all()
    assert (real.all(("layer", "neuron")) == (ds["token_id"] != -1)).all()
    assert (real.any(("layer", "neuron")).sum("token") == ds["n_tokens"]).all()
    assert (ds["n_tokens"].min(), ds["n_tokens"].max()) == (2, 7)


def test_phantom__planted_neurons_are_disjoint_and_the_last_condition_has_none():
    ds = phantom(conditions=("a", "b", "c", "rest"), effect=2.0, fraction=0.1, n_layers=5, n_neurons=40)
    raised = ds["true_effect"].to_numpy()
    assert set(np.unique(raised)) == {0.0, 2.0}
    assert (raised != 0).sum(axis=(1, 2)).tolist() == [20, 20, 20, 0]
    assert (raised != 0).sum(axis=0).max() == 1


def test_phantom__the_effect_is_in_the_data():
    ds = phantom(n_prompts=200, effect=1.5, seed=2)
    truth = ds["true_effect"]
    for condition in ("a", "b", "rest"):
        error = means(ds, condition) - truth.sel(condition_name=condition).to_numpy()
        assert np.abs(error).max() < 5 / np.sqrt(200 * 8)


def test_phantom__without_effect_the_truth_is_null():
    ds = phantom(effect=0.0)
    assert not ds["true_effect"].any()
    assert abs(float(ds["activation"].mean())) < 0.02


def test_phantom__noise_has_unit_variance_and_the_given_autocorrelation():
    ds = phantom(effect=0.0, n_prompts=60, n_tokens=(20, 20), autocorrelation=0.6)
    x = ds["activation"].to_numpy().astype(float)
    assert x.var() == pytest.approx(1.0, abs=0.02)
    assert x[:, 0].var() == pytest.approx(1.0, abs=0.05)
    assert (x[:, 1:] * x[:, :-1]).mean() == pytest.approx(0.6, abs=0.02)


def test_phantom__prompt_sd_is_common_to_the_tokens_of_a_prompt():
    ds = phantom(effect=0.0, n_prompts=60, n_tokens=(20, 20), prompt_sd=2.0)
    x = ds["activation"].to_numpy().astype(float)
    assert x.var() == pytest.approx(5.0, rel=0.05)
    assert x.mean(axis=1).var() == pytest.approx(4.0 + 1 / 20, rel=0.05)


def test_phantom__neurons_of_a_network_vary_together():
    ds = phantom(effect=0.0, n_networks=2, network_gain=3.0, n_prompts=60)
    x = ds["activation"].to_numpy().reshape(-1, 4 * 64)
    correlation = np.corrcoef(x[~np.isnan(x[:, 0])].T)
    one, two = ds["true_network"].to_numpy().reshape(2, -1)
    off = ~np.eye(len(correlation), dtype=bool)
    assert correlation[np.ix_(one, one)][off[np.ix_(one, one)]].min() > 0.8
    assert np.abs(correlation[np.ix_(one, two)]).max() < 0.2
    assert not (one & two).any()


def test_phantom__conditions_are_spread_over_the_runs_in_random_order():
    ds = phantom(n_prompts=20, n_runs=4)
    table = ds[["condition", "run"]].reset_coords().to_dataframe()
    assert (table.groupby(["run", "condition"]).size() == 5).all()
    assert table["run"].is_monotonic_increasing
    orders = {tuple(g["condition"]) for _, g in table.groupby("run")}
    assert len(orders) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_tokens": (3, 2)}, r"n_tokens must be \(fewest, most\).*got \(3, 2\)"),
        ({"n_tokens": (0, 2)}, "n_tokens must be"),
        ({"fraction": 0.4}, "3 sets of 40% of the neurons do not fit; lower `fraction`"),
        ({"autocorrelation": 1.0}, "autocorrelation must lie between -1 and 1, got 1.0"),
    ],
)
def test_phantom__bad_input(options, message):
    with pytest.raises(InputError, match=message):
        phantom(**options)
