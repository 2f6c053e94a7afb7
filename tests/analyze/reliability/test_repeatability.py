import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from actome.analyze.condition_maps import means, read_labels
from actome.analyze.contrasts import compute_contrast
from actome.analyze.glm import fit_glm
from actome.analyze.overlap import overlap
from actome.analyze.reliability.repeatability import repeatability
from actome.analyze.threshold import P, Top, Z, threshold
from actome.store.archive import open as open_recording
from actome.store.blocks import prompt_level
from actome.store.errors import ActomeError
from actome.store.phantom import phantom
from tests.strategies import chunkings

FEW = {"n_permutations": 19, "network": Top(0.1)}
CONDITIONS = ("a", "b", "c", "rest")


@pytest.fixture(scope="module")
def planted():
    return phantom(
        conditions=CONDITIONS, n_prompts=12, n_runs=3, n_layers=2, n_neurons=40, fraction=0.1, effect=0.8,
        prompt_sd=0.2, seed=5,
    )  # fmt: skip


def glm_maps(ds, weights, measure="magnitude"):
    """Contrasts of one run at a time, by the GLM: (map, layer, neuron), runs outermost."""
    maps = []
    for run in np.unique(ds["run"]):
        own = ds.isel(prompt=np.flatnonzero(ds["run"] == run))
        fit = fit_glm(own, measure=measure, unit="prompt", noise="ols", confounds=())
        maps += [compute_contrast(fit, w) for w in weights]
    return xr.concat(maps, "network").assign_coords(network=range(len(maps)))


def others(names):
    return [{n: 1.0 if n == c else -1 / (len(names) - 1) for n in names} for c in names]


@pytest.mark.parametrize("network", [Top(0.1), P(0.05), Z(2.0), "fdr", "by", "bonferroni"])
@pytest.mark.parametrize("measure", ["magnitude", "signed"])
def test_repeatability__maps_are_those_of_the_glm_threshold_and_overlap(network, measure, planted):
    result = repeatability(planted, network=network, measure=measure, n_permutations=1)
    maps = glm_maps(planted, others(CONDITIONS), measure)
    masks = threshold(maps, control=network)
    np.testing.assert_array_equal(result["dice"], overlap(masks)["dice"])
    np.testing.assert_array_equal(result["size"], masks.sum(("layer", "neuron")))
    r = np.corrcoef(maps["stat"].to_numpy().reshape(12, -1))
    np.testing.assert_allclose(result["correlation"], r, atol=1e-10)
    assert result["map_contrast"].to_numpy().tolist() == list(CONDITIONS) * 3
    assert result["run"].to_numpy().tolist() == [0] * 4 + [1] * 4 + [2] * 4


def test_repeatability__takes_named_contrasts(planted):
    result = repeatability(planted, contrasts={"A": "a - rest", "B": "b - mean(a, c)"}, **FEW)
    maps = glm_maps(planted, [{"a": 1, "rest": -1}, {"b": 1, "a": -0.5, "c": -0.5}])
    np.testing.assert_array_equal(result["dice"], overlap(threshold(maps, control=Top(0.1)))["dice"])
    assert result["contrast"].to_numpy().tolist() == ["A", "B"]
    listed = repeatability(planted, contrasts=["a - rest", "b - mean(a, c)"], **FEW)
    np.testing.assert_array_equal(listed["null"], result["null"])
    assert listed["contrast"].to_numpy().tolist() == ["a - rest", "b - mean(a, c)"]


def test_repeatability__averages_pairs_of_different_runs(planted):
    result = repeatability(planted, **FEW)
    for metric in ("dice", "correlation"):
        within, between = [], []
        for i in range(12):
            for j in range(i):
                if i // 4 != j // 4:
                    (within if i % 4 == j % 4 else between).append(result[metric].to_numpy()[i, j])
        own = result.sel(metric=metric)
        assert own["within"] == pytest.approx(np.mean(within))
        assert own["between"] == pytest.approx(np.mean(between))
        assert own["difference"] == pytest.approx(np.mean(within) - np.mean(between))
        assert own["p_value"] == (1 + (own["null"] >= own["difference"]).sum()) / 20


def test_repeatability__finds_planted_maps_again():
    ds = phantom(
        conditions=CONDITIONS, n_prompts=15, n_runs=3, n_layers=2, n_neurons=40, fraction=0.1, effect=2.0,
        prompt_sd=0.2, seed=5,
    )  # fmt: skip
    result = repeatability(
        ds, contrasts={c: f"{c} - rest" for c in "abc"}, network=Top(0.1), n_permutations=19
    )
    assert result["within"].sel(metric="dice") > 0.8 > 0.1 > result["between"].sel(metric="dice")
    assert (result["p_value"] == 1 / 20).all()
    assert (result["icc3"] > 0.5).all() and (result["icc2"] > 0.5).all()
    alone = repeatability(ds, contrasts=["a - rest"], network=Top(0.1), n_permutations=19)
    assert (alone["within"] > 0.7).all()
    assert np.isnan(alone["between"]).all() and np.isnan(alone["p_value"]).all()


def test_repeatability__permuted_labels_go_through_the_same_procedure(planted):
    null = repeatability(planted, n_permutations=4, network="fdr", seed=3)["null"].to_numpy()
    rng, condition, run = np.random.default_rng(3), planted["condition"].to_numpy(), planted["run"].to_numpy()
    for i in range(4):
        shuffled = condition.copy()
        for r in (0, 1, 2):
            where = np.flatnonzero(run == r)
            shuffled[where] = condition[rng.permutation(where)]
        ds = planted.assign_coords(condition=("prompt", shuffled))
        again = repeatability(ds, n_permutations=1, network="fdr")
        np.testing.assert_allclose(again["difference"], null[:, i], atol=1e-12)


def test_repeatability__a_null_is_calibrated():
    p = []
    for seed in range(60):
        ds = phantom(
            n_prompts=4, n_tokens=(3, 5), n_layers=1, n_neurons=40, effect=0.0, prompt_sd=0.5, seed=seed
        )
        p.append(repeatability(ds, n_permutations=19, network=Top(0.1), seed=seed)["p_value"].to_numpy())
    p = np.array(p)
    for alpha in (0.05, 0.2, 0.5):
        margin = 3 * np.sqrt(alpha * (1 - alpha) / len(p))
        assert ((p <= alpha).mean(axis=0) < alpha + margin).all()
    assert (abs((p[:, 1] <= 0.5).mean() - 0.5) < 3 * 0.5 / np.sqrt(len(p))).all()


def test_repeatability__a_labelling_that_comes_back_counts():
    ds = phantom(
        conditions=("a", "b"), n_prompts=4, n_layers=1, n_neurons=30, effect=2.0, prompt_sd=0.3, seed=1
    )
    result = repeatability(ds, n_permutations=300, network=Top(0.2))
    _, labels = read_labels(ds, "run", "magnitude", 300, 0, "a test")
    same = [len(set(code ^ labels.code[0])) == 1 for code in labels.code]  # or with the names exchanged
    assert 5 < sum(same) < 50
    assert (result["p_value"] >= sum(same) / 301).all()


CHUNKED = phantom(n_prompts=6, n_runs=3, n_tokens=(2, 4), n_layers=2, n_neurons=9, prompt_sd=0.5, seed=6)


@settings(max_examples=8)
@given(st.data())
def test_repeatability__does_not_depend_on_chunks_order_or_on_how_much_is_held(data):
    options = {"n_permutations": 3, "network": data.draw(st.sampled_from([Top(0.2), "fdr"]))}
    expected = repeatability(CHUNKED, **options)
    ds = CHUNKED.isel(prompt=data.draw(st.permutations(range(CHUNKED.sizes["prompt"]))))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(means, "_HELD_BYTES", data.draw(st.sampled_from([0, 2**29])))
        patch.setattr(means, "_WIDTHS", (1, data.draw(st.integers(1, 20))))
        result = repeatability(ds.chunk(data.draw(chunkings(ds))), **options)
    xr.testing.assert_allclose(result, expected, rtol=1e-9, atol=1e-12)


def test_repeatability__is_the_same_from_cube_summary_and_disk(tiny, tiny_path):
    expected = repeatability(tiny, **FEW)
    for ds in (prompt_level(tiny), open_recording(tiny_path), open_recording(tiny_path, level="prompt")):
        xr.testing.assert_allclose(repeatability(ds, **FEW), expected)
    attrs = open_recording(tiny_path).pipe(repeatability, **FEW).attrs
    assert attrs["source"].startswith("sha256:") and attrs["source_name"] == "tiny" and attrs["site"] == "mlp"
    assert attrs["selected_on"] == tiny["prompt"].to_numpy().tolist()


def test_repeatability__neurons_that_do_not_vary_or_are_nan_take_no_part(planted):
    ds = planted.copy(deep=True)
    ds["activation"][{"neuron": 3}] = np.nan
    ds["activation"][{"neuron": 4}] = xr.where(ds["token_id"] == -1, np.nan, 0.1)
    expected = repeatability(ds.drop_isel(neuron=[3, 4]), **FEW)
    with pytest.warns(UserWarning, match="neurons have no value, as activations of theirs are not finite"):
        xr.testing.assert_allclose(repeatability(ds, **FEW), expected)
    silent = planted.copy(deep=True)  # in the first run alone
    silent["activation"].to_numpy()[(planted["run"] == 0).to_numpy(), :, :, 5:] *= 0.0
    maps = glm_maps(silent, others(CONDITIONS))["stat"].to_numpy().reshape(12, -1)
    x, y = maps[0][~np.isnan(maps[0])], maps[4][~np.isnan(maps[0])]
    assert 0 < len(x) < maps.shape[1]
    assert repeatability(silent, **FEW)["correlation"][0, 4] == pytest.approx(np.corrcoef(x, y)[0, 1])


def test_repeatability__maps_without_a_neuron_have_nothing_in_common(planted):
    dead = planted.copy(deep=True)
    dead["activation"] = dead["activation"] * 0.0
    result = repeatability(dead, **FEW)
    for name in ("dice", "correlation", "icc2", "icc3"):
        assert np.isnan(result[name]).all()
    assert (
        (result["size"] == 0).all() and (result["difference"] == 0).all() and (result["p_value"] == 1).all()
    )


@pytest.mark.parametrize(
    ("change", "options", "error", "message"),
    [
        (lambda ds: ds.drop_vars("condition"), {}, ValueError, "repeatability needs the label 'condition'"),
        (lambda ds: ds, {"by": "session"}, ValueError, "needs the label 'session'"),
        (lambda ds: ds, {"measure": "square"}, ValueError, "measure must be 'magnitude' or 'signed'"),
        (lambda ds: ds, {"network": "best"}, TypeError, "network must be Top"),
        (
            lambda ds: ds,
            {"alpha": 1.0, "network": "fdr"},
            ValueError,
            "alpha must lie between 0 and 1",
        ),
        (lambda ds: ds, {"n_permutations": 0}, ValueError, "n_permutations must be at least 1"),
        (lambda ds: ds.isel(prompt=ds["condition"] == "a"), {}, ValueError, "at least two conditions, got"),
        (lambda ds: ds.isel(prompt=ds["run"] == 0), {}, ValueError, r"two values of 'run', got \[0\]"),
        (
            lambda ds: ds.isel(prompt=(ds["run"] == 0) | (ds["condition"] != "b")),
            {},
            ValueError,
            r"run 1 has no prompts of \['b'\]",
        ),
        (lambda ds: ds, {"by": "text"}, ValueError, "has no prompts of"),
        (
            lambda ds: ds,
            {"contrasts": "a - b"},
            TypeError,
            "contrasts must be a sequence of expressions, or a mapping .* got 'a - b'",
        ),
        (lambda ds: ds, {"contrasts": []}, TypeError, "contrasts must be a sequence"),
        (lambda ds: ds, {"contrasts": [3]}, TypeError, "a contrast must be an expression.* got 3"),
        (lambda ds: ds, {"contrasts": ["a - x"]}, ValueError, "unknown regressor 'x'"),
        (lambda ds: ds, {"contrasts": ["a"]}, ValueError, "contrast 'a' must sum to zero"),
        (lambda ds: ds["activation"], {}, TypeError, "expected a Dataset"),
    ],
)
def test_repeatability__refuses(change, options, error, message, tiny):
    with pytest.raises(error, match=message) as caught:
        repeatability(change(tiny), **options)
    assert isinstance(caught.value, ActomeError)


def test_repeatability__refuses_runs_without_prompts_to_spare(tiny):
    ds = tiny.sortby("condition").assign_coords(run=("prompt", np.arange(12) % 4))
    with pytest.raises(ValueError, match="run 0 has 3 prompts of 3 conditions; a map of t needs more"):
        repeatability(ds)
