"""P at equal activity: exchangeable under the null, right where only activity hurts, and not blind."""

import numpy as np
import scipy.stats
import statsmodels.api as sm

from actome.analyze.perturbation.adjustment import p_at_equal_activity
from actome.analyze.perturbation.estimates import p_against


def test_p_at_equal_activity__ranks_the_studentised_residuals_of_one_line(rng):
    mismatch = rng.normal(-0.2, 0.05, size=(3, 19))
    effect, control = rng.normal(size=(3, 2)), rng.normal(size=(3, 19, 2))
    p = p_at_equal_activity(effect, control, mismatch)
    for k in range(3):
        for v in range(2):
            x, y = np.r_[0, mismatch[k]], np.r_[effect[k, v], control[k, :, v]]
            far = sm.OLS(y, sm.add_constant(x)).fit().get_influence().resid_studentized_internal
            assert p[k, v] == (far >= far[0]).mean()


def draws(rng, among, extra=0.0):
    """A network of 16 among the most active neurons of a stratum, and controls from all 64 of it.

    What a neuron costs goes with its activity, give or take.
    """
    magnitude = np.sort(rng.lognormal(0, 0.8, 256))[-64:]
    cost = magnitude * rng.gamma(2, 0.5, 64)
    target = np.zeros(64, dtype=bool)
    target[rng.choice(np.arange(64 - among, 64), 16, replace=False)] = True
    controls = rng.random((39, 64)).argsort(axis=1) < 16
    own, others = magnitude[target].sum(), controls @ magnitude
    cost[target] += extra
    return np.array([[cost[target].sum()]]), (controls @ cost)[None, :, None], ((others - own) / own)[None]


def rate(rng, n, p_of, **options):
    """How often p is at most .05."""
    return np.mean([p_of(*draws(rng, **options)).item() <= 0.05 for _ in range(n)])


def test_p_at_equal_activity__is_uniform_for_random_networks(rng):
    p = np.array([p_at_equal_activity(*draws(rng, among=64)).item() for _ in range(500)])
    for alpha in (0.05, 0.2, 0.5):
        low, high = scipy.stats.binom.interval(0.999, len(p), alpha)
        assert low <= (p <= alpha + 1e-9).sum() <= high


def test_p_at_equal_activity__of_the_most_active_is_right_where_that_of_the_controls_is_not(rng):
    def plain(effect, control, mismatch):
        return p_against(effect, control)

    assert rate(rng, 300, plain, among=24) > 0.4
    assert rate(rng, 300, p_at_equal_activity, among=24) <= scipy.stats.binom.ppf(0.999, 300, 0.05) / 300
    assert rate(rng, 300, p_at_equal_activity, among=24, extra=4.0) > 0.7


def test_p_at_equal_activity__has_none_where_nothing_can_be_said(rng):
    effect, control = rng.normal(size=(1, 1)), rng.normal(size=(1, 9, 1))
    same = np.full((1, 9), -0.3)
    assert np.isnan(p_at_equal_activity(effect, control, same))  # all controls equally active, the target not
    np.testing.assert_array_equal(p_at_equal_activity(effect, control, 0 * same), p_against(effect, control))
    assert np.isnan(p_at_equal_activity(effect, control, np.nan * same))
    assert np.isnan(p_at_equal_activity(effect, control[:, :1], same[:, :1]))
    assert np.isnan(p_at_equal_activity(effect, control[:, :0], same[:, :0]))
    assert np.isnan(p_at_equal_activity(np.nan * effect, control, rng.normal(size=(1, 9))))
    copies = np.repeat(effect[:, None], 9, axis=1)
    assert p_at_equal_activity(effect, copies, 0 * same).item() == 1
    control[0, :3] = np.nan
    assert p_at_equal_activity(effect + 9, control, 0 * same).item() == (1 + 3) / 10
