import math
from fractions import Fraction

import numpy as np
import pytest
import scipy.stats
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import f1_score, jaccard_score

from actome.analyze.overlap import network_counts, overlap
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


def counted(a, b, m):
    """Probability of every intersection of two sets out of m, by counting."""
    return [Fraction(math.comb(a, k) * math.comb(m - a, b - k), math.comb(m, b)) for k in range(b + 1)]


@given(sets, sets)
def test_overlap__hypergeometric_null_agrees_with_counting(a, b):
    result = overlap(masks(a), masks(b), null="hypergeometric")
    for i, j in np.ndindex(len(a), len(b)):
        one, both = result.isel(network=i, network_other=j), int((a[i] & b[j]).sum())
        if not a[i].any() or not b[j].any():
            assert all(np.isnan(one[v]) for v in ("expected", "excess", "p_value", "p_value_less"))
            continue
        p = counted(int(a[i].sum()), int(b[j].sum()), 10)
        assert one["expected"] == pytest.approx(float(sum(k * x for k, x in enumerate(p))))
        assert one["p_value"] == pytest.approx(float(sum(p[both:])), rel=1e-12)
        assert one["p_value_less"] == pytest.approx(float(sum(p[: both + 1])), rel=1e-12)


def test_overlap__hypergeometric_null_agrees_with_scipy_far_in_the_tail(rng):
    a = rng.random((3, 4, 2000)) < 0.05
    b = (a & (rng.random(a.shape) < 0.6)) | (rng.random(a.shape) < 0.03)
    result = overlap(masks(a), masks(b), null="hypergeometric")
    x, y, both = result["size"].to_numpy()[:, None], result["size_other"].to_numpy(), result["intersection"]
    theirs = scipy.stats.hypergeom(8000, x, y)
    np.testing.assert_allclose(result["p_value"], np.maximum(theirs.sf(both - 1), 1e-140), rtol=1e-9)
    np.testing.assert_allclose(result["p_value_less"], theirs.cdf(both), rtol=1e-9)
    np.testing.assert_allclose(result["expected"], theirs.mean())
    np.testing.assert_allclose(result["excess"], (both - theirs.mean()) / theirs.std())
    assert result["p_value"].to_numpy().min() == 1e-140
    table = [[both[0, 1], x[0, 0] - both[0, 1]], [y[1] - both[0, 1], 8000 - x[0, 0] - y[1] + both[0, 1]]]
    fisher = scipy.stats.fisher_exact(np.array(table, dtype=int), alternative="greater").pvalue
    assert result["p_value"][0, 1] == pytest.approx(fisher, rel=1e-9)


def test_overlap__layers_null_is_the_sum_of_the_layers_to_the_tail(rng):
    a, b = rng.random((2, 1, 3, 12)) < np.array([0.5, 0.2, 0.7])[:, None]
    p = [Fraction(1)]
    for x, y in zip(a.sum(axis=2)[0].tolist(), b.sum(axis=2)[0].tolist(), strict=True):
        own = counted(x, y, 12)
        p = [
            sum((p[j] * own[k - j] for j in range(len(p)) if 0 <= k - j < len(own)), Fraction(0))
            for k in range(len(p) + len(own) - 1)
        ]
    result, both = overlap(masks(a), masks(b), null="layers"), int((a & b).sum())
    assert result["p_value"].item() == pytest.approx(float(sum(p[both:])), rel=1e-12)
    assert result["p_value_less"].item() == pytest.approx(float(sum(p[: both + 1])), rel=1e-12)


def test_overlap__layers_null_agrees_with_permutations(rng):
    chance = np.array([0.6, 0.02, 0.3])[:, None]
    a, b = rng.random((2, 3, 40)) < chance, rng.random((2, 3, 40)) < chance
    result = overlap(masks(a), masks(b), null="layers")
    n = 4000
    drawn = np.empty((n, 2, 2))
    for i in range(n):
        drawn[i] = np.einsum("alk,blk->ab", rng.permuted(a, axis=2), b, dtype=int)
    both = result["intersection"].to_numpy()
    for name, extreme in (("p_value", drawn >= both), ("p_value_less", drawn <= both)):
        p = result[name].to_numpy()
        assert (abs(extreme.mean(axis=0) - p) < 4 * np.sqrt(p * (1 - p) / n) + 1 / n).all()
    np.testing.assert_allclose(drawn.mean(axis=0), result["expected"], atol=5 * drawn.std() / np.sqrt(n))
    z = (both - drawn.mean(axis=0)) / drawn.std(axis=0)
    np.testing.assert_allclose(result["excess"], z, atol=0.1)
    anywhere = overlap(masks(a), masks(b), null="hypergeometric")
    assert (result["expected"] > 1.3 * anywhere["expected"]).all()


def test_overlap__layers_null_of_one_layer_is_the_hypergeometric_one(rng):
    a = masks(rng.random((4, 1, 60)) < 0.3)
    one, other = overlap(a, null="layers"), overlap(a, null="hypergeometric")
    xr.testing.assert_allclose(one, other)


def test_overlap__p_of_strangers_is_calibrated(rng):
    a = np.zeros((1, 3, 200), dtype=bool)
    a[0, 0, :60] = a[0, 2, :20] = True
    b = rng.permuted(np.broadcast_to(a, (400, 3, 200)), axis=2)
    p = overlap(masks(a), masks(b), null="layers")["p_value"].to_numpy()[0]
    for alpha in (0.05, 0.2, 0.5):
        assert (p <= alpha).mean() < alpha + 3 * np.sqrt(alpha * (1 - alpha) / len(p))
    assert scipy.stats.binomtest(int((p < 0.5).sum()), len(p), 0.4).pvalue > 1e-3


def test_overlap__among_narrows_what_chance_may_choose(rng):
    a = masks(rng.random((2, 2, 30)) < 0.3)
    alive = xr.DataArray(np.arange(30) < 20, dims="neuron").expand_dims(layer=2)
    a = a & alive.transpose("neuron", "layer")
    result = overlap(a, null="layers", among=alive)
    xr.testing.assert_allclose(result, overlap(a.isel(neuron=slice(20)), null="layers"))
    with pytest.raises(ValueError, match="a network has neurons that `among` leaves out"):
        overlap(a | True, null="layers", among=alive)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"null": "random"}, ValueError, r"null must be None or one of \['hypergeometric', 'layers'\], got"),
        ({"among": xr.DataArray(True)}, ValueError, "give a null too"),
        ({"null": "layers", "among": np.ones((1, 2), bool)}, TypeError, r"among must be bool .* got ndarray"),
        (
            {"null": "layers", "among": xr.DataArray(np.ones((1, 3), bool), dims=("layer", "neuron"))},
            ValueError,
            "the masks differ in neuron: 2 of them",
        ),
    ],
)
def test_overlap__refuses_a_wrong_null(options, error, message):
    with pytest.raises(error, match=message) as caught:
        overlap(masks(np.ones((1, 1, 2))), **options)
    assert isinstance(caught.value, ActomeError)


def test_overlap__says_where_the_masks_come_from(rng):
    a = masks(rng.random((2, 1, 5)) < 0.5).assign_attrs(source="sha256:a", selected_on=["p0"])
    b = a.assign_attrs(source="sha256:b", selected_on=["p1"])
    attrs = overlap(a, b, null="layers").attrs
    assert (attrs["source"], attrs["source_other"], attrs["null"]) == ("sha256:a", "sha256:b", "layers")
    assert (attrs["selected_on"], attrs["selected_on_other"]) == (["p0"], ["p1"])
    assert "source_other" not in overlap(a).attrs


@given(sets)
def test_network_counts__agrees_with_sums(a):
    result = network_counts(masks(a))
    np.testing.assert_array_equal(result["count"], a.sum(axis=0))
    np.testing.assert_array_equal(result["size"], a.sum(axis=2))
    np.testing.assert_array_equal(result["share"], a.mean(axis=2))
    assert result["histogram"].to_numpy().tolist() == [(a.sum(axis=0) == k).sum() for k in range(len(a) + 1)]


def test_network_counts__is_the_same_lazy_and_transposed(rng):
    a = masks(rng.random((3, 4, 8)) < 0.5).assign_attrs(source="sha256:a")
    expected = network_counts(a)
    xr.testing.assert_identical(
        network_counts(a.chunk(neuron=3).transpose("neuron", "network", "layer")), expected
    )
    assert expected.attrs["source"] == "sha256:a"
    with pytest.raises(TypeError, match="takes bool masks"):
        network_counts(a.astype(float))
