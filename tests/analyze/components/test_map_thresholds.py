import numpy as np
import pytest
import scipy.stats
from sklearn.mixture import GaussianMixture

from actome.analyze.components.map_thresholds import Mixture, OfMaximum, far_out, read_map_threshold
from actome.analyze.threshold import Top, Z
from actome.store.errors import ActomeError


def planted(rng, n=4000, active=80, shift=6.0, both=False):
    """A map of z over neurons (layer, neuron), and which neurons are raised, by a spread of gains."""
    values = rng.standard_normal(n)
    where = rng.permutation(n)[:active]
    raise_ = rng.normal(shift, 1.0, active)
    values[where] += np.where(np.arange(active) % 2, -raise_, raise_) if both else raise_
    return scipy.stats.zscore(values).reshape(4, -1), np.isin(np.arange(n), where).reshape(4, -1)


@pytest.mark.parametrize("threshold", [Z(3.6), Top(0.05), OfMaximum(0.5), Mixture(), Mixture(2, 0.9)])
def test_read_map_threshold__reads_what_results_keep(threshold):
    assert read_map_threshold(repr(threshold)) == threshold


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("P(0.05)", r"a threshold of maps is Z\(3.6\), Top\(0.05\), .* got 'P\(0.05\)'"),
        ("3.6", "a threshold of maps is"),
        ("Z()", "a threshold of maps is"),
        ("Z(high)", "a threshold of maps is"),
        ("Top(0.1, 0.2)", "a threshold of maps is"),
        ("Top(2)", "Top must lie between 0 and 1, got 2"),
        ("Mixture(4)", "Mixture takes 2 or 3 Gaussians, got 4"),
    ],
)
def test_read_map_threshold__refuses(text, message):
    with pytest.raises(ValueError, match=message) as caught:
        read_map_threshold(text)
    assert isinstance(caught.value, ActomeError)


@pytest.mark.parametrize("two_sided", [False, True])
def test_far_out__of_the_maximum_keeps_that_share_of_the_largest(two_sided, rng):
    values = rng.standard_normal((3, 50))
    sides = np.abs(values) if two_sided else values
    assert (far_out(values, OfMaximum(0.4), two_sided) == (sides >= 0.4 * sides.max())).all()


def test_far_out__of_the_maximum_keeps_nothing_below_zero():
    assert not far_out(-np.ones((1, 5)), OfMaximum(0.5), False).any()
    assert not far_out(np.full((1, 5), np.nan), OfMaximum(0.5), False).any()
    assert not far_out(np.zeros((1, 5)), OfMaximum(0.5), True).any()


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("two_sided", [False, True])
def test_far_out__a_mixture_finds_the_raised_neurons(n, two_sided, rng):
    values, truth = planted(rng, both=two_sided)
    kept = far_out(values, Mixture(n), two_sided)
    assert (kept & truth).sum() > 0.85 * truth.sum()
    assert (kept & ~truth).sum() < 0.1 * truth.sum()


def test_far_out__a_mixture_keeps_what_scikit_learn_gives_a_posterior(rng):
    values, _ = planted(rng)
    column = values.reshape(-1, 1)
    reference = GaussianMixture(2, n_init=5, random_state=1, tol=1e-6, max_iter=1000).fit(column)
    posterior = reference.predict_proba(column)[:, np.argmin(reference.weights_)]
    expected = (posterior > 0.5).reshape(values.shape) & (values > 0)
    assert (far_out(values, Mixture(2), False) != expected).sum() <= 2
    strict = far_out(values, Mixture(2, posterior=0.99), False)
    assert 0 < strict.sum() < expected.sum() and (expected | ~strict).all()


def test_far_out__a_mixture_keeps_one_end_only(rng):
    values, _ = planted(rng, both=True)
    assert (values[far_out(values, Mixture(3), False)] > 0).all()
    kept = values[far_out(values, Mixture(3), True)]
    assert (kept > 0).any() and (kept < 0).any()


@pytest.mark.parametrize("n", [2, 3])
def test_far_out__a_mixture_keeps_nothing_of_noise(n, rng):
    noise = scipy.stats.zscore(rng.standard_normal((15, 2, 500)), axis=(1, 2))
    assert sum(far_out(values, Mixture(n), True).any() for values in noise) <= 1


def test_far_out__a_mixture_knows_no_order_of_neurons(rng):
    values, _ = planted(rng)
    order = rng.permutation(values.size)
    mixed = values.ravel()[order].reshape(values.shape)
    kept = far_out(values, Mixture(3), False).ravel()[order]
    assert (far_out(mixed, Mixture(3), False).ravel() == kept).all()


def test_far_out__a_mixture_leaves_out_what_has_no_value(rng):
    values, _ = planted(rng)
    odd = values.copy()
    odd[0, :100] = np.nan
    kept = far_out(odd, Mixture(3), False)
    assert kept.any() and not kept[0, :100].any()
    few = np.r_[rng.standard_normal(5), np.full(75, np.nan)][None]
    for nothing in (np.full((2, 40), np.nan), np.zeros((2, 40)), few):
        assert not far_out(nothing, Mixture(2), True).any()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: OfMaximum(1.0), "OfMaximum must lie between 0 and 1, got 1.0"),
        (lambda: OfMaximum("all"), "OfMaximum takes a number, got 'all'"),
        (lambda: Mixture(4), "Mixture takes 2 or 3 Gaussians, got 4"),
        (lambda: Mixture(2, posterior=0.0), "Mixture must lie between 0 and 1, got 0.0"),
    ],
)
def test_map_thresholds__refuse(make, message):
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        make()
    assert isinstance(caught.value, ActomeError)
