import dask
import numpy as np
import pytest
import xarray as xr
from distributed import Client, LocalCluster

from actome.analyze.components.ica import group_ica
from actome.analyze.components.networks import networks
from actome.store.archive import open as open_recording
from actome.store.archive import save
from actome.store.blocks import prompt_level
from actome.store.errors import ActomeError
from actome.store.phantom import phantom

N = 3


def planted(seed=0, **options):
    made = {
        "n_prompts": 4,
        "n_tokens": (25, 40),
        "n_layers": 2,
        "n_neurons": 100,
        "effect": 0.0,
        "fraction": 0.06,
    }
    return phantom(**{**made, **options}, n_networks=N, network_gain=3.0, seed=seed)


@pytest.fixture(scope="module")
def ds():
    return planted()


def match(maps, truth):
    """|correlation| of every true network with its best component: (network,)."""
    maps, truth = (np.asarray(a).reshape(len(a), -1) for a in (maps, truth))
    return np.abs(np.corrcoef(maps, truth)[: len(maps), len(maps) :]).max(axis=0)


def same_components(a, b, at_least=0.999):
    a, b = (x["component_map"].to_numpy().reshape(x.sizes["component"], -1) for x in (a, b))
    similarity = a @ b.T / a.shape[1]
    return similarity.max(axis=1).min() > at_least and similarity.max(axis=0).min() > at_least


@pytest.mark.parametrize("standardize", [True, False])
@pytest.mark.parametrize("subject", ["prompt", "condition"])
def test_group_ica__recovers_the_planted_networks(standardize, subject, ds):
    result = group_ica(ds, n_components=N, standardize=standardize, subject=subject, n_runs=4)
    assert match(result["component_map"], ds["true_network"]).min() > 0.95
    assert result["stability"].min() > 0.8
    assert result["cluster_size"].to_numpy().tolist() == [4] * N
    assert result["converged"].all()
    masks = networks(result).to_numpy().reshape(N, -1)
    truth = ds["true_network"].to_numpy().reshape(N, -1)
    assert sorted(map(tuple, map(np.flatnonzero, masks))) == sorted(map(tuple, map(np.flatnonzero, truth)))


def test_group_ica__standardized_does_not_depend_on_the_scale_of_neurons(ds, rng):
    scaled = ds.assign(activation=ds["activation"] * 10 ** rng.uniform(-2, 2, (2, 1)))
    a, b = (group_ica(d, n_components=N, n_runs=1) for d in (ds, scaled))
    assert same_components(a, b)
    raw = group_ica(scaled, n_components=N, n_runs=1, standardize=False)
    assert not same_components(a, raw, at_least=0.9)


def test_group_ica__of_noise_is_less_stable(ds):
    noise = ds.copy(deep=True)
    generator = np.random.default_rng(1)
    noise["activation"] = ds["activation"].where(
        ds["activation"].isnull(), generator.standard_normal(ds["activation"].shape)
    )
    options = {"n_components": N, "n_runs": 6}
    assert group_ica(noise, **options)["stability"].max() < 0.7 < group_ica(ds, **options)["stability"].min()


def test_group_ica__maps_are_standard_scores_with_the_longer_tail_up(ds):
    maps = group_ica(ds, n_components=N, n_runs=2)["component_map"].to_numpy().reshape(N, -1)
    np.testing.assert_allclose(maps.mean(axis=1), 0, atol=1e-12)
    np.testing.assert_allclose(maps.std(axis=1), 1)
    assert ((maps**3).mean(axis=1) > 0).all()


@pytest.mark.parametrize("mode", ["spatial", "temporal"])
@pytest.mark.parametrize("whole", [True, False])
def test_group_ica__explained_variance_is_the_share_along_the_map(whole, mode, ds):
    # 60 tokens fit the basis whole; of more, what varies least is left out of it, and so not counted
    ds = ds.isel(token=slice(5)) if whole else ds
    options = {"standardize": False, "subject_components": 1000, "n_runs": 1}
    result = group_ica(ds, n_components=N, mode=mode, **options)
    valid = (ds["token_id"] != -1).to_numpy()
    rows = ds["activation"].to_numpy().astype(float)[valid].reshape(valid.sum(), -1)
    rows = rows - rows.mean(axis=0)
    for i in range(N):
        direction = result["component_map"].to_numpy()[i].ravel()
        along = np.square(rows @ direction).sum() / np.square(direction).sum()
        share = along / np.square(rows).sum()
        assert result["explained_variance"].to_numpy()[i] == pytest.approx(share, rel=1e-9 if whole else 0.02)
        assert result["explained_variance"].to_numpy()[i] <= share * (1 + 1e-9)


@pytest.mark.parametrize(
    "chunks",
    [
        {"prompt": 1},
        {"prompt": 5, "token": 9},
        {"prompt": 3, "layer": 1, "neuron": 30},
        {"prompt": (7, 1, 4)},
    ],
)
def test_group_ica__does_not_depend_on_chunks(chunks, ds):
    # of two repeats both are equally central: the first, of all subjects, must win
    options = {"n_components": N, "n_runs": 2, "null": 0}
    a, b = (group_ica(d, subject_components=5, **options) for d in (ds, ds.chunk(chunks)))
    np.testing.assert_allclose(a["component_map"], b["component_map"], atol=1e-5)
    for name in ("stability", "explained_variance", "split_half", "split_half_dice"):
        np.testing.assert_allclose(a[name], b[name], rtol=1e-5)
    # 72 components of subjects, 67 dimensions: what each merge leaves out depends on what it merges
    a, b = (group_ica(d, **options) for d in (ds, ds.chunk(chunks)))
    assert same_components(a, b)
    np.testing.assert_allclose(np.sort(a["explained_variance"]), np.sort(b["explained_variance"]), rtol=5e-3)


def test_group_ica__does_not_depend_on_the_order_of_prompts(ds, rng):
    a, b = (group_ica(d, n_components=N, n_runs=1) for d in (ds, ds.isel(prompt=rng.permutation(12))))
    assert same_components(a, b)


def test_group_ica__does_not_depend_on_the_number_of_workers(ds):
    results = []
    for options in ({"scheduler": "synchronous"}, {"scheduler": "threads", "num_workers": 3}):
        with dask.config.set(**options):
            results.append(group_ica(ds.chunk(prompt=3), n_components=N, n_runs=2))
    xr.testing.assert_allclose(*results)


def test_group_ica__runs_from_disk_on_a_cluster(ds, tmp_path):
    path = save(ds, tmp_path / "planted.zarr")
    expected = group_ica(ds, n_components=N, n_runs=2)
    with (
        LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None) as cluster,
        Client(cluster),
    ):
        got = group_ica(open_recording(path), n_components=N, n_runs=2)
    assert same_components(got, expected)


def test_group_ica__takes_several_recordings(ds):
    halves = [ds.isel(prompt=slice(6)), ds.isel(prompt=slice(6, None))]
    result = group_ica(halves, n_components=N, n_runs=2)
    assert match(result["component_map"], ds["true_network"]).min() > 0.95
    assert result.attrs["n_subjects"] == 12
    assert result.attrs["selected_on"] == ds["prompt"].to_numpy().tolist()


def test_group_ica__repeats_with_its_seed(ds):
    a, b = (group_ica(ds, n_components=N, n_runs=3, seed=4) for _ in range(2))
    xr.testing.assert_allclose(a, b)
    assert (
        a["stability"].to_numpy().tolist()
        != group_ica(ds, n_components=N, n_runs=3, seed=5)["stability"].to_numpy().tolist()
    )


def test_group_ica__of_one_repeat_has_no_stability_and_says_what_that_means(ds):
    one = group_ica(ds, n_components=N, n_runs=1)
    assert one["stability"].isnull().all() and one["split_half_dice"].isnull().all()
    assert "the one run missed no source by stopping at a local optimum" in one.attrs["assumption"]
    several = [group_ica(ds, n_components=N, n_runs=2, null=n).attrs["assumption"] for n in (0, 19)]
    assert "none was compared" in several[0] and "none of them alone" in several[1]


def test_group_ica__leaves_out_empty_prompts(ds):
    empty = ds.copy(deep=True)
    empty["token_id"][{"prompt": 5}] = -1
    empty["activation"][{"prompt": 5}] = np.nan
    result = group_ica(empty, n_components=N, n_runs=2)
    assert result.attrs["n_subjects"] == 11 and ds["prompt"].to_numpy()[5] not in result.attrs["selected_on"]
    expected = group_ica(ds.isel(prompt=[i for i in range(12) if i != 5]), n_components=N, n_runs=2)
    assert same_components(result, expected)


def test_group_ica__uses_prompts_of_one_token():
    single = planted(n_prompts=60, n_tokens=(1, 1))
    result = group_ica(single, n_components=N, n_runs=1)
    assert match(result["component_map"], single["true_network"]).min() > 0.9


def test_group_ica__puts_neurons_that_never_vary_or_have_no_value_in_no_network(ds):
    odd = ds.astype(float)
    valid = (ds["token_id"] != -1).to_numpy()
    for v, value in enumerate((0.0, 0.1, -1e5 / 3, np.nan)):
        odd["activation"].to_numpy()[..., 1, v] = np.where(valid, value, np.nan)
    odd["true_network"] = odd["true_network"].astype(bool)
    for standardize in (True, False):
        result = group_ica(odd, n_components=N, n_runs=2, standardize=standardize)
        assert np.isnan(result["component_map"].to_numpy()).sum() == N  # the last of the four, in each map
        assert not networks(result, two_sided=True)[:, 1, :4].any()
        same = result["component_map"].to_numpy()[:, 1, :3]
        np.testing.assert_allclose(same, same[:, :1].repeat(3, axis=1), atol=1e-9)
        rest = {"neuron": slice(4, None)}
        assert match(result["component_map"].isel(rest), odd["true_network"].isel(rest)).min() > 0.95


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (prompt_level, {}, "needs the activations of tokens; open the recording with level='token'"),
        (lambda ds: [], {}, "needs at least one recording, got none"),
        (lambda ds: ds, {"n_components": 0}, "n_components must be at least 1, got 0"),
        (lambda ds: ds, {"n_runs": 0}, "n_runs must be at least 1, got 0"),
        (lambda ds: ds, {"subject_components": 0}, "subject_components must be at least 1, got 0"),
        (
            lambda ds: ds,
            {"subject": "session"},
            "subject must be 'prompt' or a label of the prompts, got 'session'",
        ),
        (
            lambda ds: ds,
            {"subject": "layer"},
            "subject must be 'prompt' or a label of the prompts, got 'layer'",
        ),
        (lambda ds: ds.isel(prompt=[0]), {}, "at least two subjects, got 1; choose another `subject`"),
        (
            lambda ds: ds.assign_coords(all=("prompt", [0] * 12)),
            {"subject": "all"},
            "at least two subjects, got 1",
        ),
        (lambda ds: [ds, ds.isel(neuron=slice(5))], {}, "the recordings differ in their layers or neurons"),
        (
            lambda ds: [ds, ds.assign_coords(layer=[3, 4])],
            {},
            "the recordings differ in their layers or neurons",
        ),
        (
            lambda ds: ds.isel(token=[0], prompt=[0, 1]),
            {"n_components": 5},
            "hold . dimensions, too few for 5 components",
        ),
        (lambda ds: ds.isel(neuron=[0]), {"n_components": 3}, "hold 1 dimensions, too few for 3 components"),
        (
            lambda ds: ds.isel(neuron=[0] * 5, layer=[0]).assign_coords(neuron=range(5)),
            {"n_components": 1},
            "hold 0 dimensions, too few for 1 components",
        ),
        (
            lambda ds: ds.assign(activation=ds["activation"] * 0 + 1),
            {"n_components": 0.5},
            "there is nothing to decompose: in layers 0 to 1 no neuron",
        ),
        (lambda ds: ds.assign(activation=ds["activation"] * np.inf), {}, "there is nothing to decompose"),
        (lambda ds: [ds, ds.isel(prompt=[])], {}, "the recording 'phantom' has no prompt with tokens"),
    ],
)
def test_group_ica__refuses(make, options, message, ds):
    with pytest.raises(ValueError, match=message) as caught:
        group_ica(make(ds), **{"n_components": N, **options})
    assert isinstance(caught.value, ActomeError)


def test_group_ica__refuses_what_is_no_recording(ds):
    with pytest.raises(TypeError, match="expected a Dataset"):
        group_ica([ds["activation"]], n_components=2)
