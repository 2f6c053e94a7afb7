"""Commands on networks: labels, dual regression, recurrence, connectivity, fingerprints."""

import shutil

import numpy as np
import pytest
import xarray as xr

import actome
from actome.cli.subjects import _others
from actome.store.archive import save
from actome.store.housekeeping import append, cast
from actome.store.phantom import phantom
from actome.store.selection import Selection

from .analyze.fingerprint.speakers import rearranged, speaker

NAMES = ("label", "dual-regression", "recurrence", "connectivity", "fingerprint")


@pytest.fixture(scope="module")
def ds():
    return phantom(
        n_prompts=6, n_tokens=(50, 60), n_layers=2, n_neurons=60, effect=0.0, n_networks=3,
        network_gain=4.0, n_runs=2, seed=1,
    )  # fmt: skip


@pytest.fixture(scope="module")
def recording(ds, tmp_path_factory):
    return save(ds, tmp_path_factory.mktemp("recording") / "r.zarr")


@pytest.fixture(scope="module")
def components(recording, tmp_path_factory):
    """Components of the first run, whose networks are the planted ones."""
    own = actome.open(recording)
    first = own.isel(prompt=np.flatnonzero(own["run"] == 0))
    found = actome.group_ica(first, n_components=3, n_runs=2, null=0)
    return actome.save_result(found, tmp_path_factory.mktemp("components") / "c.zarr")


@pytest.fixture(scope="module")
def contrasts(recording, tmp_path_factory):
    fit = actome.fit_glm(actome.open(recording), measure="signed")
    maps = actome.compute_contrast(fit, "a - b").expand_dims(network=["a - b"])
    return actome.save_result(maps, tmp_path_factory.mktemp("contrasts") / "g.zarr")


def test_label__saves_what_label_components_gives(call, recording, components, contrasts, tmp_path):
    out = tmp_path / "l.zarr"
    how = ("--contrasts", contrasts, "--permutations", 19, "--where", "run=1")
    status, printed, error = call("label", recording, components, "-o", out, *how)
    assert status == 0, error
    own, found = actome.open(recording), actome.open(components)
    courses = actome.dual_regression(own.isel(prompt=np.flatnonzero(own["run"] == 1)), found)
    maps = {"a - b": actome.open(contrasts).isel(network=0)}
    expected = actome.label_components(found, courses, maps, n_permutations=19)
    saved = actome.open(out)
    for name in ("correlation", "p_corrected", "map_correlation"):
        np.testing.assert_allclose(saved[name], expected[name])
    lines = printed.splitlines()
    assert [line.split(":")[0] for line in lines] == ["ic0", "ic1", "ic2"]
    for line, label in zip(lines, expected["label"].to_numpy(), strict=True):
        assert (f"{label} (r" if label else "follows no condition") in line
        assert "its map is most like a - b" in line


def test_dual_regression__saves_maps_and_courses(call, recording, components, tmp_path):
    out = tmp_path / "d.zarr"
    status, printed, error = call("dual-regression", recording, components, "-o", out, "--subject", "run")
    assert status == 0, error
    expected = actome.dual_regression(actome.open(recording), actome.open(components), subject="run")
    for name in ("time_course", "component_map", "similarity"):
        np.testing.assert_allclose(actome.open(out)[name], expected[name])
    assert f"ic2: {float(expected['similarity'].mean('subject')[2]):.3f} correlation" in printed


def test_recurrence__looks_at_prompts_that_made_no_template(call, recording, components, tmp_path):
    out = tmp_path / "n.zarr"
    how = ("--draws", 199, "--sweep", 0.1, "--sweep", 0.4)
    status, printed, error = call("recurrence", recording, "-t", components, "-o", out, *how)
    assert status == 0, error
    saved, own = actome.open(out), actome.open(recording)
    above = int((saved["p_samples"] <= 0.05 / 3).sum())
    assert above and printed.endswith(
        f"{above} of 3 templates come back in more of the 9 subjects (one a prompt) than random ones (p of "
        "at most .05, corrected for 3)\n9 prompts that made the templates were left out\n"
    )
    single = own.isel(prompt=np.flatnonzero(own["run"] == 1))
    masks = actome.networks(actome.open(components))
    alone = actome.networks(actome.individual_components(single, n_components=3))
    expected = actome.recurrence(masks, alone, sweep=(0.1, 0.4), n_draws=199)
    for name in ("components", "best", "sweep_samples", "p_samples"):
        np.testing.assert_array_equal(saved[name], expected[name])
    status, _, error = call(
        "recurrence", recording, "-t", components, "-o", tmp_path / "x.zarr", "--where", "run=0"
    )
    assert status == 2 and "all 9 prompts made the templates" in error


@pytest.mark.parametrize("step", ["append", "cast", "save"])
def test_recurrence__knows_the_prompts_of_templates_in_what_follows_a_recording(
    call, ds, recording, components, tmp_path, step
):
    there = tmp_path / "r.zarr"
    if step == "append":
        shutil.copytree(recording, there)
        shown = ds.assign_coords(
            prompt=[f"new {p}" for p in ds["prompt"].to_numpy()],
            text=("prompt", [f"other {t}" for t in ds["text"].to_numpy()]),
        )
        one = np.flatnonzero(ds["condition"] == "a")[:1]
        append(there, save(shown.isel(prompt=one), tmp_path / "further.zarr"))
    elif step == "cast":
        cast(recording, there, "float16")
    else:  # the same texts, recorded once more under other ids
        save(ds.assign_coords(prompt=[f"q{i}" for i in range(ds.sizes["prompt"])]), there)
    some = ("--draws", 9, "--components", 2, "--where", "condition=a")
    status, printed, error = call("recurrence", there, "-t", components, "-o", tmp_path / "n.zarr", *some)
    assert status == 0, error
    assert printed.endswith("\n3 prompts that made the templates were left out\n")
    assert actome.open(tmp_path / "n.zarr").sizes["subject"] == 3 + (step == "append")


def test_others__keeps_the_same_texts_in_another_model_and_other_texts_under_the_same_ids(ds):
    one, other = (Selection.of(ds.isel(prompt=ds["run"].to_numpy() == run)) for run in (0, 1))
    masks = xr.DataArray(attrs={**one.attrs, "source": ["sha256:1"], "weights_digest": ["m"]})

    def of(weights, **attrs):
        return ds.assign_attrs(provenance={"inputs": {"weights_digest": weights}}, **attrs)

    assert _others(of("n"), masks)[1] == 0
    assert _others(of("m"), masks)[1] == _others(ds, masks)[1] == 9
    assert _others(of("n", manifest_digest="sha256:1"), masks)[1] == 9
    renamed = masks.assign_attrs(Selection(tuple((p, t[::-1]) for p, t in other.prompts)).attrs)
    assert _others(of("m"), renamed)[1] == 0
    by_id = xr.DataArray(attrs={"selected_on": one.attrs["selected_on"], "source": "sha256:1"})
    assert _others(of("m", manifest_digest="sha256:1"), by_id)[1] == 9
    assert _others(of("m", manifest_digest="sha256:2"), by_id)[1] == 0


def test_connectivity__saves_differences_and_graph_beside_it(call, recording, components, tmp_path):
    out = tmp_path / "c.zarr"
    how = ("-c", "a - b", "-c", "a - rest", "--permutations", 19, "--graph", 0.5)
    status, printed, error = call("connectivity", recording, "-n", components, "-o", out, *how)
    assert status == 0, error
    paths = [tmp_path / f"c{s}.zarr" for s in ("", "-differences", "-graph")]
    assert printed.splitlines()[:3] == list(map(str, paths)) and printed.count("3 edges differ") == 2
    connected = actome.connectivity(actome.dual_regression(actome.open(recording), actome.open(components)))
    np.testing.assert_allclose(actome.open(out)["correlation"], connected["correlation"])
    expected = actome.connectivity_difference(connected, "a - rest", n_permutations=19)
    difference = actome.open(paths[1])
    np.testing.assert_array_equal(difference["p_corrected"].sel(contrast="a - rest"), expected["p_corrected"])
    np.testing.assert_array_equal(
        actome.open(paths[2])["edge"], actome.graph_measures(connected, density=0.5)["edge"]
    )
    assert call("report", *paths, "-o", tmp_path / "r.html")[0] == 0
    html = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "Connectivity, a - b:" in html and "Connectivity, a - rest:" in html


def test_connectivity__refuses_components_none_of_which_is_a_network(call, recording, components, tmp_path):
    found = actome.open(components).load()
    chance = found.assign(is_network=("component", np.zeros(found.sizes["component"], dtype=bool)))
    path = actome.save_result(chance, tmp_path / "chance.zarr")
    status, _, error = call("connectivity", recording, "-n", path, "-o", tmp_path / "x.zarr")
    assert status == 2 and "none of its components beats the null" in error
    assert not (tmp_path / "x.zarr").exists()


def test_connectivity__takes_masks(call, recording, ds, tmp_path):
    masks = ds["true_network"].assign_coords(network=list("xyz"))
    masks = masks.assign_coords({d: np.arange(masks.sizes[d]) for d in ("layer", "neuron")}).rename("mask")
    actome.save_result(masks.assign_attrs(kind="mask"), tmp_path / "m.zarr")
    status, _, error = call("connectivity", recording, "-n", tmp_path / "m.zarr", "-o", tmp_path / "c.zarr")
    assert status == 0, error
    assert actome.open(tmp_path / "c.zarr")["network"].to_numpy().tolist() == ["x", "y", "z"]
    assert not (tmp_path / "c-differences.zarr").exists()


@pytest.fixture(scope="module")
def twins(tmp_path_factory):
    """Recordings of a model, of the same with its neurons rearranged, and of another."""
    folder = tmp_path_factory.mktemp("twins")
    model, other = (
        ds.assign_coords({v: ds[v].astype(np.int32) for v in ("char_start", "char_end")})
        for ds in (speaker(), speaker(1))
    )
    models = {"a": model, "b": rearranged(model), "c": other}
    return [save(ds, folder / f"{name}.zarr") for name, ds in models.items()]


def test_fingerprint__gives_a_verdict_with_its_error_rate(call, twins, tmp_path):
    common = ("-k", 3, "--permutations", 30)
    *twins, other = twins
    status, printed, error = call("fingerprint", *twins, "-o", tmp_path / "f.zarr", *common)
    assert status == 0, error
    assert ": alike.\n" in printed and "false positive rate of 0.05" in printed
    signatures = [tmp_path / "a.zarr", tmp_path / "b.zarr"]
    for source, out in zip(twins, signatures, strict=True):
        assert call("fingerprint", source, "-o", out, "-k", 3)[1] == "signature of 3 networks on 24 texts\n"
    status, _, error = call("fingerprint", *signatures, "-o", tmp_path / "g.zarr", "--permutations", 30)
    assert status == 0, error
    first, second = (actome.open(tmp_path / f"{name}.zarr") for name in "fg")
    assert float(first["score"]) == pytest.approx(float(second["score"])) and float(first["score"]) > 0.6
    status, printed, _ = call("fingerprint", *signatures, "--unrelated", other, "-o", tmp_path / "h.zarr")
    assert status == 0 and "Cannot say: the null has too few different scores" in printed
    for given, message in (
        ((signatures[0],), "a.zarr is a signature already; give a second model"),
        ((*signatures, "-k", 32), "n_components is 32, but a signature that was given has 3 networks"),
        ((*signatures, "--unrelated", twins[1]), "unrelated model 1 (b) is the second model again"),
    ):
        status, _, error = call("fingerprint", *given, "-o", tmp_path / "x.zarr")
        assert status == 2 and message in error


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("label", "{r}", "{r}"), "holds no components"),
        (("label", "{r}", "{c}", "--by", "session"), "no label 'session'"),
        (("label", "{r}", "{c}", "--contrasts", "{c}"), "holds no contrast"),
        (("label", "{r}", "{c}", "--where", "run"), "--where takes LABEL=VALUE"),
        (("label", "{r}", "{c}", "--where", "run=7"), "no prompt has the run '7'; there are ['0', '1']"),
        (("label", "{r}", "{c}", "--where", "run=0", "--where", "run=1"), "no prompt meets all of"),
        (("label", "{r}", "{c}", "--alpha", "2"), "alpha must"),
        (("label", "{r}", "{c}", "--seed", "-1"), "seed must be at least 0, got -1"),
        (("label", "{r}", "{c}", "--confound", "session"), "--confound takes a label of the prompts in"),
        (("label", "{c}", "{c}"), "is no recording but a saved result (components)"),
        (("ica", "{c}"), "is no recording but a saved result (components)"),
        (("dual-regression", "{c}", "{c}"), "is no recording but a saved result (components)"),
        (("dual-regression", "{r}", "{c}", "--subject", "session"), "subject must be"),
        (("recurrence", "{r}", "-t", "{r}"), "holds no networks"),
        (("recurrence", "{c}", "-t", "{c}"), "is no recording but a saved result (components)"),
        (("recurrence", "{r}", "-t", "{c}", "--mode", "both"), "mode must be"),
        (("recurrence", "{r}", "-t", "{c}", "-k", "0"), "n_components must be at least 1, got 0"),
        (("recurrence", "{r}", "-t", "{c}", "--seed", "-1"), "seed must be at least 0, got -1"),
        (("recurrence", "{r}", "-t", "{c}", "--threshold", "P(0.05)"), "a threshold of maps is Z(3.6)"),
        (("recurrence", "{r}", "-t", "{c}", "--jaccard", "2"), "a Jaccard threshold"),
        (("recurrence", "{r}", "-t", "{c}", "--null", "all"), "null must be None or one of"),
        (("connectivity", "{r}", "-n", "{r}"), "holds no networks"),
        (("connectivity", "{r}", "-n", "{c}", "--shrinkage", "oas"), "shrinkage must be"),
        (("connectivity", "{r}", "-n", "{c}", "-c", "a - fr"), "'fr'"),
        (("connectivity", "{r}", "-n", "{c}", "--graph", "3"), "density must"),
        (("connectivity", "{r}", "-n", "{c}", "--seed", "-1"), "seed must be at least 0, got -1"),
        (("connectivity", "{r}", "-n", "{c}", "--confound", "session"), "got 'session'"),
        (("connectivity", "{c}", "-n", "{c}"), "is no recording but a saved result (components)"),
        (("fingerprint", "{t}", "{c}"), "is no recording but a saved result (components)"),
        (("fingerprint", "{t}", "{t}", "--seed", "-1"), "seed must be at least 0, got -1"),
        (("fingerprint", "{t}", "{r}"), "has no char_start and char_end"),
        (("fingerprint", "{t}", "{t}", "--match", "2"), "match must"),
        (("fingerprint", "{t}", "{t}", "--within", "session"), "within must be a label"),
    ],
)
def test_commands__refuse_a_wrong_input_and_write_nothing(
    call, recording, components, twins, tmp_path, args, message
):
    out = tmp_path / "out.zarr"
    named = (a.format(r=recording, c=components, t=twins[0]) for a in args)
    status, printed, error = call(*named, "-o", out)
    assert status == 2 and printed == "" and error.count("\n") == 1
    assert message in error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", NAMES)
def test_commands__refuse_a_place_that_is_taken(call, command, recording, components):
    options = {"recurrence": ("-t", components), "connectivity": ("-n", components)}
    given = options.get(command, (components,))
    status, printed, error = call(command, recording, *given, "-o", components)
    assert status == 2 and printed == "" and "holds a result already" in error
