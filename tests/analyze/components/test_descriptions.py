import itertools

import numpy as np
import pytest
import xarray as xr

from actome.analyze.components.descriptions import describe_networks
from actome.analyze.overlap import network_counts, overlap
from actome.store.archive import open as open_result
from actome.store.results import save_result


@pytest.fixture
def masks(rng):
    share = np.array([0.1, 0.3, 0.05, 0.2, 0.1])[:, None, None]
    return xr.DataArray(
        rng.random((5, 2, 60)) < share,
        dims=("network", "layer", "neuron"),
        coords={"network": [f"ic{i}" for i in range(5)], "layer": [3, 4], "neuron": np.arange(60)},
        attrs={"kind": "mask", "source": "sha256:0", "control": "Z(value=3.6)"},
        name="mask",
    )


def test_describe_networks__agrees_with_counts_and_overlap(masks):
    ds = describe_networks(masks)
    counts, shared = network_counts(masks), overlap(masks, null="layers")
    assert ds["size"].to_numpy().tolist() == masks.sum(("layer", "neuron")).to_numpy().tolist()
    np.testing.assert_array_equal(ds["n_networks"], counts["count"])
    np.testing.assert_array_equal(ds["histogram"], counts["histogram"])
    np.testing.assert_allclose(ds["profile"].sum("layer"), 1.0)
    for name in ("dice", "p_value", "expected"):
        np.testing.assert_array_equal(ds[name], shared[name])
    assert ds.attrs["kind"] == "networks" and ds.attrs["source"] == "sha256:0"


def test_describe_networks__hub_p_is_the_chance_over_all_ways_to_belong(masks):
    ds = describe_networks(masks)
    share = masks.mean("neuron").to_numpy()  # (network, layer)
    for layer in range(2):
        p = share[:, layer]
        for count in range(6):
            ways = itertools.product((0, 1), repeat=5)
            chance = sum(np.where(w, p, 1 - p).prod() for w in ways if sum(w) >= count)
            got = ds["hub_p_value"][layer].to_numpy()[ds["n_networks"][layer].to_numpy() == count]
            np.testing.assert_allclose(got, chance, rtol=1e-12)


def test_describe_networks__finds_a_planted_hub_and_few_by_chance(rng):
    masks = xr.DataArray(rng.random((12, 4, 500)) < 0.02, dims=("network", "layer", "neuron"))
    assert not describe_networks(masks)["hub"].any()
    masks[:8, 2, 17] = True
    assert np.argwhere(describe_networks(masks)["hub"].to_numpy()).tolist() == [[2, 17]]


@pytest.mark.slow
def test_describe_networks__calls_no_neuron_a_hub_too_often():
    false = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        masks = xr.DataArray(np.zeros((8, 2, 300), dtype=bool), dims=("network", "layer", "neuron"))
        for k, layer in itertools.product(range(8), range(2)):
            masks[k, layer, rng.choice(300, 30, replace=False)] = True
        false += bool(describe_networks(masks)["hub"].any())
    assert false <= 19  # 99.5 % point of the binomial at .05


def test_describe_networks__defines_empty_networks_and_none_at_all(masks):
    masks[1] = False
    ds = describe_networks(masks)
    assert ds["size"][1] == 0 and ds["profile"][1].isnull().all() and ds["dice"][1, 0] == 0
    none = describe_networks(masks[:0])
    assert (none["n_networks"] == 0).all() and not none["hub"].any()


def test_describe_networks__are_saved_and_opened(masks, tmp_path):
    ds = describe_networks(masks)
    xr.testing.assert_equal(open_result(save_result(ds, tmp_path / "d.zarr")).load(), ds)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda m: m.astype(float), TypeError, "takes bool masks"),
        (lambda m: m.expand_dims(subject=[0]), TypeError, "the networks of one subject"),
        (lambda m: m.to_dataset(), TypeError, "takes bool masks"),
    ],
)
def test_describe_networks__refuses(make, error, message, masks):
    with pytest.raises(error, match=message):
        describe_networks(make(masks))
