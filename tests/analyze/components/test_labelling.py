import numpy as np
import pytest
import xarray as xr

from actome.analyze.components.labelling import label_components
from actome.analyze.contrasts import compute_contrast
from actome.analyze.glm import fit_glm
from actome.analyze.permutation.max_t import permutation_test
from actome.analyze.permutation.prompt_values import permute_prompt_values
from actome.analyze.subjects.dual_regression import dual_regression
from actome.store.archive import open as open_result
from actome.store.errors import ActomeError
from actome.store.phantom import phantom
from actome.store.results import save_result


@pytest.fixture(scope="module")
def ds():
    return phantom(n_prompts=10, n_tokens=(5, 9), n_layers=2, n_neurons=60, effect=2.0, fraction=0.08, seed=2)


@pytest.fixture(scope="module")
def components(ds):
    """The neurons that condition a raises, those that b raises, and noise."""
    rng = np.random.default_rng(0)
    maps = np.stack([*(ds["true_effect"].to_numpy()[:2] / 2), rng.random((2, 60))])
    maps -= maps.mean(axis=(1, 2), keepdims=True)
    maps /= maps.std(axis=(1, 2), keepdims=True)
    return xr.Dataset(
        {"component_map": (("component", "layer", "neuron"), maps)},
        coords={
            "component": np.arange(3),
            "layer": ds["layer"].to_numpy(),
            "neuron": ds["neuron"].to_numpy(),
        },
        attrs={"kind": "components", "source": "sha256:0"},
    )


@pytest.fixture(scope="module")
def courses(ds, components):
    return dual_regression(ds, components)


@pytest.fixture(scope="module")
def labelled(components, courses):
    return label_components(components, courses, n_permutations=199)


def test_label_components__names_the_conditions_that_were_planted(labelled):
    assert labelled["label"].to_numpy().tolist() == ["a", "b", ""]
    assert labelled["label_sign"].to_numpy().tolist() == [1, 1, 0]
    assert labelled["correlation"].sel(component=0, condition="a") > 0.7
    assert labelled.attrs["exchangeability"].endswith("exchangeable between prompts of one run")
    assert labelled.attrs["kind"] == "component_labels"


def test_label_components__says_when_a_component_falls_in_its_condition(components, courses):
    turned = courses.assign(time_course=-courses["time_course"])
    got = label_components(components, turned, n_permutations=199)
    assert got["label"].to_numpy().tolist() == ["a", "b", ""]
    assert got["label_sign"].to_numpy().tolist() == [-1, -1, 0]


def test_label_components__correlates_the_mean_courses_of_prompts(labelled, courses):
    means = courses["time_course"].mean("token")
    for name in ("a", "b", "rest"):
        for k in range(3):
            r = np.corrcoef(means.sel(component=k), courses["condition"] == name)[0, 1]
            assert float(labelled["correlation"].sel(component=k, condition=name)) == pytest.approx(r)


def test_label_components__p_is_that_of_each_condition_against_the_others_over_all_components(
    labelled, courses
):
    means = courses["time_course"].mean("token").transpose("prompt", "component")
    tested = permute_prompt_values(means, "b - mean(a, rest)", n_permutations=199)
    np.testing.assert_allclose(labelled["p_value"].sel(condition="b"), tested["p_value"])
    np.testing.assert_allclose(
        labelled["p_corrected"].sel(condition="b"), np.minimum(1, 3 * tested["p_corrected"])
    )


def test_label_components__knows_the_contrasts_that_a_map_looks_like(ds, components):
    fit = fit_glm(ds, measure="signed")
    contrasts = {c: compute_contrast(fit, f"{c} - mean(rest)") for c in "ab"}
    got = label_components(components, contrasts=contrasts)
    assert got["map_label"].to_numpy().tolist()[:2] == ["a", "b"]
    maps = (components["component_map"][0], contrasts["b"]["z_score"])
    expected = np.corrcoef(*(m.to_numpy().ravel() for m in maps))[0, 1]
    assert float(got["map_correlation"].sel(component=0, contrast="b")) == pytest.approx(expected)
    one = label_components(components, contrasts=contrasts["a"])
    assert one["contrast"].to_numpy().tolist() == ["a - mean(rest)"]


def test_label_components__of_two_conditions_are_one_test(components, courses):
    two = courses.isel(prompt=np.flatnonzero(courses["condition"] != "rest"))
    got = label_components(components, two, n_permutations=99)
    np.testing.assert_allclose(got["p_corrected"].sel(condition="a"), got["p_corrected"].sel(condition="b"))
    np.testing.assert_allclose(got["correlation"].sel(condition="a"), -got["correlation"].sel(condition="b"))
    assert got["p_corrected"].min() == 0.01
    assert got["label"].to_numpy()[:2].tolist() == ["a", "b"] and (got["label_sign"][:2] == 1).all()


@pytest.mark.slow
def test_label_components__gives_noise_a_label_at_the_stated_rate():
    false = 0
    for seed in range(150):
        null = phantom(
            n_prompts=6, n_tokens=(4, 6), n_layers=1, n_neurons=40, effect=0.0, prompt_sd=0.5, seed=seed
        )
        maps = np.random.default_rng(seed).standard_normal((4, 1, 40))
        made = xr.Dataset(
            {"component_map": (("component", "layer", "neuron"), maps)},
            coords={"component": range(4), "layer": [0], "neuron": range(40)},
        )
        got = label_components(made, dual_regression(null, made), n_permutations=199, seed=seed)
        false += bool((got["p_corrected"] <= 0.05).any())
    assert false <= 15  # 99 % point of the binomial at .05


def test_label_components__defines_a_course_that_never_changes(components, courses):
    flat = courses.copy(deep=True)
    flat["time_course"][{"component": 1}] = flat["time_course"].isel(component=1) * 0 + 3
    got = label_components(components, flat, n_permutations=99)
    assert got["correlation"].sel(component=1).isnull().all() and got["label"][1] == ""
    assert got["label"][0] == "a"


def test_label_components__are_saved_and_opened(labelled, tmp_path):
    again = open_result(save_result(labelled, tmp_path / "l.zarr")).load()
    assert again["label"].to_numpy().tolist() == ["a", "b", ""]
    np.testing.assert_array_equal(again["p_corrected"], labelled["p_corrected"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (lambda c: {}, "needs courses .* or contrasts to label by"),
        (lambda c: {"courses": c, "seed": -1}, "seed must be at least 0, got -1"),
        (lambda c: {"courses": c, "by": "session"}, "the courses have no label 'session'"),
        (lambda c: {"courses": c.isel(component=[0])}, "the courses are not of these components"),
        (lambda c: {"courses": c, "confounds": ["sesion"]}, r"\['sesion'\], which the recording lacks"),
        (
            lambda c: {"courses": c.drop_vars("n_tokens"), "confounds": ["n_tokens"]},
            "do not say how many tokens a prompt has",
        ),
        (lambda c: {"courses": xr.Dataset()}, "courses must come from actome.dual_regression"),
        (lambda c: {"courses": c.isel(prompt=c["condition"] == "a")}, "must have two values or more"),
        (lambda c: {"contrasts": {"x": xr.Dataset()}}, "contrast 'x' must come from"),
    ],
)
def test_label_components__refuses(options, message, components, courses):
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        label_components(components, **options(courses))
    assert isinstance(caught.value, ActomeError)


def test_permute_prompt_values__is_the_permutation_test_of_the_same_numbers(ds):
    values = abs(ds["activation"]).mean("token").isel(layer=1).transpose("prompt", "neuron")
    got = permute_prompt_values(values, "a - rest", n_permutations=50, seed=3, two_sided=True)
    options = {"n_permutations": 50, "seed": 3, "two_sided": True}
    expected = permutation_test(ds.isel(layer=[1]), "a - rest", unit="prompt", **options)
    for name in ("effect", "stat", "p_value", "p_corrected"):
        np.testing.assert_allclose(got[name], expected[name][0], rtol=1e-5)
