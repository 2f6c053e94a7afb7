import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from actome.analyze.condition_maps import means
from actome.analyze.contrasts import compute_contrast
from actome.analyze.glm import fit_glm
from actome.analyze.overlap import overlap
from actome.analyze.reliability.identification import identify
from actome.analyze.threshold import Top, Z, threshold
from actome.store.archive import open as open_recording
from actome.store.blocks import prompt_level
from actome.store.errors import ActomeError
from actome.store.phantom import phantom
from tests.strategies import chunkings

SCORES = ("difference", "dice", "correlation")
FEW = {"n_permutations": 19, "network": Top(0.1)}


@pytest.fixture(scope="module")
def planted():
    return phantom(n_prompts=8, n_runs=2, n_neurons=20, effect=1.5, fraction=0.1, seed=3)


@pytest.mark.parametrize("measure", ["magnitude", "signed"])
def test_identify__names_the_planted_condition(measure, planted):
    ds = planted.isel(prompt=np.flatnonzero(planted["condition"] != "rest"))
    result = identify(ds, measure=measure, **FEW)
    assert result["accuracy"] > 0.9
    assert result["p_value"] == 1 / 20
    assert result["accuracy"] == (result["predicted"] == result["condition"]).mean()
    assert np.trace(result["confusion"]) == result["accuracy"] * ds.sizes["prompt"]
    assert result["confusion"].sum("named").to_numpy().tolist() == [8, 8]


def test_identify__is_at_chance_on_a_null_and_its_p_uniform():
    p, accuracy = [], []
    for seed in range(40):
        ds = phantom(
            n_prompts=4,
            n_tokens=(3, 5),
            n_layers=1,
            n_neurons=30,
            effect=0.0,
            prompt_sd=0.5,
            autocorrelation=0.5,
            seed=seed,
        )
        result = identify(ds, n_permutations=19, network=Top(0.1), seed=seed)
        p.append(result["p_value"].item())
        accuracy.append(result["accuracy"].item())
    se = np.std(accuracy) / np.sqrt(len(accuracy))
    assert abs(np.mean(accuracy) - 1 / 3) < 3 * se
    # p is discrete and counts ties, so it may be larger than uniform, never smaller
    for alpha in (0.1, 0.2, 0.5):
        assert (np.array(p) <= alpha).mean() < alpha + 3 * np.sqrt(alpha * (1 - alpha) / len(p))
    assert np.mean(p) < 0.75


def test_identify__is_the_same_from_cube_summary_and_disk(tiny, tiny_path):
    expected = identify(tiny, **FEW)
    sources = (
        tiny.chunk(prompt=5, layer=1),
        prompt_level(tiny),
        open_recording(tiny_path),
        open_recording(tiny_path, level="prompt"),
    )
    for ds in sources:
        result = identify(ds, **FEW)
        assert result["predicted"].to_numpy().tolist() == expected["predicted"].to_numpy().tolist()
        np.testing.assert_array_equal(result["null"], expected["null"])


def test_identify__does_not_depend_on_the_order_of_prompts_or_neurons(planted, rng):
    expected = identify(planted, **FEW)
    order = rng.permutation(planted.sizes["prompt"])
    shuffled = identify(planted.isel(prompt=order, neuron=rng.permutation(20)), **FEW)
    assert shuffled["predicted"].to_numpy().tolist() == expected["predicted"].to_numpy()[order].tolist()
    np.testing.assert_array_equal(shuffled["confusion"], expected["confusion"])


def test_identify__repeats_with_its_seed(tiny):
    xr.testing.assert_identical(identify(tiny, **FEW, seed=5), identify(tiny, **FEW, seed=5))
    assert (identify(tiny, **FEW, seed=5)["null"] != identify(tiny, **FEW, seed=6)["null"]).any()


def test_identify__leaves_out_empty_prompts_and_neurons_without_values(planted):
    ds = planted.copy(deep=True)
    ds["token_id"][{"prompt": 2}] = -1
    ds["activation"][{"prompt": 2}] = np.nan
    others = [i for i in range(ds.sizes["prompt"]) if i != 2]
    ds["activation"][{"neuron": 3}] = np.nan
    ds["activation"][{"neuron": 4}] = xr.where(ds["token_id"] == -1, np.nan, 0.1)
    expected = identify(ds.isel(prompt=others).drop_isel(neuron=3), **FEW)
    with pytest.warns(UserWarning, match="neurons have no value, as activations of theirs are not finite"):
        xr.testing.assert_equal(identify(ds, **FEW), expected)


def test_identify__always_has_a_neuron_in_its_network(planted):
    few = identify(planted, network=Top(0.001), n_permutations=1)
    assert few["accuracy"] > 0.4
    assert len(set(few["predicted"].to_numpy())) == 3


@pytest.mark.parametrize(
    ("change", "options", "error", "message"),
    [
        (
            lambda ds: ds.drop_vars("condition"),
            {},
            ValueError,
            "needs the label 'condition' of the prompts; the rec",
        ),
        (lambda ds: ds, {"by": "session"}, ValueError, "needs the label 'session'"),
        (lambda ds: ds, {"by": "token_id"}, ValueError, "needs the label 'token_id'"),
        (lambda ds: ds, {"measure": "square"}, ValueError, "measure must be 'magnitude' or 'signed'"),
        (lambda ds: ds, {"network": Z(3.1)}, TypeError, "network must be Top"),
        (lambda ds: ds, {"n_permutations": 0}, ValueError, "n_permutations must be at least 1"),
        (lambda ds: ds.isel(prompt=ds["condition"] == "a"), {}, ValueError, "at least two conditions, got"),
        (lambda ds: ds.isel(prompt=ds["run"] == 0), {}, ValueError, "at least two values of 'run'"),
        (
            lambda ds: ds,
            {"by": "condition"},
            ValueError,
            "condition 'a' has 0 prompts when one condition is left out",
        ),
        (lambda ds: ds, {"by": "block"}, ValueError, "every block holds one condition only"),
        (lambda ds: ds["activation"], {}, TypeError, "expected a Dataset"),
    ],
)
def test_identify__refuses(change, options, error, message, tiny):
    with pytest.raises(error, match=message) as caught:
        identify(change(tiny), **options)
    assert isinstance(caught.value, ActomeError)


def maps_of(ds, measure="magnitude"):
    """t of every condition against the mean of the others, by the GLM: (condition, layer, neuron)."""
    fit = fit_glm(ds, measure=measure, unit="prompt", noise="ols", confounds=())
    names = sorted(set(ds["condition"].to_numpy().tolist()))
    weights = [{n: 1.0 if n == c else -1 / (len(names) - 1) for n in names} for c in names]
    return xr.concat([compute_contrast(fit, w) for w in weights], "network").assign_coords(network=names)


def by_hand(ds, score, level):
    """Condition named for every held-out item, one run at a time, from the GLM, `threshold` and `overlap`."""
    named = {}
    for run in (0, 1, 2):
        inside, outside = (ds.isel(prompt=np.flatnonzero(x)) for x in (ds["run"] == run, ds["run"] != run))
        learnt = maps_of(outside)
        masks = threshold(learnt, control=Top(0.1))
        values, others = (prompt_level(x)["mean_abs"] for x in (inside, outside))
        if level == "run":
            items = maps_of(inside)["stat"]
        else:
            items = (values - others.mean("prompt")) / others.std("prompt")
            items = items.rename(prompt="network").assign_coords(network=inside["prompt"].to_numpy())
        if score == "dice":
            own = threshold(xr.Dataset({"stat": items, "p_value": items * 0}), control=Top(0.1))
            table = overlap(own, masks)["dice"].to_numpy()
        elif score == "correlation":
            table = np.corrcoef(
                items.to_numpy().reshape(items.sizes["network"], -1), learnt["stat"].to_numpy().reshape(3, -1)
            )[: items.sizes["network"], -3:]
        else:
            x, m = (v.to_numpy().reshape(v.sizes["network"], -1) for v in (items, masks))
            table = np.stack([x[:, c].mean(axis=1) - x[:, ~c].mean(axis=1) for c in m], axis=1)
        best = learnt["network"].to_numpy()[table.argmax(axis=1)]
        named |= {(run, str(i)): str(c) for i, c in zip(items["network"].to_numpy(), best, strict=True)}
    return named


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("level", ["prompt", "run"])
def test_identify__agrees_with_the_glm_run_by_run(score, level):
    ds = phantom(
        n_prompts=9, n_runs=3, n_layers=2, n_neurons=40, fraction=0.1, effect=0.5, prompt_sd=0.3, seed=8
    )
    ds["activation"] += 300.0
    result = identify(ds, score=score, level=level, network=Top(0.1), n_permutations=1)
    expected = by_hand(ds, score, level)
    item = "prompt" if level == "prompt" else "condition"
    runs = (ds if level == "prompt" else result)["run"].to_numpy().tolist()
    keys = zip(runs, result[item].to_numpy().tolist(), strict=True)
    assert result["predicted"].to_numpy().tolist() == [expected[key] for key in keys]
    assert 0.34 < result["accuracy"] < 1 or level == "run"
    true = result["condition"].to_numpy()
    for c, accuracy in zip(result["true"].to_numpy(), result["condition_accuracy"].to_numpy(), strict=True):
        assert accuracy == (result["predicted"].to_numpy() == true)[true == c].mean()


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("level", ["prompt", "run"])
def test_identify__every_score_names_the_planted_condition(score, level, planted):
    ds = planted.isel(prompt=np.flatnonzero(planted["condition"] != "rest"))
    result = identify(ds, score=score, level=level, **FEW)
    assert result["accuracy"] > 0.8 and result["confusion"].sum() == (16 if level == "prompt" else 4)
    assert (result.attrs["score"], result.attrs["level"]) == (score, level)


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("level", ["prompt", "run"])
def test_identify__permuted_labels_go_through_the_same_procedure(score, level):
    ds = phantom(n_prompts=6, n_runs=3, n_layers=1, n_neurons=40, effect=0.0, prompt_sd=0.4, seed=2)
    options = {"score": score, "level": level, "network": Top(0.1)}
    null = identify(ds, n_permutations=6, seed=4, **options)["null"].to_numpy()
    rng, condition, run = np.random.default_rng(4), ds["condition"].to_numpy(), ds["run"].to_numpy()
    for accuracy in null:
        shuffled = condition.copy()
        for r in (0, 1, 2):
            where = np.flatnonzero(run == r)
            shuffled[where] = condition[rng.permutation(where)]
        again = identify(ds.assign_coords(condition=("prompt", shuffled)), n_permutations=1, **options)
        assert again["accuracy"] == accuracy


def test_identify__maps_of_runs_are_at_chance_on_a_null_and_p_uniform():
    p, accuracy = [], []
    for seed in range(30):
        ds = phantom(n_prompts=6, n_runs=3, n_tokens=(3, 5), n_layers=1, n_neurons=40, effect=0.0, seed=seed)
        result = identify(ds, level="run", score="correlation", n_permutations=19, seed=seed)
        p.append(result["p_value"].item())
        accuracy.append(result["accuracy"].item())
    assert abs(np.mean(accuracy) - 1 / 3) < 3 * np.std(accuracy) / np.sqrt(len(accuracy))
    for alpha in (0.1, 0.2, 0.5):
        assert (np.array(p) <= alpha).mean() < alpha + 3 * np.sqrt(alpha * (1 - alpha) / len(p))


CHUNKED = phantom(n_prompts=6, n_runs=3, n_tokens=(2, 4), n_layers=2, n_neurons=9, prompt_sd=0.5, seed=6)


@settings(max_examples=8)
@given(st.data())
def test_identify__does_not_depend_on_chunks_or_on_how_much_is_held(data):
    options = {
        "score": data.draw(st.sampled_from(SCORES)),
        "level": data.draw(st.sampled_from(["prompt", "run"])),
        "n_permutations": 3,
        "network": Top(0.2),
    }
    expected = identify(CHUNKED, **options)
    order = data.draw(st.permutations(range(CHUNKED.sizes["prompt"])))
    ds = CHUNKED.isel(prompt=order)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(means, "_HELD_BYTES", data.draw(st.sampled_from([0, 2**29])))
        patch.setattr(means, "_WIDTHS", (1, data.draw(st.integers(1, 20))))
        result = identify(ds.chunk(data.draw(chunkings(ds))), **options)
    np.testing.assert_array_equal(result["null"], expected["null"])
    np.testing.assert_array_equal(result["confusion"], expected["confusion"])


def test_identify__a_run_may_lack_a_condition(planted):
    run = planted["run"].to_numpy() + 2 * (np.arange(24) % 3 == 0)  # runs 0 to 3
    some = (run != 1) | (planted["condition"].to_numpy() != "rest")
    ds = planted.assign_coords(run=("prompt", run)).isel(prompt=np.flatnonzero(some))
    result = identify(ds, level="run", **FEW)
    pairs = list(zip(result["run"].to_numpy().tolist(), result["condition"].to_numpy().tolist(), strict=True))
    assert pairs == sorted(
        set(zip(ds["run"].to_numpy().tolist(), ds["condition"].to_numpy().tolist(), strict=True))
    )
    assert (1, "rest") not in pairs and len(pairs) > 8
    assert result["accuracy"] > 0.8


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda ds: ds, {"score": "jaccard"}, r"score must be one of \['difference', .* got 'jaccard'"),
        (lambda ds: ds, {"level": "block"}, r"level must be one of \['prompt', 'run'\], got 'block'"),
        (
            lambda ds: ds.assign_coords(run=("prompt", np.arange(12) % 4)),
            {"level": "run"},
            "run . is too small",
        ),
    ],
)
def test_identify__refuses_a_wrong_score_or_level(change, options, message, tiny):
    ds = change(tiny.sortby("condition")) if options.get("level") == "run" else tiny
    with pytest.raises(ValueError, match=message) as caught:
        identify(ds, **options)
    assert isinstance(caught.value, ActomeError)
