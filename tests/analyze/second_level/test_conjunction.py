import numpy as np
import pytest
import scipy.stats
import xarray as xr
from nilearn.glm.contrasts import compute_contrast as nilearn_contrast
from nilearn.glm.first_level import run_glm

from actome.analyze.contrasts import compute_contrast
from actome.analyze.glm import fit_glm
from actome.analyze.second_level.combine import combine
from actome.analyze.second_level.conjunction import conjunction
from actome.analyze.threshold import P, threshold
from actome.store.errors import ActomeError
from actome.store.phantom import phantom


def z_map(z, dof=10.0):
    dims = ("layer", "neuron")
    z = np.asarray(z, dtype=float)
    p = 2 * scipy.stats.norm.sf(np.abs(z))
    return xr.Dataset({"stat": (dims, z), "z_score": (dims, z), "p_value": (dims, p)}).assign_coords(dof=dof)


@pytest.fixture(scope="module")
def contrasts():
    ds = phantom(n_prompts=8, n_tokens=(1, 5), n_layers=2, n_neurons=20, fraction=0.2, effect=2.0, seed=4)
    fit = fit_glm(ds, measure="signed")
    return [compute_contrast(fit, c).compute() for c in ("a - rest", "a - b")]


def one_sided(ds):
    return scipy.stats.norm.sf(ds["z_score"])


def test_conjunction__is_the_weakest_of_the_effects(contrasts):
    out = conjunction(contrasts)
    z = np.array([ds["z_score"] for ds in contrasts])
    positive, negative = (z > 0).all(axis=0), (z < 0).all(axis=0)
    assert positive.sum() > 5 and negative.sum() > 5 and (~positive & ~negative).sum() > 5
    np.testing.assert_array_equal(out["stat"].to_numpy()[positive], z.min(axis=0)[positive])
    np.testing.assert_array_equal(out["stat"].to_numpy()[negative], z.max(axis=0)[negative])
    assert (out["stat"].to_numpy()[~positive & ~negative] == 0).all()
    xr.testing.assert_equal(out["stat"], out["z_score"])


def test_conjunction__p_is_the_largest_of_nilearns():
    ds = phantom(n_prompts=8, n_tokens=(3, 3), n_layers=1, n_neurons=20, effect=2.0, n_runs=1)
    fit = fit_glm(ds, measure="signed", noise="ols")
    y = ds["activation"].to_numpy().astype(float).reshape(-1, 20)
    X = np.repeat(fit["design"].to_numpy(), 3, axis=0)
    labels, results = run_glm(y, X, noise_model="ols")
    theirs = [
        nilearn_contrast(labels, results, np.array(c), stat_type="t") for c in ([1.0, 0, -1], [1.0, -1, 0])
    ]
    p = np.max([t.p_value() for t in theirs], axis=0)  # one-sided
    ours = conjunction([compute_contrast(fit, c) for c in ("a - rest", "a - b")]).compute()
    kept = ours["stat"].to_numpy().ravel() > 0
    assert kept.sum() > 3
    np.testing.assert_allclose(ours["p_value"].to_numpy().ravel()[kept] / 2, p[kept], rtol=1e-7)


@pytest.mark.parametrize("alpha", [0.3, 0.05, 0.001])
def test_conjunction__threshold_keeps_what_every_contrast_alone_would_keep(alpha, contrasts):
    ours = threshold(conjunction(contrasts), control=P(alpha)).to_numpy()
    alone = [threshold(ds, control=P(alpha)).to_numpy() for ds in contrasts]
    np.testing.assert_array_equal(ours, np.logical_and(*alone))
    both_sides = threshold(conjunction(contrasts), control=P(alpha), two_sided=True).to_numpy()
    z = np.array([ds["z_score"] for ds in contrasts])
    limit = scipy.stats.norm.isf(alpha / 2)
    np.testing.assert_array_equal(both_sides, (z > limit).all(axis=0) | (z < -limit).all(axis=0))


def test_conjunction__is_valid_where_one_effect_is_absent_and_contrasts_depend(rng):
    shared = rng.standard_normal((1, 50_000))
    absent = 0.8 * shared + 0.6 * rng.standard_normal(shared.shape)
    kept = threshold(conjunction([z_map(shared + 6.0), z_map(absent)]), control=P(0.01)).mean()
    assert abs(kept - 0.01) < 3 * np.sqrt(0.01 * 0.99 / 50_000)


def test_conjunction__takes_degrees_of_freedom_that_differ(contrasts):
    other = phantom(n_prompts=30, n_tokens=(1, 5), n_layers=2, n_neurons=20, fraction=0.2, effect=2.0, seed=4)
    more = compute_contrast(fit_glm(other, measure="signed"), "a - rest").compute()
    out = conjunction({"few": contrasts[0], "many": more})
    assert out.attrs["contrast"] == "a - rest & a - rest"
    largest = np.maximum(contrasts[0]["p_value"], more["p_value"])
    agree = out["stat"] != 0
    np.testing.assert_array_equal(out["p_value"].where(agree), largest.where(agree))


def test_conjunction__a_neuron_that_one_contrast_lacks_is_nan(contrasts):
    holes = contrasts[1].copy(deep=True)
    for name in ("stat", "z_score", "p_value"):
        holes[name][0, 3] = np.nan
    out = conjunction([contrasts[0], holes])
    for name in out:
        assert np.isnan(out[name].to_numpy()).nonzero() == (np.array([0]), np.array([3]))
    assert not threshold(out, control=P(0.9))[0, 3]


def test_conjunction__does_not_depend_on_order_or_chunks_and_is_lazy(contrasts, raise_if_computes):
    expected = conjunction(contrasts)
    with raise_if_computes():
        lazy = conjunction([ds.chunk(layer=1, neuron=7 - i) for i, ds in enumerate(contrasts[::-1])])
    assert all(lazy[name].chunks is not None for name in lazy)
    for name in expected:
        np.testing.assert_array_equal(lazy[name], expected[name])


def test_conjunction__says_what_it_used(contrasts):
    attrs = conjunction({"x": contrasts[0], "y": contrasts[1]}).attrs
    assert attrs["selected_on"] == contrasts[0].attrs["selected_on"]
    assert (attrs["kind"], attrs["contrast"], attrs["inputs"]) == ("contrast", "a - rest & a - b", ["x", "y"])
    assert "weights" not in attrs


def test_conjunction__takes_what_combine_gives():
    maps = [z_map(np.full((1, 3), z)).assign(effect=1.0, variance=1.0) for z in (3.0, 4.0)]
    maps = [ds.assign(effect=ds["stat"], variance=ds["stat"] * 0 + 1) for ds in maps]
    assert (conjunction([combine(maps), combine(maps)])["stat"] > 3).all()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda c: c[:1], ValueError, "conjunction needs at least two contrasts, got 1"),
        (lambda c: "a - b", TypeError, "conjunction takes several contrasts"),
        (
            lambda c: [c[0], c[1].drop_vars("z_score")],
            TypeError,
            "input '1' of conjunction must be a contrast",
        ),
        (
            lambda c: [c[0], c[1].assign_coords(dof_numerator=2)],
            ValueError,
            "is an F contrast, which has no sign",
        ),
        (lambda c: [c[0], c[1].assign_attrs(measure="magnitude")], ValueError, "differ in measure"),
        (lambda c: [c[0], c[1].isel(neuron=slice(3))], ValueError, "differ in neuron"),
    ],
)
def test_conjunction__refuses(make, error, message, contrasts):
    with pytest.raises(error, match=message) as caught:
        conjunction(make(contrasts))
    assert isinstance(caught.value, ActomeError)
