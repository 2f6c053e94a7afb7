import numpy as np
import pytest
import scipy.stats
import statsmodels.api as sm

from actome.analyze.condition_maps.labelling import Labels
from actome.analyze.condition_maps.sums import FoldSums, against_the_others, contrast_t


def labels_of(rng, n=24, n_conditions=3, n_folds=3, n_draws=4):
    """Every fold has every condition; labels are permuted within folds."""
    fold = np.arange(n) % n_folds
    true = (np.arange(n) // n_folds) % n_conditions
    code = np.stack([true] * n_draws)
    for draw in code[1:]:
        for f in range(n_folds):
            draw[fold == f] = rng.permutation(draw[fold == f])
    return Labels([f"c{i}" for i in range(n_conditions)], list(range(n_folds)), fold, code)


def test_contrast_t__agrees_with_scipy_for_two_conditions(rng):
    values, code = rng.standard_normal((25, 7)), rng.permutation([0] * 10 + [1] * 15)
    theirs = scipy.stats.ttest_ind(values[code == 0], values[code == 1]).statistic
    ours = contrast_t(values, code, against_the_others(np.array([10, 15])))
    np.testing.assert_allclose(ours, [theirs, -theirs], rtol=1e-10)


def test_contrast_t__agrees_with_statsmodels_for_four_conditions(rng):
    counts = np.array([3, 5, 10, 12])
    values, code = 1e4 + rng.standard_normal((30, 5)), rng.permutation(np.repeat(np.arange(4), counts))
    ours = contrast_t(values, code, against_the_others(counts))
    for v in range(5):
        fit = sm.OLS(values[:, v], np.eye(4)[code]).fit()
        for c in range(4):
            weights = np.where(np.arange(4) == c, 1.0, -1 / 3)
            assert ours[c, v] == pytest.approx(fit.t_test(weights).tvalue.item(), rel=1e-8)


def test_contrast_t__is_nan_for_a_neuron_that_never_varies():
    code = np.array([0, 1, 0, 1, 1])
    values = np.stack([np.full(5, 0.1), np.full(5, -1e6 / 3), np.arange(5.0) ** 2], axis=1)
    ours = contrast_t(values, code, against_the_others(np.array([2, 3])))
    assert np.isnan(ours).tolist() == [[True, True, False]] * 2


@pytest.mark.parametrize("offset", [0.0, 300.0, 1e6])
@pytest.mark.parametrize("part", ["within", "without"])
def test_maps__are_those_of_the_prompts_themselves(part, offset, rng):
    labels = labels_of(rng)
    values = offset + rng.standard_normal((24, 11)) + rng.standard_normal((3, 11))[labels.fold]
    values[:, 3] = 0.1  # never varies
    values[:, 4] = np.where(labels.fold == 1, values[:, 4], 0.0)  # silent in all folds but one
    values[:, 5] = labels.code[0] + 1e-4 * rng.standard_normal(24)  # almost all of it is the condition
    values[:, 6] = labels.code[0]  # all of it is
    sums = FoldSums(values, labels)
    weights = np.array([[1.0, -0.5, -0.5], [0.0, 1.0, -1.0]])
    for fold in range(3):
        rows = labels.fold == fold if part == "within" else labels.fold != fold
        effect, t = getattr(sums, part)(fold).maps(weights)
        for draw in range(4):
            code = labels.code[draw][rows]
            np.testing.assert_allclose(t[draw], contrast_t(values[rows], code, weights), rtol=1e-7)
            means = np.stack([values[rows][code == c].mean(axis=0) for c in range(3)])
            np.testing.assert_allclose(effect[draw], weights @ means, atol=1e-12 * max(offset, 1.0))
        assert np.isnan(t[0][:, [3, 6]]).all()
        assert np.isnan(t[0][:, 4]).all() == ((fold == 1) != (part == "within"))


def test_maps__agree_with_statsmodels_far_from_zero(rng):
    labels = labels_of(rng)
    values = 300.0 + rng.standard_normal((24, 4))
    weights = against_the_others(np.array([1, 1, 1]))
    _, t = FoldSums(values, labels).without(2).maps(weights)
    rows = labels.fold != 2
    for draw, v in np.ndindex(4, 4):
        fit = sm.OLS(values[rows, v], np.eye(3)[labels.code[draw][rows]]).fit()
        np.testing.assert_allclose(t[draw, :, v], fit.t_test(weights).tvalue, rtol=1e-9)


def test_spread__is_numpys_and_nan_where_nothing_varies(rng):
    labels = labels_of(rng)
    values = 300.0 + rng.standard_normal((24, 4))
    values[:, 1], values[labels.fold != 0, 2] = 1e6 / 3, -7.7
    others = FoldSums(values, labels).without(0)
    expected = values[labels.fold != 0].std(axis=0)
    np.testing.assert_allclose(others.spread, [expected[0], np.nan, np.nan, expected[3]], rtol=1e-12)
    np.testing.assert_allclose(others.mean, values[labels.fold != 0].mean(axis=0), rtol=1e-14)


def test_maps__a_condition_that_a_fold_lacks_takes_no_part(rng):
    labels = Labels(["a", "b", "c"], [0], np.zeros(9, dtype=int), np.array([[0, 2, 0, 2, 0, 2, 0, 2, 2]]))
    values = rng.standard_normal((9, 5))
    own = FoldSums(values, labels).within(0)
    _, t = own.maps(against_the_others(own.n))
    theirs = scipy.stats.ttest_ind(values[labels.code[0] == 0], values[labels.code[0] == 2]).statistic
    np.testing.assert_allclose(t[0], [theirs, np.full(5, np.nan), -theirs], rtol=1e-10)
