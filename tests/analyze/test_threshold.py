import re

import numpy as np
import pytest
import scipy.stats
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from statsmodels.stats.multitest import multipletests

from actome.analyze.contrasts import compute_contrast
from actome.analyze.glm import fit_glm
from actome.analyze.permutation import permutation_test
from actome.analyze.threshold import P, Top, Z, read_control, threshold, top_fraction
from actome.store.errors import ActomeError, InputError
from actome.store.phantom import phantom

METHODS = {"fdr": "fdr_bh", "by": "fdr_by", "bonferroni": "bonferroni"}


def stat_map(z):
    """A contrast whose t is normal: (layer, neuron)."""
    dims = ("layer", "neuron")
    p = 2 * scipy.stats.norm.sf(np.abs(z))
    return xr.Dataset(
        {"stat": (dims, z), "p_value": (dims, p), "z_score": (dims, z)}, attrs={"selected_on": ["p0"]}
    )


@pytest.fixture
def null_and_signal(rng):
    z = rng.standard_normal((4, 50))
    z[:, :6] += 5
    z[:, 6:9] -= 5
    z[0, 0] = z[3, 49] = np.nan
    return stat_map(z)


@pytest.mark.parametrize("control", METHODS)
@pytest.mark.parametrize("two_sided", [False, True])
@pytest.mark.parametrize("alpha", [0.001, 0.05, 0.3])
def test_threshold__agrees_with_statsmodels(control, two_sided, alpha, null_and_signal):
    mask = threshold(null_and_signal, control=control, alpha=alpha, two_sided=two_sided).to_numpy().ravel()
    z = null_and_signal["stat"].to_numpy().ravel()
    tested = ~np.isnan(z)
    p = 2 * scipy.stats.norm.sf(np.abs(z)) if two_sided else scipy.stats.norm.sf(z)
    assert mask[tested].tolist() == multipletests(p[tested], alpha, METHODS[control])[0].tolist()
    assert not mask[~tested].any()
    assert 0 < mask.sum() < tested.sum()


@pytest.mark.parametrize(("control", "method"), [("fdr", "bh"), ("by", "by")])
def test_threshold__agrees_with_scipy_on_the_tests_that_there_are(control, method, null_and_signal):
    mask = threshold(null_and_signal, control=control, two_sided=True).to_numpy()
    p = null_and_signal["p_value"].to_numpy()
    expected = scipy.stats.false_discovery_control(p[~np.isnan(p)], method=method) <= 0.05
    assert mask[~np.isnan(p)].tolist() == expected.tolist()
    assert 0 < expected.sum() < expected.size


def permuted(stat, p_corrected, **attrs):
    """What a permutation test gives: (layer, neuron), one layer."""
    dims = ("layer", "neuron")
    values = {"stat": [stat], "p_value": [p_corrected], "p_corrected": [p_corrected]}
    return xr.Dataset({k: (dims, np.array(v)) for k, v in values.items()}, attrs=attrs)


def test_threshold__maxt_keeps_what_the_permutations_corrected():
    ds = permuted([4.0, 3.0, 2.0, -4.0, np.nan], [0.01, 0.05, 0.0501, 0.01, np.nan])
    assert threshold(ds, control="maxt").to_numpy().tolist() == [[True, True, False, False, False]]
    assert threshold(ds, control="maxt", alpha=0.02).to_numpy().sum() == 1
    both = threshold(ds, control="maxt", two_sided=True)
    assert both.to_numpy().tolist() == [[True, True, False, True, False]]
    xr.testing.assert_identical(threshold(ds.chunk(neuron=2), control="maxt", two_sided=True), both)


@pytest.mark.parametrize("two_sided", [False, True])
def test_threshold__maxt_takes_a_permutation_test(two_sided):
    ds = phantom(n_prompts=10, n_tokens=(2, 4), n_layers=2, n_neurons=20, effect=3.0, seed=4)
    tested = permutation_test(
        ds, "rest - a", measure="signed", n_permutations=99, two_sided=two_sided, confounds=()
    )
    mask = threshold(tested, control="maxt", two_sided=two_sided)
    expected = (tested["p_corrected"] <= 0.05) & (two_sided | (tested["stat"] > 0))
    np.testing.assert_array_equal(mask, expected)
    assert mask.any() == two_sided  # what was planted is lower in rest
    assert mask.attrs["assumption"] == tested.attrs["exchangeability"]


def test_threshold__maxt_refuses_what_was_not_tested(null_and_signal):
    with pytest.raises(ValueError, match=r"needs p_corrected; the map has .*'p_value', 'stat'"):
        threshold(null_and_signal, control="maxt")
    one_side = permuted([4.0], [0.01], two_sided=False)
    with pytest.raises(ValueError, match="the permutation test was of one side; repeat it"):
        threshold(one_side, control="maxt", two_sided=True)
    assert threshold(one_side, control="maxt").all()


@pytest.mark.parametrize(
    ("control", "assumption"),
    [
        ("fdr", "independent or positively dependent"),
        ("by", "none: .* under any dependence"),
        ("bonferroni", "none: .* under any dependence"),
        ("maxt", "^prompts are exchangeable within runs$"),
        (P(0.01), "none: .* no error rate of the map"),
        (Z(3.0), "none: .* no error rate of the map"),
        (Top(0.5), "none: no error rate is controlled"),
    ],
)
def test_threshold__says_what_its_control_rests_on(control, assumption):
    ds = permuted([4.0, 1.0], [0.01, 0.5], exchangeability="prompts are exchangeable within runs")
    attrs = threshold(ds, control=control, alpha=0.1).attrs
    assert re.search(assumption, attrs["assumption"])
    assert attrs["two_sided"] is False
    named = isinstance(control, str)
    assert attrs["control"] == (control if named else repr(control))
    assert attrs.get("alpha") == (0.1 if named else None)


@pytest.mark.parametrize("two_sided", [False, True])
def test_threshold__typed_thresholds_mean_what_they_say(two_sided, null_and_signal):
    z = null_and_signal["stat"].to_numpy()
    strong = np.abs(z) if two_sided else z
    tail = scipy.stats.norm.sf(np.abs(z)) * 2 if two_sided else scipy.stats.norm.sf(z)
    expected = {Z(3.1): strong >= 3.1, P(0.01): tail <= 0.01}
    expected[Top(0.1)] = strong >= np.sort(strong[~np.isnan(strong)])[-round(0.1 * 198)]
    for control, kept in expected.items():
        mask = threshold(null_and_signal, control=control, two_sided=two_sided)
        assert mask.to_numpy().tolist() == kept.tolist()
        assert mask.attrs["control"] == repr(control)
        without = threshold(null_and_signal.drop_vars("z_score"), control=control, two_sided=two_sided)
        xr.testing.assert_equal(mask, without)


def test_threshold__finds_z_where_p_vanishes():
    ds = stat_map(np.array([[50.0, 37.0, -50.0, 0.0]])).assign(
        z_score=(("layer", "neuron"), [[37.5, 37.0, -37.5, 0.0]])
    )
    assert threshold(ds, control=Z(37.2)).to_numpy().tolist() == [[True, False, False, False]]
    assert threshold(ds, control=Z(37.2), two_sided=True).to_numpy().tolist() == [[True, False, True, False]]


def test_threshold__of_f_has_one_side(null_and_signal):
    f = null_and_signal.map(abs, keep_attrs=True).assign_coords(dof_numerator=2)
    one, two = (threshold(f, two_sided=side) for side in (False, True))
    assert one.to_numpy().tolist() == two.to_numpy().tolist()
    p = f["p_value"].to_numpy().ravel()
    expected = multipletests(p[~np.isnan(p)], 0.05, "fdr_bh")[0]
    assert one.to_numpy().ravel()[~np.isnan(p)].tolist() == expected.tolist()


def test_threshold__takes_every_map_as_a_family_of_its_own(rng):
    maps = [stat_map(rng.standard_normal((3, 20)) + shift) for shift in (0, 4)]
    both = xr.concat(maps, "contrast").transpose("layer", "contrast", "neuron")
    for control in ("fdr", Top(0.1)):
        masks = threshold(both, control=control)
        for i, ds in enumerate(maps):
            assert (
                masks.isel(contrast=i).to_numpy().tolist()
                == threshold(ds, control=control).to_numpy().tolist()
            )


@given(
    hnp.arrays(float, (2, 12), elements=st.floats(-6, 6).map(lambda v: round(v, 3)) | st.just(np.nan)),
    st.permutations(range(12)),
    st.sampled_from(["fdr", "by", "bonferroni", P(0.01), Z(2.0)]),
    st.booleans(),
)
def test_threshold__does_not_depend_on_the_order_of_neurons(z, order, control, two_sided):
    a = threshold(stat_map(z[:, order]), control=control, two_sided=two_sided).to_numpy()
    assert (
        a.tolist()
        == threshold(stat_map(z), control=control, two_sided=two_sided).to_numpy()[:, order].tolist()
    )


def test_threshold__is_the_same_lazy_or_not(null_and_signal):
    lazy = threshold(null_and_signal.chunk(layer=1, neuron=7))
    assert lazy.chunks is None
    xr.testing.assert_identical(lazy, threshold(null_and_signal))
    assert lazy.attrs["selected_on"] == ["p0"]


def test_threshold__keeps_nothing_where_there_is_no_test():
    ds = stat_map(np.full((2, 3), np.nan))
    for control in ("fdr", "by", "bonferroni", P(0.5), Z(0.1), Top(0.9)):
        mask = threshold(ds, control=control)
        assert mask.dtype == bool and not mask.any()


def test_threshold__bonferroni_holds_the_family_wise_rate():
    family, alpha, false = 20, 0.1, []
    for seed in range(2):
        ds = phantom(
            n_prompts=8, n_layers=4, n_neurons=500, effect=0.0, prompt_sd=0.5, autocorrelation=0.5, seed=seed
        )
        contrast = compute_contrast(fit_glm(ds, noise="cr2"), "a - b").compute()
        stacked = xr.concat(
            [contrast.isel(neuron=slice(i, i + family)).drop_vars("neuron") for i in range(0, 500, family)],
            "family",
        )
        stacked = stacked.expand_dims("one").rename(layer="other", one="layer")
        false.append(
            threshold(stacked, control="bonferroni", alpha=alpha).any(("layer", "neuron")).to_numpy().ravel()
        )
    # neurons are independent, so the rate is 1 - (1 - alpha / 20)^20
    rate = 1 - (1 - alpha / family) ** family
    assert np.size(false) == 200
    assert abs(np.mean(false) - rate) < 3 * np.sqrt(rate * (1 - rate) / np.size(false))


@pytest.mark.parametrize("control", ["fdr", "by"])
def test_threshold__holds_the_share_of_false_discoveries(control, rng):
    shares = []
    for _ in range(60):
        z = rng.standard_normal((1, 300))
        z[0, :30] += 4
        kept = threshold(stat_map(z), control=control, alpha=0.2).to_numpy()[0]
        assert kept[:30].sum() > 15
        shares.append(kept[30:].sum() / kept.sum())
    expected = 0.2 * 0.9 / (1 if control == "fdr" else np.sum(1 / np.arange(1, 301)))
    assert abs(np.mean(shares) - expected) < 3 * np.std(shares) / np.sqrt(len(shares))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: P(0), ValueError, "P must lie between 0 and 1, got 0"),
        (lambda: P(1.0), ValueError, "P must lie between 0 and 1"),
        (lambda: P(float("nan")), ValueError, "P must lie between 0 and 1"),
        (lambda: P("0.1"), TypeError, "P takes a number, got '0.1'"),
        (lambda: Top(-0.1), ValueError, "Top must lie between 0 and 1"),
        (lambda: Top(10), ValueError, "Top must lie between 0 and 1, got 10"),
        (lambda: Top(True), TypeError, "Top takes a number"),
        (lambda: Z(0), ValueError, "Z takes a positive number"),
        (lambda: Z(-3.1), ValueError, "Z takes a positive number .* got -3.1"),
        (lambda: Z(float("inf")), ValueError, "Z takes a positive number"),
        (lambda: Z(float("nan")), ValueError, "Z takes a positive number"),
        (lambda: Z(None), TypeError, "Z takes a number, got None"),
    ],
)
def test_typed_threshold__refuses(make, error, message):
    with pytest.raises(error, match=message) as caught:
        make()
    assert isinstance(caught.value, ActomeError)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"alpha": 0}, ValueError, "alpha must lie between 0 and 1, got 0"),
        ({"alpha": 1.5}, ValueError, "alpha must lie between 0 and 1"),
        ({"alpha": "0.05"}, TypeError, "alpha takes a number"),
        ({"control": "holm"}, ValueError, "control must be 'fdr', .* got 'holm'"),
        ({"control": 0.05}, ValueError, "control must be"),
        ({"control": None}, ValueError, "control must be"),
    ],
)
def test_threshold__refuses(options, error, message, null_and_signal):
    with pytest.raises(error, match=message) as caught:
        threshold(null_and_signal, **options)
    assert isinstance(caught.value, ActomeError)


def test_threshold__refuses_what_is_no_map(null_and_signal):
    with pytest.raises(TypeError, match="takes a contrast from"):
        threshold(null_and_signal["stat"])
    with pytest.raises(TypeError, match="takes a contrast from"):
        threshold(null_and_signal[["stat"]])
    with pytest.raises(ValueError, match=r"stat must have dims \(..., layer, neuron\), got \('neuron',\)"):
        threshold(null_and_signal.isel(layer=0))


@given(hnp.arrays(float, (3, 7), elements=st.floats(-3, 3) | st.just(np.nan)), st.floats(0.01, 0.99))
def test_top_fraction__keeps_the_largest(values, fraction):
    mask = top_fraction(values, fraction)
    usable = ~np.isnan(values)
    assert mask.sum() == min(max(1, round(fraction * usable.sum())), usable.sum())
    assert not mask[~usable].any()
    if mask.any() and (usable & ~mask).any():
        assert values[mask].min() >= values[usable & ~mask].max()


def test_threshold__says_how_many_neurons_have_no_value():
    ds = phantom(n_prompts=6, n_tokens=(2, 5), n_layers=2, n_neurons=20, seed=1)
    ds["activation"][{"layer": 1, "neuron": 4}] = 0.0  # never varies, which is no lack
    contrast = compute_contrast(fit_glm(ds), "a - b")
    assert not threshold(contrast).isel(layer=1, neuron=4)
    for neuron, value in ((3, np.nan), (7, np.inf)):
        ds["activation"][{"prompt": 2, "token": 0, "layer": 0, "neuron": neuron}] = value
    contrast = compute_contrast(fit_glm(ds), "a - b")
    with np.errstate(invalid="ignore"), pytest.warns(UserWarning, match="2 of 40 neurons have no value"):
        mask = threshold(contrast, control=Top(0.9))
    assert not mask.values[0, [3, 7]].any()


@pytest.mark.parametrize("control", ["fdr", "by", "bonferroni", "maxt", P(0.001), Z(3.1), Top(0.01)])
def test_read_control__reads_names_and_what_results_keep(control):
    assert read_control(control if isinstance(control, str) else repr(control)) == control


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("FDR", "the control is fdr, by, .* got 'FDR'"),
        ("Top", r"or Top\(0.01\), got 'Top'"),
        ("OfMaximum(0.5)", "the control is"),
        ("Top(a)", "the control is"),
        ("Z(1, 2)", "the control is"),
        ("Z(nan)", "Z takes a positive number"),
        ("P(5)", "P must lie between 0 and 1, got 5"),
    ],
)
def test_read_control__refuses(text, message):
    with pytest.raises(InputError, match=message):
        read_control(text)
