import numpy as np
import pytest
import scipy.stats
import xarray as xr
from nilearn.connectome import ConnectivityMeasure
from sklearn.covariance import EmpiricalCovariance, LedoitWolf

from actome.analyze.connectivity.correlations import connectivity
from actome.analyze.connectivity.kernels import correlations
from actome.analyze.subjects.time_courses import network_time_courses
from actome.store.archive import open as open_result
from actome.store.errors import ActomeError
from actome.store.phantom import phantom
from actome.store.results import save_result


def made(rng, n_prompts=12, n_tokens=(8, 20), n_networks=4, mixing=None) -> xr.Dataset:
    """Courses (network, prompt, token) of correlated noise, ragged, with conditions and runs."""
    lengths = rng.integers(*n_tokens, size=n_prompts, endpoint=True)
    course = rng.standard_normal((n_prompts, n_tokens[1], n_networks))
    course = course @ (rng.standard_normal((n_networks, n_networks)) if mixing is None else mixing)
    course[np.arange(n_tokens[1]) >= lengths[:, None]] = np.nan
    return xr.Dataset(
        {"time_course": (("prompt", "token", "network"), course)},
        coords={
            "prompt": [f"p{i}" for i in range(n_prompts)],
            "condition": ("prompt", np.array(["a", "b"], dtype=object)[np.arange(n_prompts) % 2]),
            "run": ("prompt", np.arange(n_prompts) // 2 % 2),
            "network": np.array([f"n{i}" for i in range(n_networks)], dtype=object),
        },
        attrs={"kind": "time_courses", "source": "sha256:0", "source_name": "made", "site": "mlp"},
    )


@pytest.fixture
def courses(rng):
    return made(rng)


def rows(courses):
    """The valid tokens of each prompt: (token, network) each."""
    cube = courses["time_course"].transpose("prompt", "token", "network").to_numpy()
    return [prompt[~np.isnan(prompt).any(axis=1)] for prompt in cube]


@pytest.mark.parametrize("partial", [False, True])
@pytest.mark.parametrize("shrinkage", [None, "ledoit_wolf"])
def test_connectivity__is_that_of_nilearn_in_every_prompt(partial, shrinkage, courses):
    reference = ConnectivityMeasure(
        kind="partial correlation" if partial else "correlation",
        cov_estimator=LedoitWolf(store_precision=False)
        if shrinkage
        else EmpiricalCovariance(store_precision=False),
        standardize="zscore_population" if shrinkage else False,
    )
    got = connectivity(courses, partial=partial, shrinkage=shrinkage)["fisher_z"].to_numpy()
    for z, X in zip(got, rows(courses), strict=True):
        expected = reference.fit_transform([scipy.stats.zscore(X)])[0]
        off = ~np.eye(4, dtype=bool)
        np.testing.assert_allclose(np.tanh(z)[off], expected[off], atol=1e-10)
        assert np.isnan(z.diagonal()).all()


def test_connectivity__averages_prompts_by_fisher_z_with_their_interval(courses):
    got = connectivity(courses)
    for i, name in enumerate("ab"):
        z = np.stack([np.arctanh(np.corrcoef(X.T)[0, 1]) for X in rows(courses)[i::2]])
        low, high = scipy.stats.t.interval(0.95, len(z) - 1, z.mean(), scipy.stats.sem(z))
        edge = got.sel(condition=name, network="n0", network_other="n1")
        assert float(edge["correlation"]) == pytest.approx(np.tanh(z.mean()))
        assert (float(edge["low"]), float(edge["high"])) == pytest.approx((np.tanh(low), np.tanh(high)))
        assert int(edge["n_prompts"]) == len(z)
        assert (got["correlation"].sel(condition=name).to_numpy().diagonal() == 1).all()


def test_connectivity__gives_each_prompt_one_vote_whatever_its_length(rng):
    long, short = (made(rng, 6, (n, n)).pad(token=(0, 40 - n)) for n in (40, 5))
    both = xr.concat([long, short.assign_coords(prompt=[f"s{i}" for i in range(6)])], "prompt")
    alone = [connectivity(c, by=None)["fisher_z"].mean("prompt") for c in (long, short)]
    joint = connectivity(both, by=None)
    np.testing.assert_allclose(np.arctanh(joint["correlation"][0, 0, 1]), (alone[0] + alone[1])[0, 1] / 2)


def test_connectivity__does_not_depend_on_the_order_of_prompts_or_on_chunks(courses, rng):
    order = rng.permutation(12)
    got = connectivity(courses.isel(prompt=order).chunk(prompt=5, network=1), partial=True)
    expected = connectivity(courses, partial=True)
    np.testing.assert_allclose(got["correlation"], expected["correlation"], atol=1e-12)
    np.testing.assert_array_equal(got["fisher_z"], expected["fisher_z"][order])


def test_connectivity__recovers_a_planted_chain_only_with_partial_correlations(rng):
    precision = np.eye(4) + 0.4 * (np.eye(4, k=1) + np.eye(4, k=-1))  # neighbours alone depend on each other
    mixing = np.linalg.cholesky(np.linalg.inv(precision)).T
    long = made(rng, 20, (300, 400), mixing=mixing)
    partial = connectivity(long, by=None, partial=True)["correlation"][0].to_numpy()
    np.testing.assert_allclose(partial[np.triu_indices(4, 2)], 0.0, atol=0.03)
    np.testing.assert_allclose(partial.diagonal(1), -0.4, atol=0.03)
    full = connectivity(long, by=None)["correlation"][0].to_numpy()
    assert (np.abs(full[np.triu_indices(4, 2)]) > 0.05).all()


def test_connectivity__leaves_out_what_has_too_few_tokens_or_never_varies(courses):
    courses = courses.transpose("prompt", "token", "network").copy(deep=True)
    values = courses["time_course"].to_numpy()
    values[0, 3:] = np.nan
    values[1, :, 2] = np.where(np.isnan(values[1, :, 2]), np.nan, 0.1)
    got = connectivity(courses)
    z = got["fisher_z"].to_numpy()
    assert np.isnan(z[0]).all() and got.attrs["n_left_out"] == 1
    assert np.isnan(z[1, 2]).all() and np.isfinite(z[1, 0, [1, 3]]).all()
    assert got["n_prompts"].sel(condition="a")[0, 1] == 5
    assert got["n_prompts"].sel(condition="b")[0, 1:].to_numpy().tolist() == [6, 5, 6]


def test_connectivity__of_an_empty_network_is_missing_and_of_others_the_same(courses):
    empty = courses.copy(deep=True)
    empty["time_course"][{"network": 1}] = np.nan
    got, expected = (
        connectivity(empty, partial=True),
        connectivity(courses.isel(network=[0, 2, 3]), partial=True),
    )
    assert got["fisher_z"].isel(network=1).isnull().all()
    kept = {"network": [0, 2, 3], "network_other": [0, 2, 3]}
    np.testing.assert_allclose(got["correlation"].isel(kept), expected["correlation"], atol=1e-12)


def test_correlations__of_equal_courses_are_missing_where_the_others_are_held_fixed(rng):
    X = rng.standard_normal((30, 3))
    X[:, 1] = -2 * X[:, 0]
    assert correlations(X, False, None)[0, 1] == -1.0
    assert np.isnan(correlations(X, True, None)).all()
    assert np.isfinite(correlations(X, True, "ledoit_wolf")).all()


def test_connectivity__takes_network_courses_of_a_recording_and_is_saved(tmp_path):
    ds = phantom(n_prompts=3, n_tokens=(6, 9), n_networks=3)
    got = connectivity(network_time_courses(ds, ds["true_network"]))
    assert got["correlation"].dims == ("condition", "network", "network_other")
    assert got["prompt_condition"].to_numpy().tolist() == ds["condition"].to_numpy().tolist()
    opened = open_result(save_result(got, tmp_path / "c.zarr")).load()
    xr.testing.assert_allclose(opened, got)
    assert opened.attrs["kind"] == "connectivity"


@pytest.mark.parametrize(
    ("given", "names"), [([4, 2, 0, 1], ["ic4", "ic2", "ic0", "ic1"]), (list("wxyz"), list("wxyz"))]
)
def test_connectivity__is_of_networks_called_as_their_components(given, names, courses):
    own = courses.rename(network="component").isel(component=slice(4)).assign_coords(component=given)
    assert connectivity(own)["network"].to_numpy().tolist() == names


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (lambda c: c["time_course"], {}, "connectivity takes courses from"),
        (lambda c: c.isel(network=[0]), {}, "between networks, two at least; got 1"),
        (lambda c: c, {"by": "session"}, "no label 'session' of the prompts; they have"),
        (lambda c: c, {"shrinkage": "oas"}, "shrinkage must be None or 'ledoit_wolf', got 'oas'"),
        (lambda c: c.isel(token=slice(3)), {}, "no prompt has 4 tokens .* the longest has 3"),
        (
            lambda c: c.isel(token=slice(5)),
            {"partial": True},
            "no prompt has 6 tokens .* take shrinkage='ledoit_wolf'",
        ),
    ],
)
def test_connectivity__refuses(make, options, message, courses):
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        connectivity(make(courses), **options)
    assert isinstance(caught.value, ActomeError)
