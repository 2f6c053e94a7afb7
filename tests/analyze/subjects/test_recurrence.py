import numpy as np
import pytest
import xarray as xr

from actome.analyze.components.networks import networks
from actome.analyze.subjects.recurrence import recurrence
from actome.analyze.threshold import Top
from actome.store.archive import open as open_result
from actome.store.errors import ActomeError
from actome.store.results import save_result

SHAPE = (2, 50)


def masks_of(values, **coords) -> xr.DataArray:
    dims = ("subject", "network", "layer", "neuron")[-values.ndim :]
    return xr.DataArray(values, dims=dims, coords=coords, attrs={"source": "sha256:0"})


@pytest.fixture
def templates(rng):
    return masks_of(rng.random((4, *SHAPE)) < 0.1, network=["a", "b", "c", "d"])


@pytest.fixture
def individuals(templates, rng):
    """Six subjects of three components: noisy copies of the first two templates, and chance."""
    own = rng.random((6, 3, *SHAPE)) < 0.1
    for s in range(6):
        own[s, 0] = templates[0].to_numpy() & (rng.random(SHAPE) < 0.8)
        own[s, 1] = templates[s % 2].to_numpy() & (rng.random(SHAPE) < 0.8)
    return masks_of(own, subject=[f"s{i}" for i in range(6)], network=["x", "y", "z"])


def jaccard_of(templates, individuals):
    """(template, subject, component), one by one."""
    A, B = (m.to_numpy() for m in (templates, individuals))
    out = np.zeros((len(A), *B.shape[:2]))
    for i, s, c in np.ndindex(*out.shape):
        either = (A[i] | B[s, c]).sum()
        out[i, s, c] = (A[i] & B[s, c]).sum() / either if either else 0.0
    return out


@pytest.mark.parametrize("jaccard", [0.1, 0.2, 0.5])
def test_recurrence__counts_components_and_samples_above_the_threshold(jaccard, templates, individuals):
    got = recurrence(templates, individuals, jaccard=jaccard, null=None)
    J = jaccard_of(templates, individuals)
    assert got["components"].to_numpy().tolist() == (J > jaccard).sum(axis=(1, 2)).tolist()
    assert got["samples"].to_numpy().tolist() == (J > jaccard).any(axis=2).sum(axis=1).tolist()
    np.testing.assert_allclose(got["best"], J.max(axis=2))
    for t in got["threshold"].to_numpy():
        sweep = got.sel(threshold=t)
        assert sweep["sweep_components"].to_numpy().tolist() == (J > t).sum(axis=(1, 2)).tolist()
        assert sweep["sweep_samples"].to_numpy().tolist() == (J > t).any(axis=2).sum(axis=1).tolist()


def test_recurrence__of_components_may_exceed_the_number_of_samples(templates, individuals):
    got = recurrence(templates, individuals, null=None)
    assert got["components"][0] == 9 and got["samples"][0] == 6


def test_recurrence__needs_more_than_the_threshold():
    a = np.zeros((1, 1, 12), dtype=bool)
    a[..., :6] = True
    b = np.roll(a, 4)[None]  # 2 shared of 10: exactly .2
    assert recurrence(masks_of(a), masks_of(b).assign_coords(subject=[0]), null=None)["components"] == 0
    closer = np.roll(a, 3)[None]
    assert recurrence(masks_of(a), masks_of(closer).assign_coords(subject=[0]), null=None)["components"] == 1


@pytest.mark.parametrize("null", ["layers", "neurons"])
def test_recurrence__is_expected_by_chance_as_counted_over_explicit_draws(null, templates, individuals):
    got = recurrence(templates, individuals, jaccard=0.1, null=null, n_draws=400)
    rng = np.random.default_rng(7)
    counts = np.zeros((4, 400))
    for d in range(400):
        if null == "layers":
            mixed = np.stack([[rng.permutation(layer) for layer in m] for m in templates.to_numpy()])
        else:
            mixed = np.stack([rng.permutation(m.ravel()).reshape(SHAPE) for m in templates.to_numpy()])
        counts[:, d] = (jaccard_of(masks_of(mixed), individuals) > 0.1).sum(axis=(1, 2))
    spread = counts.std(axis=1) * np.sqrt(2 / 400)
    assert (np.abs(got["expected_components"] - counts.mean(axis=1)) < 4 * spread).all()
    strict = recurrence(templates, individuals, jaccard=0.4, null=null, n_draws=400)
    assert strict["p_components"][0] == 1 / 401 and strict["p_samples"][0] == 1 / 401


def test_recurrence__p_is_valid_where_nothing_recurs():
    p = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        a, b = masks_of(rng.random((5, *SHAPE)) < 0.2), masks_of(rng.random((4, 5, *SHAPE)) < 0.2)
        got = recurrence(a, b.assign_coords(subject=range(4)), jaccard=0.15, n_draws=99, seed=seed)
        p += got["p_components"].to_numpy().tolist()
    assert np.mean(np.array(p) <= 0.05) < 0.05 + 3 * np.sqrt(0.05 * 0.95 / len(p))


def test_recurrence__does_not_depend_on_the_order_of_subjects_or_on_chunks(templates, individuals, rng):
    expected = recurrence(templates, individuals)
    order = rng.permutation(6)
    got = recurrence(templates, individuals.isel(subject=order).chunk(subject=2, neuron=7, network=1))
    xr.testing.assert_identical(got.drop_vars("best"), expected.drop_vars("best").isel(subject=order))
    np.testing.assert_array_equal(got["best"], expected["best"][:, order])


def test_recurrence__of_an_empty_template_is_nothing(templates, individuals):
    templates = templates.copy(deep=True)
    templates[1] = False
    individuals = individuals.copy(deep=True)
    individuals[:, 2] = False
    got = recurrence(templates, individuals, n_draws=9)
    assert got["components"][1] == 0 and got["p_components"].isnull().to_numpy().tolist() == [0, 1, 0, 0]
    assert (got["best"][1] == 0).all()


def test_recurrence__of_no_template_is_an_empty_result(templates, individuals, tmp_path):
    got = recurrence(templates[:0], individuals, n_draws=9)
    assert dict(got.sizes) == {
        "network": 0,
        "subject": individuals.sizes["subject"],
        "threshold": 10,
        "draw": 9,
    }
    assert open_result(save_result(got, tmp_path / "r.zarr"))["p_samples"].shape == (0,)
    got = recurrence(templates, individuals[:, :0], n_draws=9)
    assert not got["components"].any() and (got["p_samples"] == 1).all()


def test_recurrence__takes_networks_of_individual_maps_and_is_saved(templates, rng, tmp_path):
    maps = xr.DataArray(rng.standard_normal((3, 2, *SHAPE)), dims=("subject", "component", "layer", "neuron"))
    maps = maps.assign_coords(component=[0, 1], subject=["p", "q", "r"]).to_dataset(name="component_map")
    got = recurrence(templates, networks(maps, Top(0.1)), n_draws=19)
    again = open_result(save_result(got, tmp_path / "r.zarr")).load()
    xr.testing.assert_equal(again, got)
    assert again.attrs["kind"] == "recurrence" and again.attrs["control_individuals"] == "Top(fraction=0.1)"


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda a, b: (a, b[0]), {}, r"individuals must be bool masks \(subject, network, layer, neuron\)"),
        (lambda a, b: (a.astype(float), b), {}, r"templates must be bool masks \(network, layer, neuron\)"),
        (lambda a, b: (a.isel(neuron=slice(9)), b), {}, "the masks differ in neuron"),
        (lambda a, b: (a, b), {"jaccard": 1.5}, "a Jaccard threshold must lie between 0 and 1, got 1.5"),
        (lambda a, b: (a, b), {"sweep": [0.0]}, "a Jaccard threshold must lie between 0 and 1, got 0.0"),
        (lambda a, b: (a, b), {"null": "easy"}, "null must be None or one of"),
        (lambda a, b: (a, b), {"n_draws": 0}, "n_draws must be at least 1, got 0"),
        (lambda a, b: (a, b), {"n_draws": 10.5}, "n_draws must be a whole number, got 10.5"),
        (lambda a, b: (a, b), {"seed": -1}, "seed must be at least 0, got -1"),
    ],
)
def test_recurrence__refuses(change, options, message, templates, individuals):
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        recurrence(*change(templates, individuals), **options)
    assert isinstance(caught.value, ActomeError)
