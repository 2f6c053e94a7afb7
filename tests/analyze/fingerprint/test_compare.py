"""Fingerprints: related models are told from others, at the stated error rate."""

import numpy as np
import pytest
import scipy.stats
import xarray as xr

from actome.analyze.fingerprint import fingerprint, signature
from actome.analyze.fingerprint.compare import _test
from actome.analyze.fingerprint.similarity import likeness, mean_correlation, ranked
from actome.analyze.threshold import Top
from actome.store.archive import open as open_result
from actome.store.errors import ActomeError
from actome.store.results import save_result

from .speakers import N_TOKENS, WIDTH, noisy, rearranged, speaker, split

N = 4
OPTIONS = {"n_components": N, "network": Top(0.05), "n_permutations": 40, "alpha": 0.1}


@pytest.fixture(scope="module")
def ds():
    return speaker()


@pytest.fixture(scope="module")
def own(ds):
    return signed(ds)


@pytest.fixture(scope="module")
def others():
    return [signed(speaker(seed)) for seed in range(1, 10)]


def signed(ds):
    return signature(ds, n_components=N, network=OPTIONS["network"])


def made_up(rng, n_networks=3, n_prompts=8, n_tokens=20):
    """A signature of noise whose neighbouring tokens are alike."""
    course = rng.standard_normal((n_prompts, n_tokens, n_networks))
    for t in range(1, n_tokens):
        course[:, t] = 0.8 * course[:, t - 1] + 0.6 * course[:, t]
    end = np.broadcast_to(np.arange(1, n_tokens + 1), (n_prompts, n_tokens))
    names = [f"ic{k}" for k in range(n_networks)]
    return xr.Dataset(
        {
            "course": (("prompt", "token", "network"), course),
            "size": ("network", np.full(n_networks, 5)),
            "char_start": (("prompt", "token"), end - 1),
            "char_end": (("prompt", "token"), end),
        },
        coords={"prompt": [f"p{i}" for i in range(n_prompts)], "network": names},
        attrs={"kind": "signature"},
    )


def test_fingerprint__of_a_rearranged_model_is_its_own(ds, own, others):
    result = fingerprint(own, rearranged(ds), unrelated=others, **OPTIONS)
    assert float(result["score"]) == pytest.approx(1.0, abs=1e-6) and float(result["share"]) == 1.0
    assert result.attrs["verdict"] == "related" and float(result["p_value"]) == 1 / 10
    assert result["matched"].all() and result.attrs["null_source"][0] == "sha256:1"
    same = fingerprint(own, own, unrelated=others, **OPTIONS)
    for found in (result, same):  # components have no order
        columns = [found["network_other"].to_numpy().tolist().index(p) for p in found["partner"].to_numpy()]
        found["correlation"][:] = found["correlation"].to_numpy()[:, columns]
    np.testing.assert_allclose(np.abs(result["correlation"]), np.abs(same["correlation"]), atol=1e-6)


@pytest.mark.parametrize("change", [split, lambda ds: noisy(ds, 1.0), lambda ds: ds.isel(layer=[0])])
def test_fingerprint__knows_a_model_by_its_courses(change, own, ds, others):
    result = fingerprint(own, change(ds), unrelated=others, **OPTIONS)
    assert result.attrs["verdict"] == "related"
    assert float(result["score"]) > 0.8


def test_fingerprint__does_not_take_another_model_for_it(own, others):
    result = fingerprint(own, others[0], unrelated=[*others[1:], signed(speaker(30))], **OPTIONS)
    assert result.attrs["verdict"] == "not shown" and float(result["share"]) == 0.0
    assert float(result["p_value"]) > 0.1 and float(result["score"]) <= float(result["critical"])
    shuffled = fingerprint(own, others[0], **OPTIONS)
    assert shuffled.attrs["verdict"] == "not shown"


def test_fingerprint__without_unrelated_models_shuffles_the_texts(own, ds):
    result = fingerprint(own, rearranged(ds), **OPTIONS)
    assert result.attrs["verdict"] == "alike" and "not follow the text" in result.attrs["assumption"]
    assert float(result["p_value"]) == pytest.approx(1 / 41) and result.sizes["draw"] == 40
    again = fingerprint(own, rearranged(ds), **OPTIONS)
    xr.testing.assert_identical(again, result)


def test_fingerprint__within_a_label_what_it_decides_counts_as_chance():
    # both models answer to the condition alone, token by token
    rng = np.random.default_rng(0)
    course = {c: rng.standard_normal((20, 3)) for c in "ab"}
    condition = list("ab") * 6
    a, b = made_up(rng, n_prompts=12), made_up(rng, n_prompts=12)
    for sig in (a, b):
        sig["course"] += 5 * np.stack([course[c] for c in condition])
    a, b = (s.assign_coords(condition=("prompt", condition)) for s in (a, b))
    assert fingerprint(a, b, n_permutations=60).attrs["verdict"] == "alike"
    assert fingerprint(a, b, n_permutations=60, within="condition").attrs["verdict"] == "not shown"


def test_fingerprint__too_few_unrelated_models_say_nothing(own, ds, others):
    result = fingerprint(own, rearranged(ds), unrelated=others[:4], **OPTIONS)
    assert result.attrs["verdict"] == "cannot say" and np.isnan(float(result["critical"]))
    assert float(result["p_value"]) == pytest.approx(1 / 5)


@pytest.mark.parametrize("n_cases", [20, pytest.param(300, marks=pytest.mark.slow)])
def test_fingerprint__errs_no_more_often_than_stated(n_cases):
    rng = np.random.default_rng(0)
    wrong = {"unrelated": 0, "shuffled": 0}
    for _ in range(n_cases):
        a, b, *rest = (made_up(rng, n_networks=2, n_prompts=4) for _ in range(11))
        for null, options in (("unrelated", {"unrelated": rest}), ("shuffled", {"n_permutations": 9})):
            result = fingerprint(a, b, alpha=0.1, **options)
            wrong[null] += float(result["p_value"]) <= 0.1
            assert float(result["p_value"]) <= 0.1 or result.attrs["verdict"] == "not shown"
    low, high = scipy.stats.binom.ppf([0.001, 0.999], n_cases, 0.1)
    assert all(low <= n <= high for n in wrong.values()), wrong


def given_sources(signatures):
    return [s.assign_attrs(source=f"sha256:{i}") for i, s in enumerate(signatures)]


def test_fingerprint__compares_with_models_described_alike_alone(rng):
    # scores rise as networks become fewer, so that a null of more of them calls too much related
    a, b, *rest = given_sources(made_up(rng, n_networks=k) for k in (5, 3, 3, 3, 3))
    assert fingerprint(a, b, unrelated=rest).sizes["draw"] == 3  # the first may be described otherwise
    with pytest.raises(ValueError, match=r"unrelated model 1 and the second .* n_components: 3 and 5"):
        fingerprint(a, a.copy(), unrelated=rest)
    for name, value in (("network", "Top(fraction=0.05)"), ("n_runs", 10), ("method", "group PCA")):
        made = [s.assign_attrs({name: "other" if isinstance(value, str) else 1}) for s in (b, *rest)]
        made[-1].attrs[name] = value
        with pytest.raises(ValueError, match=f"unrelated model 3 and the second model differ in {name}"):
            fingerprint(a, made[0], unrelated=made[1:])


def test_fingerprint__counts_an_unrelated_model_once(rng):
    a, b, c, d = given_sources(made_up(rng) for _ in range(4))
    for unrelated, message in (
        ([c, d, c], "unrelated model 3 is unrelated model 1 again"),
        ([c, a.copy()], "unrelated model 2 is the first model again"),
        ([b.assign_attrs(source_name="eve")], r"unrelated model 1 \(eve\) is the second model again"),
    ):
        with pytest.raises(ValueError, match=message):
            fingerprint(a, b, unrelated=unrelated)


def test_fingerprint__takes_as_many_networks_as_the_signatures_have(own, ds):
    few = {"network": OPTIONS["network"], "n_permutations": 2}
    assert fingerprint(own, ds, **few).sizes["network_other"] == N
    with pytest.raises(ValueError, match="n_components is 5, but a signature that was given has 4 networks"):
        fingerprint(own, ds, n_components=5, **few)


@pytest.mark.parametrize("n_prompts", [2, 3, 4])
def test_fingerprint__cannot_say_where_the_texts_have_too_few_orders(rng, n_prompts):
    a = made_up(rng, n_prompts=n_prompts)
    result = fingerprint(a, a, n_permutations=400)
    assert result.attrs["verdict"] == ("alike" if n_prompts == 4 else "cannot say")
    assert np.isnan(float(result["critical"])) == (n_prompts < 4)


def test_fingerprint__cannot_say_within_a_label_that_parts_all_texts(rng):
    a = made_up(rng)
    a = a.assign_coords(text=("prompt", [f"text {i}" for i in range(a.sizes["prompt"])]))
    assert fingerprint(a, a, within="text").attrs["verdict"] == "cannot say"


def test_mean_correlation__is_spearman_within_texts_counted_by_their_length(rng):
    A, B = ([rng.standard_normal((n, 2)).round(1) for n in (7, 12, 1)] for _ in range(2))
    expected = np.zeros((2, 2))
    for a, b in zip(A[:2], B[:2], strict=True):
        for i in range(2):
            for j in range(2):
                expected[i, j] += (len(a) - 1) * scipy.stats.spearmanr(a[:, i], b[:, j])[0] / 17
    np.testing.assert_allclose(mean_correlation(ranked(A), ranked(B)), expected, atol=1e-12)


def test_likeness__counts_networks_without_a_course_as_nothing(rng):
    a = [rng.standard_normal((9, 3)) for _ in range(4)]
    b = [c.copy() for c in a]
    for c in b:
        c[:, 1] = np.nan
        c[:, 2] *= -1
    found = likeness(ranked(a), ranked(b))
    assert found.pairs == [(0, 0), (2, 2)] and found.score == pytest.approx(2 / 3)
    assert found.correlation[2, 2] == pytest.approx(-1) and np.isnan(found.correlation[:, 1]).all()
    assert likeness(ranked(a), ranked([c[:, :2] for c in a])).score == pytest.approx(1)


@pytest.mark.parametrize(("n", "alpha", "beaten"), [(19, 0.05, 0), (39, 0.05, 1), (200, 0.05, 9)])
def test_test__the_critical_score_is_where_p_reaches_alpha(n, alpha, beaten):
    null = np.linspace(0, 1, n)
    critical = _test(0.5, null, alpha).critical
    assert critical == null[::-1][beaten]
    above, at = _test(critical + 1e-6, null, alpha), _test(critical, null, alpha)
    assert above.p_value <= alpha < at.p_value
    assert (above.verdict, at.verdict) == ("above", "not shown")


def test_fingerprint__takes_signatures_from_disk(own, ds, others, tmp_path):
    path = save_result(own, tmp_path / "own.zarr")
    kept = fingerprint(open_result(path), rearranged(ds), unrelated=others[:2], **OPTIONS)
    xr.testing.assert_allclose(kept, fingerprint(own, rearranged(ds), unrelated=others[:2], **OPTIONS))
    save_result(kept, tmp_path / "fingerprint.zarr")
    assert open_result(tmp_path / "fingerprint.zarr").attrs["verdict"] == "cannot say"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"match": 1.5}, "match must lie between 0 and 1"),
        ({"alpha": 0.0}, "alpha must lie between 0 and 1"),
        ({"n_permutations": 0}, "n_permutations must be at least 1, got 0"),
        ({"n_permutations": 2.5}, "n_permutations must be a whole number, got 2.5"),
        ({"n_components": 0}, "n_components must be at least 1, got 0"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"within": "mood"}, "within must be a label of the prompts, got 'mood'"),
        ({"unrelated": [3]}, "takes recordings, or signatures of them, got int"),
    ],
)
def test_fingerprint__refuses(options, message, own):
    with pytest.raises((TypeError, ValueError), match=message) as caught:
        fingerprint(own, own, **options)
    assert isinstance(caught.value, ActomeError)


def test_fingerprint__refuses_a_recording_before_it_decomposes_another(ds, raise_if_computes):
    with raise_if_computes(), pytest.raises(ValueError, match="the recording has no char_end"):
        fingerprint(ds, ds.drop_vars("char_end"))


def test_fingerprint__refuses_other_texts(own):
    with pytest.raises(ValueError, match="have 0 prompts in common"):
        fingerprint(own, own.assign_coords(prompt=own["prompt"].to_numpy().astype(object) + "x"))


def test_spans__of_the_test_texts_are_words_after_spaces(ds):
    assert int(ds["char_end"][0, -1]) == N_TOKENS * WIDTH and int(ds["char_start"][0, 0]) == 1
