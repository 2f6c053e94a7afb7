"""The command line: what it prints, and one clear line for a wrong input."""

import json
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import actome
from actome.ingest.phantom import phantom_model
from actome.store.archive import open as open_recording
from actome.store.archive import save
from actome.store.phantom import phantom
from actome.store.results import save_result


@pytest.fixture
def recording(tmp_path):
    return save(phantom(n_runs=3, n_prompts=9, seed=2), tmp_path / "p.zarr")


def run(*args):
    """Run a command in a process of its own: exit status, standard output and error."""
    out = subprocess.run(
        [sys.executable, "-m", "actome", *map(str, args)], capture_output=True, text=True, check=False
    )
    return out.returncode, out.stdout, out.stderr


def test_main__a_wrong_path_is_one_line_and_status_2():
    status, out, err = run("info", "no/such/place.zarr")
    assert (status, out) == (2, "")
    assert err.startswith("actome: there is no recording or result at") and err.count("\n") == 1


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("glm", "{r}", "-c", "fr - a", "-o", "{out}"), "unknown regressor 'fr'"),
        (
            ("glm", "{r}", "-c", "a - b", "--formula", "language", "-o", "{out}"),
            "['language'], which the recording lacks",
        ),
        (("glm", "{r}", "-c", "a - b", "--noise", "white", "-o", "{out}"), "noise must be one of"),
        (("identify", "{r}", "--by", "session"), "needs the label 'session'"),
        (("ica", "{r}", "-k", "0", "-o", "{out}"), "must be at least 1"),
        (("record", "no/such/model", "{paradigm}", "-o", "{out}"), "no/such/model"),
        (("record", "./nowhere", "{paradigm}", "-o", "{out}"), "there is no model at './nowhere'"),
        (("record", "demo", "nowhere.yaml", "-o", "{out}"), "there is no paradigm file at nowhere.yaml"),
        (("overlap", "{r}"), "holds no networks"),
        (("ls", "--catalog", "nowhere.yaml"), "there is no catalog file"),
        (("lesion", "demo", "{paradigm}", "{r}", "-o", "{out}"), "holds no networks"),
    ],
)
def test_main__wrong_input_is_one_line_status_2_and_writes_nothing(
    call, recording, tmp_path, monkeypatch, args, message
):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    paradigm = tmp_path / "p.yaml"
    paradigm.write_text("name: p\nprompts: [{text: hello}]\n")
    out = tmp_path / "out.zarr"
    status, printed, err = call(*(a.format(r=recording, out=out, paradigm=paradigm) for a in args))
    assert status == 2 and printed == ""
    assert message in err and err.startswith("actome: ") and err.count("\n") == 1
    assert not out.exists()


def test_main__an_unknown_option_or_command_is_status_2(call):
    assert call("info")[0] == 2
    assert call("burn")[0] == 2
    assert call("ls", "--colour")[0] == 2


def test_glm_and_overlap__save_contrasts_and_compare_their_networks(call, recording, tmp_path):
    out = tmp_path / "c.zarr"
    status, printed, _ = call(
        "glm", recording, "-c", "a - mean(rest)", "-c", "b - mean(rest)", "-o", out, "--control", "bonferroni"
    )
    assert status == 0 and "a - mean(rest):" in printed and "neurons (bonferroni" in printed
    status, printed, _ = call("overlap", out, "--json")
    table = json.loads(printed)
    assert status == 0 and table["data"][0][0] == 1.0
    status, printed, _ = call("overlap", out, "--null", "layers", "--json")
    assert status == 0 and json.loads(printed)["p_value"]["data"][0][0] < 0.05
    assert "expected" in call("overlap", out, "--null", "layers")[1]
    assert call("glm", recording, "-c", "a - b", "-o", out)[0] == 2  # taken


def test_overlap__says_which_set_holds_no_network(call, tmp_path):
    masks = xr.DataArray(
        np.ones((1, 2, 3), dtype=bool), dims=("network", "layer", "neuron"), coords={"network": ["a"]}
    )
    for name, one in (("some", masks), ("none", masks.isel(network=[]))):
        save_result(one.to_dataset(name="mask").assign_attrs(kind="mask"), tmp_path / f"{name}.zarr")
    some, none = tmp_path / "some.zarr", tmp_path / "none.zarr"
    expected = (0, f"{none} holds no network: there is nothing to compare\n", "")
    assert call("overlap", some, none) == expected and call("overlap", none, "--null", "layers") == expected
    status, printed, _ = call("overlap", some, none, "--json")
    assert status == 0 and json.loads(printed)["columns"] == []


@pytest.mark.parametrize(
    ("options", "given"),
    [
        (("--confound", "run", "--confound", "token_position"), {"confounds": ("run", "token_position")}),
        (("--noise", "ar1"), {"noise": "ar1"}),
        (("--kernel", "1,0.5"), {"kernel": (1.0, 0.5)}),
        (("--formula", "0 + condition", "--noise", "cr2"), {"formula": "0 + condition", "noise": "cr2"}),
        (("--skip-first", "1"), {}),
    ],
)
def test_glm__options_are_those_of_fit_glm(options, given, call, recording, tmp_path):
    out, ds = tmp_path / "c.zarr", actome.open(recording)
    contrast = "`condition[a]` - `condition[b]`" if "--formula" in options else "a - b"
    assert call("glm", recording, "-c", contrast, "-o", out, *options)[0] == 0
    ds = ds.isel(token=slice(1, None)) if "--skip-first" in options else ds
    expected = actome.compute_contrast(actome.fit_glm(ds, **given), contrast)
    np.testing.assert_allclose(actome.open(out)["stat"][0], expected["stat"], rtol=1e-9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--kernel", "1,x"), "--kernel takes numbers"),
        (("--skip-first", "-1"), "must not be negative"),
        (("--drift", "cubic"), "drift must be"),
        (("--weights", "condition"), "weights must name a label"),
        (("--control", "maxt", "--noise", "ar1", "--drift", "linear"), "leave out --drift, --noise ar1"),
        (("--control", "Top(2)"), "Top must lie between 0 and 1, got 2"),
        (("--control", "Top[0.1]"), "a threshold such as P(0.001), Z(3.1) or Top(0.01), got 'Top[0.1]'"),
        (("--alpha", "5"), "--alpha must lie between 0 and 1"),
        (("--confound", "sesion"), "confounds name ['sesion'], which the recording lacks"),
        (("-c", "b - a", "-c", "a  - b"), "'a - b' is given more than once"),
        (("--where", "run=7"), "no prompt has the run '7'"),
        (("--csv", "{recording}"), "choose another file for --csv"),
        (("--csv", "s3://lab/c.csv"), "--csv writes a file of this machine"),
    ],
)
def test_glm__refuses_options_that_mean_nothing(options, message, call, recording, tmp_path):
    out, options = tmp_path / "c.zarr", [o.format(recording=recording) for o in options]
    status, printed, err = call("glm", recording, "-c", "a - b", "-o", out, *options)
    assert status == 2 and message in err and printed == "" and err.count("\n") == 1
    assert not out.exists()


def test_glm__where_selects_on_some_prompts_alone(call, recording, tmp_path):
    ds = actome.open(recording)
    part = ds.isel(prompt=ds["run"].to_numpy() != 2)
    for options in ((), ("--confound", "token_position")):
        out = tmp_path / f"{len(options)}.zarr"
        where = ("--where", "run!=2", *options)
        assert call("glm", recording, "-c", "a - b", "-o", out, *where)[0] == 0
        given = {"confounds": ["token_position"]} if options else {}
        expected = actome.compute_contrast(actome.fit_glm(part, **given), "a - b")
        saved = actome.open(out)
        np.testing.assert_allclose(saved["stat"][0], expected["stat"], rtol=1e-9)
        assert saved.attrs["selected_on"] == part["prompt"].to_numpy().tolist()
        assert saved.attrs["confounds"] == (["token_position"] if options else ["run"])


def test_glm__says_which_neurons_stand_out(call, recording, tmp_path):
    out, csv = tmp_path / "c.zarr", tmp_path / "new" / "c.csv"
    common = ("glm", recording, "-c", "a - b", "-c", "b - a", "--control", "Top(0.03)")
    status, printed, _ = call(*common, "-o", out, "--csv", csv)
    saved, table = actome.open(out), pd.read_csv(csv)
    assert status == 0 and saved.attrs["control"] == "Top(fraction=0.03)" and "alpha" not in saved.attrs
    assert table["contrast"].tolist() == ["a - b"] * 8 + ["b - a"] * 8
    for name in ("a - b", "b - a"):
        one = saved.sel(network=name)
        found = table[table["contrast"] == name]
        layer, neuron = np.nonzero(one["mask"].to_numpy())
        assert set(zip(found["layer"], found["neuron"], strict=True)) == set(zip(layer, neuron, strict=True))
        assert found["stat"].is_monotonic_decreasing
        at = {d: xr.DataArray(found[d].to_numpy(), dims="kept") for d in ("layer", "neuron")}
        for v in ("effect", "stat", "z_score", "p_value"):
            np.testing.assert_allclose(found[v], one[v].sel(at), rtol=1e-12)
    lines = printed.splitlines()
    assert lines[0] == "a - b: 8 of 256 neurons (Top(0.03))" and lines[-1] == str(csv)
    assert lines[1].split() == ["layer", "neuron", "effect", "z", "p"] and len(lines) == 2 * 7 + 1
    assert lines[2].split()[:2] == [str(table[d][0]) for d in ("layer", "neuron")]
    status, printed, _ = call(*common, "-o", tmp_path / "d.zarr")
    assert status == 0 and printed.count("and 3 more; --csv FILE writes all") == 2


def test_glm__maxt_is_corrected_by_permutations(call, recording, tmp_path):
    out = tmp_path / "c.zarr"
    options = ("--control", "maxt", "--permutations", 50, "--seed", 3)
    assert call("glm", recording, "-c", "a - b", "-o", out, *options)[0] == 0
    expected = actome.permutation_test(actome.open(recording), "a - b", n_permutations=50, seed=3)
    saved = actome.open(out)
    np.testing.assert_array_equal(saved["p_corrected"][0], expected["p_corrected"])
    mask = actome.threshold(expected, control="maxt")
    np.testing.assert_array_equal(saved["mask"][0], mask)


def test_main__a_warning_is_one_line(call, recording, tmp_path, monkeypatch):
    monkeypatch.setattr("actome.analyze.design.collinearity.HIGH_INFLATION", 0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        status, _, err = call("glm", recording, "-c", "a - b", "-o", tmp_path / "c.zarr")
    assert status == 0 and err.startswith("actome: warning: the variance inflation factor")
    assert err.count("\n") == 1


def test_ica_identify_report__run_from_the_command_line(call, recording, tmp_path):
    status, printed, _ = call("ica", recording, "-k", 3, "--runs", 2, "-o", tmp_path / "i.zarr")
    assert status == 0 and printed.count("stability") == 3
    status, printed, _ = call("identify", recording, "--permutations", 20, "--json")
    assert status == 0 and json.loads(printed)["accuracy"] > 0.5
    status, printed, _ = call("identify", recording, "--where", "run=0,1", "--permutations", 1, "--json")
    ds = actome.open(recording, level="prompt")
    part = actome.identify(ds.isel(prompt=ds["run"].to_numpy() != 2), n_permutations=1)
    assert json.loads(printed)["accuracy"] == float(part["accuracy"])
    how = ("--score", "correlation", "--level", "run", "--permutations", 20)
    assert call("identify", recording, *how, "--json")[0] == 0
    status, printed, _ = call("report", recording, tmp_path / "i.zarr", "-o", tmp_path / "r.html")
    assert (
        status == 0
        and printed.strip() == str(tmp_path / "r.html")
        and (tmp_path / "r.html").stat().st_size > 1000
    )


def test_report__names_the_path_that_is_no_result(call, recording, tmp_path):
    out, odd = tmp_path / "r.html", tmp_path / "odd.zarr"
    save_result(xr.Dataset({"x": ("y", [1.0])}, attrs={"kind": "odd"}), odd)
    status, _, err = call("report", recording, odd, "-o", out)
    assert status == 2 and f"{odd} must be a Dataset of kind" in err and not out.exists()


def test_info_validate_verify__say_what_is_there_and_what_is_damaged(call, recording, tmp_path):
    status, printed, _ = call("info", recording, "--json")
    assert status == 0 and json.loads(printed)["conditions"] == {"a": 9, "b": 9, "rest": 9}
    assert call("validate", recording)[0] == 0 and call("verify", recording)[0] == 0
    (tmp_path / "p.zarr" / "run" / "c" / "0").unlink()
    status, printed, _ = call("verify", recording)
    assert status == 1 and printed == "missing: run/c/0\n"


def test_ls__lists_what_is_built_and_what_is_not(call, recording, tmp_path):
    text = (
        "version: 1\nsources:\n  {}:\n    driver: zarr\n    args: {{urlpath: '{{{{ CATALOG_DIR }}}}/{}'}}\n"
    )
    catalog = tmp_path / "catalog.yaml"
    catalog.write_text(
        text.format("there", "p.zarr") + text.split("sources:\n")[1].format("elsewhere", "q.zarr")
    )
    status, printed, _ = call("ls", "--catalog", catalog)
    assert status == 0 and [line.split()[:2] for line in printed.splitlines()] == [
        ["there", "built"],
        ["elsewhere", "not"],
    ]
    assert call("info", "there", "--catalog", catalog)[0] == 0
    status, _, err = call("info", "ther", "--catalog", catalog)
    assert status == 2 and "did you mean there" in err


def test_glm__a_folder_with_other_files_is_refused_and_kept(call, recording, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("kept")
    for out in (tmp_path / "mine", tmp_path / "mine" / "notes.txt"):
        status, _, err = call("glm", recording, "-c", "a - b", "-o", out)
        assert status == 2 and err.count("\n") == 1 and "choose a" in err
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["notes.txt"]


def test_out__may_be_a_url(call, recording):
    import fsspec

    assert call("glm", recording, "-c", "a - b", "-o", "memory://lab/contrast.zarr")[0] == 0
    assert fsspec.filesystem("memory").exists("/lab/contrast.zarr/zarr.json")
    assert call("info", "memory://lab/contrast.zarr")[0] == 0
    assert call("overlap", "memory://lab/contrast.zarr")[0] == 0
    fsspec.filesystem("memory").rm("/lab", recursive=True)


def test_main__what_the_machine_refuses_is_one_line(call, recording, tmp_path):
    (tmp_path / "file").touch()
    status, _, err = call("report", recording, "-o", tmp_path / "file" / "r.html")
    assert status == 2 and "File exists" in err and err.count("\n") == 1


def test_lesion__takes_the_seed_of_the_controls_and_the_device(call, tmp_path):
    made = phantom_model()
    made.module.save_pretrained(tmp_path / "m")
    made.tokenizer.save_pretrained(tmp_path / "m")
    texts = tmp_path / "texts.yaml"
    texts.write_text("name: t\nprompts: [{text: a1 a2 a3, condition: a}]\n")
    masks = xr.DataArray(made.networks[:1], dims=("network", "layer", "neuron"), name="mask")
    masks = masks.assign_coords(network=["a"]).assign_attrs(selected_on=[])
    save_result(masks, tmp_path / "masks.zarr")
    common = (tmp_path / "m", texts, tmp_path / "masks.zarr", "--controls", 2, "--device", "cpu")
    drawn = []
    for seed in (1, 2):
        out = tmp_path / f"{seed}.zarr"
        status, printed, _ = call("lesion", *common, "--seed", seed, "-o", out)
        assert status == 0 and printed.splitlines()[0] == str(tmp_path / f"{seed}-effects.zarr")
        drawn.append(open_recording(out)["network"].values)
    assert not np.array_equal(*drawn)
    status, _, err = call("lesion", *common[:-1], "nowhere", "-o", tmp_path / "x.zarr")
    assert status == 2 and "device 'nowhere' cannot be used" in err


@pytest.fixture(scope="module")
def networks_recording(tmp_path_factory):
    ds = phantom(
        n_prompts=4,
        n_tokens=(60, 80),
        n_layers=2,
        n_neurons=60,
        effect=0.0,
        n_networks=3,
        network_gain=4.0,
        seed=1,
    )
    return save(ds, tmp_path_factory.mktemp("networks") / "n.zarr")


def test_ica__says_which_components_are_networks(call, networks_recording, tmp_path):
    out = tmp_path / "i.zarr"
    how = ("--mode", "temporal", "--solver", "picard", "--runs", 3)
    status, printed, _ = call("ica", networks_recording, "-k", 3, *how, "-o", out)
    assert status == 0 and printed.count(", p 0.05, network\n") == 3 == printed.count(", halves ")
    assert "3 of 3 components are networks (p of at most .05, and alike in two halves" in printed
    saved = open_recording(out)
    assert (saved.attrs["mode"], saved.attrs["solver"]) == ("temporal", "picard")
    assert saved["is_network"].all()


def test_ica__takes_windows_criteria_and_groups(call, networks_recording, tmp_path):
    how = ("--window", 1, "--group", "cca", "--null", 0, "--runs", 2)
    status, printed, _ = call("ica", networks_recording, "-k", "parallel", *how, "-o", tmp_path / "w.zarr")
    assert status == 0 and "(layers from 1): explained variance" in printed and ", p" not in printed
    share = ("-k", "0.3", "--runs", 1)
    status, printed, _ = call("ica", networks_recording, *share, "-o", tmp_path / "s.zarr")
    assert status == 0 and "stability" not in printed and "taken for granted: the one run missed" in printed
    for wrong in ("many", "nan", "1.5"):
        status, _, err = call("ica", networks_recording, "-k", wrong, "-o", tmp_path / "x.zarr")
        assert status == 2 and "share of the variance" in err
