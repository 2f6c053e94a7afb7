"""Gaussian time courses vary as those recorded do."""

import numpy as np
import pytest
import scipy.stats

from actome.analyze.components.gaussian_courses import courses_of
from actome.analyze.components.repeats import Temporal


def model(rng, *, rho, prompt_sd, n_prompts=40, length=50, dimension=3):
    """Make Laplace scores, an AR(1) within prompts that differ."""
    scores = rng.laplace(size=(n_prompts, length, dimension))
    for t in range(1, length):
        scores[:, t] = rho * scores[:, t - 1] + np.sqrt(1 - rho**2) * scores[:, t]
    scores += prompt_sd * rng.standard_normal((n_prompts, 1, dimension))
    scores = scores.reshape(-1, dimension) @ rng.standard_normal((dimension, dimension))
    scores -= scores.mean(axis=0)
    basis = rng.standard_normal((dimension, 30))
    prompt = np.repeat(np.arange(n_prompts), length)
    return Temporal(basis - basis.mean(axis=1, keepdims=True), scores, np.ones((2, len(scores))), prompt)


def lagged(model, lag):
    """Covariance of scores `lag` tokens apart, over that of the same token: of the mean over dimensions."""
    own = model.scores @ np.linalg.inv(np.linalg.cholesky(np.cov(model.scores.T, ddof=0))).T
    of = [own[model.prompt == p] for p in np.unique(model.prompt)]
    return np.mean([(x[lag:] * x[: len(x) - lag]).mean() for x in of])


def kurtosis(model):
    return scipy.stats.kurtosis(model.scores).mean()


def test_courses__keep_covariances_and_persist_as_recorded(rng):
    recorded = model(rng, rho=0.6, prompt_sd=0.5)
    drawn = [courses_of(recorded).draw(rng) for _ in range(20)]
    for d in drawn[:2]:
        np.testing.assert_allclose(d.scores.mean(axis=0), 0, atol=1e-9)
        np.testing.assert_allclose(np.cov(d.scores.T, ddof=0), np.cov(recorded.scores.T, ddof=0))
        np.testing.assert_allclose(d.covariance, recorded.covariance)
    for lag in (1, 3, 20):
        found = [lagged(d, lag) for d in drawn]
        assert abs(np.mean(found) - lagged(recorded, lag)) < 0.05
    assert np.mean([kurtosis(d) for d in drawn]) < kurtosis(recorded) - 0.3


def test_courses__means_over_tokens_that_persist_stray_farther(rng):
    def spread(rho):
        courses = courses_of(model(rng, rho=rho, prompt_sd=0.0))
        drawn = [courses.draw(rng).scores[:, 0] for _ in range(100)]
        return np.std([(np.tanh(y / y.std()) ** 2).mean() for y in drawn])

    assert spread(0.9) > 1.25 * spread(0.0)


def test_courses__do_not_depend_on_the_order_of_prompts(rng):
    one = model(rng, rho=0.4, prompt_sd=0.3)
    order = np.argsort(rng.permutation(40)[one.prompt], kind="stable")
    other = Temporal(one.basis, one.scores[order], one.weights, one.prompt[order])
    a, b = (courses_of(m).draw(np.random.default_rng(0)).scores for m in (one, other))
    np.testing.assert_allclose(a, b, atol=1e-8)


@pytest.mark.parametrize(("n_prompts", "length", "kept"), [(1000, 30, 67), (20, 1000, 16)])
def test_courses__take_whole_prompts_of_many_and_parts_of_long_ones(rng, n_prompts, length, kept):
    drawn = courses_of(model(rng, rho=0.2, prompt_sd=0, n_prompts=n_prompts, length=length)).draw(rng)
    assert len(np.unique(drawn.prompt)) == kept and 2000 <= len(drawn.scores) <= 2010
    assert drawn.weights.shape == (2, len(drawn.scores))
