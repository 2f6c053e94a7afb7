"""The stability index against its definition."""

import numpy as np

from actome.analyze.components.stability import _index, icasso


def match(maps, truth):
    """|correlation| of every true network with its best component: (network,)."""
    maps, truth = (np.asarray(a).reshape(len(a), -1) for a in (maps, truth))
    return np.abs(np.corrcoef(maps, truth)[: len(maps), len(maps) :]).max(axis=0)


def test_icasso__agrees_with_its_definition(rng):
    true = rng.standard_normal((2, 500))
    estimates = np.concatenate([t + 0.3 * rng.standard_normal((4, 500)) for t in true])
    estimates = (estimates - estimates.mean(axis=1, keepdims=True)) / estimates.std(axis=1, keepdims=True)
    estimates[::3] *= -1
    maps, stability, size = icasso(estimates, 2)
    similarity = np.abs(np.corrcoef(estimates))
    expected = []
    for own in (range(4), range(4, 8)):
        other = [i for i in range(8) if i not in own]
        inside = np.mean([similarity[i, j] for i in own for j in own if i != j])
        expected.append(inside - np.mean([similarity[i, j] for i in own for j in other]))
    np.testing.assert_allclose(stability, sorted(expected, reverse=True), rtol=1e-9)
    assert size.tolist() == [4, 4] and match(maps, true).min() > 0.9


def test_icasso__gives_as_many_clusters_as_asked_for_with_ties():
    estimates = np.tile(np.array([[1.0, -1.0, 1.0, -1.0], [1.0, 1.0, -1.0, -1.0]]), (3, 1))
    maps, stability, size = icasso(estimates, 3)
    assert maps.shape == (3, 4) and size.sum() == 6 and (stability >= 0).all()


def test_index__of_a_lone_estimate_is_zero():
    assert _index(np.eye(3), np.array([1])) == 0.0
