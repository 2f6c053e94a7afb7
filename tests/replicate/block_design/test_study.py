"""A block-design study from the recording to the report, on a model whose networks are known."""

import re
import shutil

import numpy as np
import pytest
import yaml

import actome
from actome.analyze.report.sections import identification_line
from actome.replicate import STUDIES, replicate
from actome.replicate.block_design import STUDY, run
from actome.store.errors import InputError
from actome.store.paradigm import Paradigm

from .conftest import N_WORDS

SECTIONS = [
    "summary",
    "statements",
    "design",
    "timecourse",
    "contrasts",
    "networks",
    "overlap",
    "repeatability",
    "identification",
    "provenance",
]
RESULTS = [
    "contrasts_mlp",
    "contrasts_residual",
    "identification",
    "overlap",
    "repeatability",
    "statements",
    "time_course",
]
OPTIONS = {
    "site": "mlp",
    "sites": ("mlp", "residual"),
    "control": actome.Top(0.1),
    "max_new_tokens": 8,
    "n_permutations": 30,
}


def model(phantom):
    return (phantom.module, phantom.tokenizer)


@pytest.fixture(scope="module")
def folder(phantom, paradigm, tmp_path_factory):
    out = tmp_path_factory.mktemp("replicate")
    run(model=model(phantom), paradigm=paradigm, out=out, **OPTIONS)
    return out


def result(folder, name):
    return actome.open(folder / f"{name}.zarr").load()


def times(folder):
    return {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file() and p.suffix != ".html"}


def test_run__finds_the_planted_networks_in_generated_tokens(folder, phantom):
    effect = result(folder, "contrasts_mlp")["effect"].sel(network=["a", "b"]).to_numpy().reshape(2, -1)
    largest = np.argsort(-effect, axis=1)[:, :N_WORDS]
    for found, planted in zip(largest, phantom.networks.reshape(2, -1), strict=True):
        assert set(found.tolist()) == set(np.flatnonzero(planted).tolist())
    recording = actome.open(folder / "words.zarr", site="mlp")
    assert bool((recording["generated"] | (recording["token_id"] == -1)).all())


def test_run__shows_every_output_of_the_study(folder):
    html = (folder / "report.html").read_text(encoding="utf-8")
    assert re.findall(r'<section id="(\w+)"', html) == SECTIONS
    assert html.count("site mlp kept in each layer") == html.count("site residual kept in each layer") == 1
    assert identification_line(result(folder, "identification")) in html


def test_run__states_what_was_planted(folder):
    told = result(folder, "statements")
    assert told.attrs["study"] == STUDY and "note" not in told.attrs
    verdicts = told["verdict"].to_numpy().tolist()
    assert verdicts[:4] == ["agree", "agree", "disagree", "not asked"]  # a and b share no neuron
    assert float(result(folder, "identification")["accuracy"]) == 1.0
    values = dict(zip(told["choice"].to_numpy(), told["value"].to_numpy(), strict=True))
    assert values["blocks"] == "rest, task, rest; 6 prompts in a task block, 3 in a rest block"
    assert "at most 8 a prompt" in values["tokens"] and values["values"] == "mlp"


def test_run__results_know_their_recording_and_their_settings(folder):
    digest = actome.open(folder / "words.zarr", site="mlp").attrs["manifest_digest"]
    assert sorted(p.stem for p in folder.glob("*.zarr")) == sorted([*RESULTS, "words"])
    for name in RESULTS:
        attrs = result(folder, name).attrs
        assert attrs["derived_from"] == [digest]
        assert attrs["settings"]["rest"] == "both" and attrs["settings"]["n_permutations"] == 30


def test_run__the_time_course_is_of_a_run_that_chose_nothing(folder):
    course = result(folder, "time_course")
    shown = set(course["prompt"].to_numpy().tolist())
    assert set(course["run"].to_numpy().tolist()) == {2}
    assert not shown & set(course.attrs["selected_on"])
    assert float(course["correlation"]) > 0


def test_run__a_second_call_opens_what_the_first_made(folder, phantom, paradigm):
    before = times(folder)
    run(model=model(phantom), paradigm=paradigm, out=folder, **OPTIONS)
    assert times(folder) == before


def test_run__goes_on_where_it_stopped(folder, phantom, paradigm, tmp_path):
    again = tmp_path / "again"
    shutil.copytree(folder, again)
    shutil.rmtree(again / "overlap.zarr")
    half = again / ".overlap.zarr.partial"
    half.mkdir()
    (half / "left").touch()
    run(model=model(phantom), paradigm=paradigm, out=again, **OPTIONS)
    assert not half.exists()
    assert result(again, "overlap").drop_attrs().identical(result(folder, "overlap").drop_attrs())


def test_run__refuses_results_of_other_settings_or_of_another_recording(folder, phantom, paradigm):
    options = {"model": model(phantom), "paradigm": paradigm, "out": folder}
    with pytest.raises(InputError, match=r"was made with alpha 0\.05, not 0\.01; remove it or choose"):
        run(**options, **{**OPTIONS, "alpha": 0.01})
    with pytest.raises(InputError, match="max_new_tokens"):
        run(**options, **{**OPTIONS, "max_new_tokens": 9})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"site": "brain"}, r"sites must be some of .* the compared one \('brain'\) among them"),
        ({"sites": ("residual",)}, r"the compared one \('mlp'\) among them"),
        ({"rest": "sleep"}, r"no condition 'sleep' to rest in; it has \['"),
        ({"measure": "loudness"}, "measure must be"),
        ({"control": "maxt"}, "control must be one of"),
        ({"alpha": 2.0}, "alpha must lie between 0 and 1"),
        ({"n_permutations": 0}, "n_permutations must be at least 1"),
    ],
)
def test_run__refuses_a_wrong_option_before_any_work(wrong, message, phantom, paradigm, tmp_path):
    out = tmp_path / "none"
    with pytest.raises(InputError, match=message):
        run(model=model(phantom), paradigm=paradigm, out=out, **{**OPTIONS, **wrong})
    assert not out.exists()


def test_run__refuses_a_paradigm_that_cannot_tell(phantom, rows, paradigm, tmp_path):
    given = {"model": model(phantom), "out": tmp_path / "none", **OPTIONS}
    with pytest.raises(InputError, match="name the condition between the tasks with rest="):
        run(paradigm=Paradigm(rows), **given)
    with pytest.raises(InputError, match="at least two tasks beside rest and two runs"):
        run(paradigm=Paradigm(rows), rest="both", **given)
    one_task = paradigm.select(condition=["a", "both"])
    with pytest.raises(InputError, match=r"has the tasks \['a'\], 3 runs"):
        run(paradigm=one_task, rest="both", **given)


def test_replicate__names_the_studies_that_it_knows():
    with pytest.raises(InputError, match=r"there is no study '1234\.5'.*2311\.10898 \(On Functional"):
        replicate("1234.5", model="demo", out="x")
    assert list(STUDIES) == ["2311.10898", "2502.20408", "2310.14928"]


def test_command__replicates_and_prints_the_verdicts(call, phantom, rows, tmp_path):
    phantom.module.save_pretrained(tmp_path / "m")
    phantom.tokenizer.save_pretrained(tmp_path / "m")
    design = {"per_block": 4, "rest_per_block": 2, "runs": 3, "rest": "both"}
    document = {"name": "words", "licence": "CC0-1.0", "prompts": rows, "design": design}
    (tmp_path / "p.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    options = {
        "-m": tmp_path / "m",
        "-o": tmp_path / "o",
        "--paradigm": tmp_path / "p.yaml",
        "--sites": "mlp, mlp_out",
        "--site": "mlp",
        "--max-new-tokens": 4,
        "--permutations": 20,
        "--control": "fdr",
    }
    status, out, error = call("replicate", "2311.10898", *(v for pair in options.items() for v in pair))
    assert status == 0, error
    lines = out.splitlines()
    assert lines[-1] == str(tmp_path / "o" / "report.html") and (tmp_path / "o" / "report.html").is_file()
    assert len(lines) == 7 and lines[3].startswith("not asked: The largest overlap")


def test_command__refuses_an_unknown_study_in_one_line(call, tmp_path):
    status, out, error = call("replicate", "1234.5", "-m", "demo", "-o", tmp_path / "o")
    assert status == 2 and not out and error.startswith("actome: there is no study '1234.5'")


@pytest.mark.slow
def test_run__the_demo_model_repeats_every_output(tmp_path):
    path = replicate("2311.10898", model="demo", out=tmp_path / "d")
    told = result(tmp_path / "d", "statements")
    assert told["verdict"].to_numpy().tolist() == ["agree"] * 3 + ["not asked"] + ["agree"] * 2
    assert "was shown languages instead" in told.attrs["note"]
    html = (tmp_path / "d" / "report.html").read_text(encoding="utf-8")
    assert path.endswith("report.html") and re.findall(r'<section id="(\w+)"', html) == SECTIONS
