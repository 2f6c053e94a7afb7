import dask
import numpy as np
import pytest
import scipy.stats
import xarray as xr
from statsmodels.stats.meta_analysis import combine_effects

from actome.analyze.contrasts import compute_contrast
from actome.analyze.glm import fit_glm
from actome.analyze.second_level.combine import combine
from actome.analyze.threshold import Z, threshold
from actome.store.errors import ActomeError
from actome.store.phantom import phantom
from actome.store.selection import Selection


def contrast_of(seed, contrast="a - b", effect=1.0, **options):
    ds = phantom(n_prompts=6, n_tokens=(1, 5), n_layers=2, n_neurons=6, fraction=0.1, prompt_sd=1.0,
                 effect=effect, seed=seed)  # fmt: skip
    ds = ds.assign_coords(prompt=[f"{seed}-{p}" for p in ds["prompt"].to_numpy()])
    return compute_contrast(fit_glm(ds, **options), contrast).compute()


@pytest.fixture(scope="module")
def inputs():
    return [contrast_of(seed) for seed in range(4)]


def flat(inputs, name):
    """(input, neuron)."""
    return np.array([ds[name].to_numpy().ravel() for ds in inputs])


def drawn(rng, dof, variance, effect=0.0, n=20_000):
    """Inputs with independent normal effects and chi-squared variances: one contrast an input."""
    dims, out = ("layer", "neuron"), []
    for d, v in zip(dof, variance, strict=True):
        e, s = effect + np.sqrt(v) * rng.standard_normal((1, n)), v * rng.chisquare(d, (1, n)) / d
        ds = xr.Dataset({"effect": (dims, e), "variance": (dims, s), "stat": (dims, e / np.sqrt(s))})
        out.append(ds.assign_coords(dof=d))
    return out


def test_combine__fixed_agrees_with_statsmodels(inputs):
    ours = combine(inputs)
    effect, variance = flat(inputs, "effect"), flat(inputs, "variance")
    dof = np.array([ds["dof"].item() for ds in inputs])
    for v in range(effect.shape[1]):
        theirs = combine_effects(effect[:, v], variance[:, v])
        share = theirs.weights_rel_fe
        meier = 1 + 4 * np.sum(share * (1 - share) / dof)
        mine = {name: ours[name].to_numpy().ravel()[v] for name in ours}
        np.testing.assert_allclose(mine["effect"], theirs.mean_effect_fe, rtol=1e-12)
        np.testing.assert_allclose(mine["variance"], theirs.var_eff_w_fe * meier, rtol=1e-12)
        np.testing.assert_allclose(mine["stat"], mine["effect"] / np.sqrt(mine["variance"]), rtol=1e-12)
        p = 2 * scipy.stats.t.sf(abs(mine["stat"]), min(dof))
        np.testing.assert_allclose(mine["p_value"], p, rtol=1e-10)
        np.testing.assert_allclose(2 * scipy.stats.norm.sf(abs(mine["z_score"])), p, rtol=1e-8)
        assert np.sign(mine["z_score"]) == np.sign(mine["effect"])
    assert ours["dof"].item() == min(dof)


def test_combine__fixed_is_plain_inverse_variance_where_variances_are_known(inputs):
    known = [ds.assign_coords(dof=1e12) for ds in inputs]
    ours = combine(known)
    theirs = combine_effects(flat(inputs, "effect")[:, 3], flat(inputs, "variance")[:, 3])
    np.testing.assert_allclose(ours["variance"].to_numpy().ravel()[3], theirs.var_eff_w_fe, rtol=1e-10)
    z = theirs.mean_effect_fe / theirs.sd_eff_w_fe
    np.testing.assert_allclose(ours["z_score"].to_numpy().ravel()[3], z, rtol=1e-5)


def test_combine__random_agrees_with_statsmodels(inputs):
    ours = combine(inputs, how="random")
    effect, variance = flat(inputs, "effect"), flat(inputs, "variance")
    differing = 0
    for v in range(effect.shape[1]):
        with np.errstate(invalid="ignore"):  # it keeps a negative variance between inputs
            theirs = combine_effects(effect[:, v], variance[:, v], method_re="chi2", use_t=True)
        mine = {name: ours[name].to_numpy().ravel()[v] for name in ours}
        np.testing.assert_allclose(mine["heterogeneity"], theirs.q, rtol=1e-10)
        np.testing.assert_allclose(mine["tau2"], max(theirs.tau2, 0.0), rtol=1e-10)
        np.testing.assert_allclose(mine["i2"], max(theirs.i2, 0.0), rtol=1e-10)
        if theirs.tau2 < 0:  # none, which is fixed effects
            mean, scale = theirs.mean_effect_fe, theirs.var_hksj_fe
        else:
            differing += 1
            mean, scale = theirs.mean_effect_re, theirs.var_hksj_re
        np.testing.assert_allclose(mine["effect"], mean, rtol=1e-10)
        np.testing.assert_allclose(mine["variance"], scale, rtol=1e-10)
        p = 2 * scipy.stats.t.sf(abs(mean) / np.sqrt(scale), 3)
        np.testing.assert_allclose(mine["p_value"], p, rtol=1e-9)
    assert 2 < differing < effect.shape[1]
    assert ours["dof"].item() == 3


@pytest.mark.parametrize("how", ["fixed", "random"])
def test_combine__does_not_depend_on_order_names_or_chunks(how, inputs):
    expected = combine(inputs, how=how)
    named = dict(zip("dcba", reversed(inputs), strict=True))
    chunked = [ds.chunk(layer=1, neuron=2 + i) for i, ds in enumerate(inputs)]
    for other in (combine(named, how=how), combine(chunked, how=how), combine(iter(inputs), how=how)):
        for name in expected:
            np.testing.assert_allclose(other[name], expected[name], rtol=1e-9, atol=1e-14)
    assert combine(named, how=how).attrs["inputs"] == list("dcba")


@pytest.mark.parametrize("how", ["fixed", "random"])
def test_combine__is_lazy(how, inputs, raise_if_computes):
    with raise_if_computes():
        out = combine([ds.chunk(neuron=2) for ds in inputs], how=how)
    assert all(out[name].chunks is not None for name in out)


@pytest.mark.parametrize("how", ["fixed", "random"])
def test_combine__a_neuron_that_one_input_lacks_is_nan(how, inputs):
    holes = [ds.copy(deep=True) for ds in inputs]
    holes[1]["stat"][0, 2] = np.nan
    holes[2]["effect"][1, 3] = holes[2]["stat"][1, 3] = np.nan
    out, expected = combine(holes, how=how), combine(inputs, how=how)
    for name in out:
        values = out[name].to_numpy()
        assert np.isnan(values[[0, 1], [2, 3]]).all() and np.isnan(values).sum() == 2
        same = np.isfinite(values)
        np.testing.assert_array_equal(values[same], expected[name].to_numpy()[same])


def test_combine__random_of_inputs_that_are_alike_has_no_t(inputs):
    out = combine([inputs[0].assign_attrs(selected_on=[]), inputs[0]], how="random")
    assert np.isnan(out["stat"]).all() and np.isnan(out["p_value"]).all()
    np.testing.assert_allclose(out["effect"], inputs[0]["effect"], rtol=1e-12)
    assert (out["tau2"] == 0).all() and (out["i2"] == 0).all()


def test_combine__takes_several_contrasts_at_once(inputs):
    both = [xr.concat([ds, contrast_of(i, "a - rest")], "contrast", combine_attrs="drop_conflicts")
            for i, ds in enumerate(inputs)]  # fmt: skip
    out, expected = combine(both), combine(inputs)
    assert out["stat"].dims == ("contrast", "layer", "neuron") and out["dof"].dims == ("contrast",)
    np.testing.assert_allclose(out["p_value"].isel(contrast=0), expected["p_value"], rtol=1e-10)


def test_combine__goes_into_threshold_and_says_what_it_used(inputs):
    out = combine({"first": inputs[0], "second": inputs[1]})
    assert out.attrs["selected_on"] == inputs[0].attrs["selected_on"] + inputs[1].attrs["selected_on"]
    expected = {
        "kind": "contrast",
        "how": "fixed",
        "inputs": ["first", "second"],
        "measure": "magnitude",
        "contrast": "a - b",
        "assumption": "the inputs are independent and estimate one effect",
    }
    assert {k: out.attrs[k] for k in expected} == expected
    mask = threshold(out, control=Z(1.0))
    np.testing.assert_array_equal(mask, out["z_score"] >= 1.0)
    assert mask.any() and len(mask.attrs["selected_on"]) == 36


@pytest.mark.parametrize("dof", [(8, 8, 8), (5, 8, 20, 40), (38,) * 8])
def test_combine__fixed_is_calibrated_where_the_normal_is_not(dof, rng):
    inputs = drawn(rng, dof, np.linspace(1, 3, len(dof)), n=200_000)
    assert 0.0003 < (combine(inputs)["p_value"] <= 0.001).mean() < 0.0013
    precision = sum(1 / ds["variance"] for ds in inputs)
    z = sum(ds["effect"] / ds["variance"] for ds in inputs) / np.sqrt(precision)
    assert (2 * scipy.stats.norm.sf(abs(z)) <= 0.001).mean() > 0.0017


def test_combine__random_is_calibrated_where_effects_differ(rng):
    inputs = drawn(rng, (30,) * 6, [1.0] * 6)
    inputs = [ds.assign(effect=ds["effect"] + rng.standard_normal(ds["effect"].shape)) for ds in inputs]
    rates = {how: (combine(inputs, how=how)["p_value"] <= 0.05).mean().item() for how in ("fixed", "random")}
    assert abs(rates["random"] - 0.05) < 3 * np.sqrt(0.05 * 0.95 / 20_000) + 0.005 and rates["fixed"] > 0.1


def test_combine__finds_what_no_input_finds_alone(rng):
    inputs = drawn(rng, (30,) * 6, [1.0] * 6, effect=2.0)
    power = [
        (combine(inputs)["p_value"] < 0.001).mean(),
        (drawn(rng, [30], [1.0], 2.0)[0]["stat"] > 3.65).mean(),
    ]
    assert power[0] > 0.8 and power[1] < 0.2


def source(ds, digest):
    return ds.assign_attrs(source=digest)


REFUSED = [
    (lambda c: c[0], TypeError, "combine takes several contrasts, as a list or by name, got Dataset"),
    (lambda c: [c[0]], ValueError, "combine needs at least two contrasts, got 1"),
    (lambda c: [c[0], c[1]["effect"]], TypeError, "input '1' of combine must be a contrast"),
    (
        lambda c: {"x": c[0], "y": contrast_of(1, "a - rest")},
        ValueError,
        "differ in contrast: 'x' has 'a - b', 'y'",
    ),
    (
        lambda c: [c[0], contrast_of(1, measure="signed")],
        ValueError,
        "differ in measure: '0' has 'magnitude'",
    ),
    (lambda c: [c[0], c[1].isel(neuron=slice(4))], ValueError, "differ in neuron: '0' has 6 of them, '1' 4"),
    (
        lambda c: [c[0], c[1].assign_coords(layer=[3, 4])],
        ValueError,
        "differ in layer: .* numbered otherwise",
    ),
    (lambda c: [c[0], c[1].expand_dims("contrast")], ValueError, "differ in dims"),
    (
        lambda c: [contrast_of(i, [[1, -1, 0, 0], [0, 1, -1, 0]]) for i in (0, 1)],
        ValueError,
        "is an F contrast, which has no sign",
    ),
    (lambda c: [source(c[0], "d"), source(c[0], "d")], ValueError, "share 18 prompts of one recording"),
]


@pytest.mark.parametrize(("make", "error", "message"), REFUSED)
def test_combine__refuses(make, error, message, inputs, raise_if_computes):
    given = make(inputs)
    with raise_if_computes(), pytest.raises(error, match=message) as caught:
        combine(given)
    assert isinstance(caught.value, ActomeError)


def test_combine__refuses_texts_of_one_model_under_other_ids(inputs):
    def of(ds, weights, text):
        prompts = tuple((p, f"{text}{k:015d}") for k, p in enumerate(ds.attrs["selected_on"]))
        own = {"source": f"{ds.attrs['selected_on'][0]} {text}", "weights_digest": weights}
        return ds.assign_attrs(Selection(prompts).attrs, **own)

    first, other = inputs[:2]
    with pytest.raises(ActomeError, match="share 18 prompts of one recording or model"):
        combine([of(first, "m", "t"), of(other, "m", "t")])
    for weights, text in (("n", "t"), ("m", "u"), ("", "t")):  # another model, other texts, who knows
        made = combine([of(first, "m", "t"), of(other, weights, text)])
        assert len(made.attrs["selected_texts"]) == 36
    same_ids = [of(first, "m", "t"), of(first, "m", "u")]
    assert combine(same_ids).attrs["selected_on"] == 2 * first.attrs["selected_on"]


def test_combine__refuses_an_unknown_way(inputs):
    with pytest.raises(ValueError, match="how must be 'fixed' or 'random', got 'mixed'"):
        combine(inputs, how="mixed")


def test_combine__takes_disjoint_runs_of_one_recording():
    ds = phantom(n_prompts=12, n_tokens=(1, 5), n_layers=1, n_neurons=4).assign_attrs(manifest_digest="d")
    runs = {f"run {r}": ds.isel(prompt=np.flatnonzero(ds["run"] == r)) for r in (0, 1)}
    out = combine({name: compute_contrast(fit_glm(part), "a - b") for name, part in runs.items()})
    assert out.attrs["source"] == "d" and len(out.attrs["selected_on"]) == 36
    with dask.config.set(scheduler="synchronous"):
        assert np.isfinite(out["p_value"]).all()
