"""The stability index and the halves against their definitions."""

import numpy as np

from actome.analyze.components.stability import _index, icasso, split_half, split_half_dice


def standardised(X):
    return (X - X.mean(axis=1, keepdims=True)) / X.std(axis=1, keepdims=True)


def test_icasso__agrees_with_its_definition(rng):
    true = rng.standard_normal((2, 500))
    estimates = np.concatenate([t + 0.3 * rng.standard_normal((4, 500)) for t in true])
    estimates[::3] *= -1
    similarity = np.abs(np.corrcoef(estimates))
    centres, stability, size = icasso(similarity, 2)
    expected = []
    for own in (range(4), range(4, 8)):
        other = [i for i in range(8) if i not in own]
        inside = np.mean([similarity[i, j] for i in own for j in own if i != j])
        expected.append(inside - np.mean([similarity[i, j] for i in own for j in other]))
    np.testing.assert_allclose(stability, sorted(expected, reverse=True), rtol=1e-9)
    assert size.tolist() == [4, 4]
    assert np.abs(np.corrcoef(estimates[centres], true)[:2, 2:]).max(axis=1).min() > 0.9


def test_icasso__gives_as_many_clusters_as_asked_for_with_ties():
    estimates = np.tile(np.array([[1.0, -1.0, 1.0, -1.0], [1.0, 1.0, -1.0, -1.0]]), (3, 1))
    centres, stability, size = icasso(np.abs(np.corrcoef(estimates)), 3)
    assert len(centres) == 3 and size.sum() == 6 and (stability >= 0).all()


def test_icasso__of_one_repeat_has_no_stability():
    centres, stability, size = icasso(np.eye(3), 3)
    assert centres.tolist() == [0, 1, 2] and np.isnan(stability).all() and size.tolist() == [1, 1, 1]


def test_index__of_a_lone_estimate_is_zero():
    assert _index(np.eye(3), np.array([1])) == 0.0


def test_split_half__correlates_the_matched_maps_of_the_halves(rng):
    basis = rng.standard_normal((5, 400))
    basis -= basis.mean(axis=1, keepdims=True)
    coordinates = [rng.standard_normal((3, 5)) for _ in range(3)]
    covariance = basis @ basis.T / 400
    unit = [c / np.sqrt(np.einsum("ij,jk,ik->i", c, covariance, c))[:, None] for c in coordinates]
    whole = unit[0]
    first, second = whole[[2, 0, 1]], -(whole + 0.3 * unit[2])[[1, 2, 0]]
    second /= np.sqrt(np.einsum("ij,jk,ik->i", second, covariance, second))[:, None]
    maps = [standardised(c @ basis) for c in (whole, first, second)]
    expected = [np.abs(np.corrcoef(maps[1][[1, 2, 0]][i], maps[2][[2, 0, 1]][i])[0, 1]) for i in range(3)]
    np.testing.assert_allclose(split_half(whole, first, second, basis), expected, rtol=1e-9)


def test_split_half_dice__is_that_of_the_neurons_far_out_on_the_side_of_the_longer_tail(rng):
    maps = rng.standard_normal((3, 500))
    maps[0, :10] += 20
    maps[1, 8:20] -= 20
    maps = standardised(maps)
    basis = np.linalg.qr(maps.T)[0].T
    coordinates = np.linalg.lstsq(basis.T, maps.T, rcond=None)[0].T
    turned = coordinates + 0.3 * coordinates[[1, 2, 0]]
    turned /= standardised_sd(turned @ basis)
    got = split_half_dice(coordinates, -coordinates[[1, 2, 0]], turned, basis)
    a, b = standardised(maps), standardised(turned @ basis)
    far = [(m * np.array([[1], [-1], [1]])) >= 3.6 for m in (a, b)]
    assert far[0].sum(axis=1).tolist() == [10, 12, 0] and far[1][2].sum() == 0
    expected = [2 * (far[0][i] & far[1][i]).sum() / (far[0][i].sum() + far[1][i].sum()) for i in (0, 1)]
    np.testing.assert_allclose(got[:2], expected)
    assert np.isnan(got[2])


def standardised_sd(maps):
    return maps.std(axis=1, keepdims=True)
