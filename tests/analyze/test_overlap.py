import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import f1_score, jaccard_score

from actome.analyze.overlap import overlap
from actome.store.errors import ActomeError

DIMS = ("network", "layer", "neuron")
METRICS = {
    "dice": lambda a, b: (2 * len(a & b), len(a) + len(b)),
    "jaccard": lambda a, b: (len(a & b), len(a | b)),
    "coefficient": lambda a, b: (len(a & b), min(len(a), len(b))),
}


def masks(values, names=None):
    values = np.asarray(values, dtype=bool)
    return xr.DataArray(values, dims=DIMS, coords={"network": names or [f"n{i}" for i in range(len(values))]})


sets = st.tuples(st.integers(0, 4), st.just(2), st.just(5)).flatmap(lambda shape: hnp.arrays(bool, shape))


@given(sets, sets, st.sampled_from(sorted(METRICS)))
def test_overlap__agrees_with_python_sets(a, b, metric):
    result = overlap(masks(a), masks(b), metric=metric)
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            top, bottom = METRICS[metric](set(np.flatnonzero(x)), set(np.flatnonzero(y)))
            expected = top / bottom if bottom else np.nan
            assert result[metric].to_numpy()[i, j] == pytest.approx(expected, nan_ok=True)
            assert result["intersection"].to_numpy()[i, j] == (x & y).sum()
    assert result["size"].to_numpy().tolist() == a.sum(axis=(1, 2)).tolist()
    assert result["size_other"].to_numpy().tolist() == b.sum(axis=(1, 2)).tolist()


def test_overlap__agrees_with_scikit_learn(rng):
    a = rng.random((3, 4, 30)) < 0.3
    for metric, theirs in (("jaccard", jaccard_score), ("dice", f1_score)):
        expected = [[theirs(x.ravel(), y.ravel()) for y in a] for x in a]
        np.testing.assert_allclose(overlap(masks(a), metric=metric)[metric], expected, rtol=1e-12)


@given(sets, st.sampled_from(sorted(METRICS)))
def test_overlap__with_itself_is_symmetric_with_ones(a, metric):
    value = overlap(masks(a), metric=metric)[metric].to_numpy()
    np.testing.assert_array_equal(value, value.T)
    np.testing.assert_array_equal(np.diag(value), np.where(a.any(axis=(1, 2)), 1.0, np.nan))


def test_overlap__is_the_same_lazy_transposed_and_for_either_order(rng):
    a, b = masks(rng.random((2, 3, 8)) < 0.5), masks(rng.random((4, 3, 8)) < 0.5)
    result = overlap(a, b)
    xr.testing.assert_identical(result, overlap(a.chunk(neuron=3).transpose("neuron", "layer", "network"), b))
    np.testing.assert_array_equal(result["dice"], overlap(b, a)["dice"].to_numpy().T)


def test_overlap__finds_a_planted_overlap_and_none_between_strangers(rng):
    a = np.zeros((2, 1, 1000), dtype=bool)
    a[0, 0, :100] = a[1, 0, 50:150] = True
    assert overlap(masks(a))["dice"].to_numpy()[0, 1] == 0.5
    random = np.stack([rng.permutation(a[0, 0]) for _ in range(40)])[:, None]
    by_chance = overlap(masks(random))["dice"].to_numpy()[np.triu_indices(40, 1)]
    assert abs(by_chance.mean() - 0.1) < 3 * by_chance.std() / np.sqrt(40)


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (
            lambda a: a.astype(int),
            TypeError,
            r"takes bool masks \(network, layer, neuron\), got \(dtype\('int64'\)",
        ),
        (lambda a: a.isel(network=0), TypeError, r"takes bool masks .* \('layer', 'neuron'\)"),
        (lambda a: a.to_numpy(), TypeError, "takes bool masks .* got ndarray"),
        (lambda a: a.to_dataset(name="mask"), TypeError, "takes bool masks .* got Dataset"),
        (
            lambda a: a.isel(neuron=slice(3)),
            ValueError,
            r"differ in neuron: 5 of them \(0 to 4\) and 3 of them",
        ),
        (
            lambda a: a.assign_coords(layer=[4, 5]),
            ValueError,
            r"differ in layer: 2 of them \(0 to 1\) and 2 of them \(4 to 5",
        ),
    ],
)
def test_overlap__refuses(wrong, error, message, rng):
    a = masks(rng.random((3, 2, 5)) < 0.5).assign_coords(layer=[0, 1])
    with pytest.raises(error, match=message) as caught:
        overlap(a, wrong(a))
    assert isinstance(caught.value, ActomeError)


def test_overlap__refuses_another_metric(rng):
    with pytest.raises(
        ValueError, match=r"metric must be one of \['dice', 'jaccard', 'coefficient'\], got 'iou'"
    ):
        overlap(masks(np.ones((1, 1, 2))), metric="iou")
