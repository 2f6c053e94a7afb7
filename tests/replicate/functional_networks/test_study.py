"""Functional networks from the recording to the report, on a model whose networks are known."""

import re
import shutil

import numpy as np
import pytest

import actome
from actome.ingest.phantom import phantom_model
from actome.replicate import replicate
from actome.replicate.functional_networks import STUDY, run
from actome.store.errors import InputError
from actome.store.paradigm import Paradigm

SECTIONS = [
    *("summary", "statements", "design", "components", "networks", "descriptions", "overlap", "recurrence"),
    "provenance",
]
OPTIONS = {"n_components": 3, "n_samples": 8, "n_runs": 3, "seed": 3}  # enough samples of either language
SETS = ("one", "both")


@pytest.fixture(scope="module")
def phantom():
    return phantom_model(n_words=6, n_prompts=20)


@pytest.fixture(scope="module")
def given(phantom):
    """The model, and two data sets: texts of one language, texts of both."""
    table = phantom.paradigm.table
    sets = [Paradigm(table[table["condition"] == "a"], name="one"), Paradigm(table, name="both")]
    return {"model": (phantom.module, phantom.tokenizer), "paradigm": sets}


@pytest.fixture(scope="module")
def folder(given, tmp_path_factory):
    out = tmp_path_factory.mktemp("replicate")
    run(**given, out=out, **OPTIONS)
    return out


def result(folder, name):
    return actome.open(folder / f"{name}.zarr").load()


def times(folder):
    return {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file() and p.suffix != ".html"}


def test_run__shows_both_ways_beside_what_was_published(folder):
    html = (folder / "report.html").read_text(encoding="utf-8")
    assert re.findall(r'<section id="(\w+)"', html) == SECTIONS
    for title in ("one, good practice", "both, to the letter", "published: GPT-2, AG News"):
        assert title in html
    assert html.index("arXiv 2502.20408, good practice") < html.index("arXiv 2502.20408, to the letter")


def test_run__keeps_every_result_with_its_settings(folder):
    ways = [f"{d}_{w}" for d in SETS for w in ("practice", "paper")]
    names = [*SETS, *(f"{k}_{w}" for k in ("templates", "individual", "recurrence") for w in ways)]
    names += [f"{k}_both_{w}" for k in ("contrasts", "labels") for w in ("practice", "paper")]
    names += [f"{k}_{w}" for k in ("across", "statements") for w in ("practice", "paper")]
    assert sorted(p.stem for p in folder.glob("*.zarr")) == sorted(names)
    for name in names[2:]:
        assert result(folder, name).attrs["settings"]["n_components"] == 3


def test_run__goes_both_ways_as_it_says(folder):
    practice, paper = (result(folder, f"templates_both_{w}") for w in ("practice", "paper"))
    assert practice.attrs["standardize"] and not paper.attrs["standardize"]
    assert "spatial" in practice.attrs["method"] and "temporal" in paper.attrs["method"]
    assert np.isfinite(practice["stability"]).all() and np.isfinite(paper["stability"]).all()
    alone = [result(folder, f"individual_both_{w}").attrs["method"] for w in ("practice", "paper")]
    assert "spatial, quasi-newton" in alone[0] and "temporal, fastica" in alone[1]
    assert "FastICA" in paper.attrs["method"] and paper.attrs["repeats"] == paper.attrs["method"]
    assert (paper.attrs["n_runs"], practice.attrs["n_runs"]) == (1, 3)
    assert float(paper["found_again"].max()) > 0.8
    assert "is_network" in practice and "is_network" not in paper
    assert practice.attrs["site"] == paper.attrs["site"] == "mlp_out"


def test_run__looks_at_samples_that_made_no_template(folder):
    for way in ("practice", "paper"):
        templates, found = (result(folder, f"{k}_one_{way}") for k in ("templates", "recurrence"))
        single = set(found["subject"].to_numpy().tolist())
        assert len(single) == 8 and not single & set(templates.attrs["selected_on"])
        assert {"size", "components", "samples", "p_samples", "stability"} <= set(found)


def test_run__counts_templates_of_one_data_set_in_the_others(folder):
    for way in ("practice", "paper"):
        across = result(folder, f"across_{way}")
        assert across["data_set"].to_numpy().tolist() == list(SETS)
        for name in SETS:
            own = across.sel(data_set=name, data_set_other=name)
            found = result(folder, f"recurrence_{name}_{way}")
            for variable in ("components", "samples", "p_samples"):
                np.testing.assert_array_equal(own[variable], found[variable])
        one, both = (result(folder, f"{k}_{way}") for k in ("templates_one", "individual_both"))
        masks = actome.networks(one, keep_all=True)
        expected = actome.recurrence(masks, both["mask"], null=None)
        np.testing.assert_array_equal(
            across["components"].sel(data_set="one", data_set_other="both"), expected["components"]
        )


def test_run__labels_templates_by_samples_that_made_none(folder):
    labels = result(folder, "labels_both_practice")
    assert set(labels["label"].to_numpy()) <= {"a", "b", ""}
    contrasts = result(folder, "contrasts_both_practice")
    made = set(result(folder, "templates_both_practice").attrs["selected_on"])
    assert not made & set(contrasts.attrs["selected_on"])
    assert contrasts["network"].to_numpy().tolist() == ["a - b"]


@pytest.mark.slow
def test_run__the_other_way_first_only_turns_the_report_round(folder, given, tmp_path):
    again = tmp_path / "again"
    shutil.copytree(folder, again)
    before = times(again)
    outcome = run(**given, out=again, mode="paper", **OPTIONS)
    assert times(again) == before and outcome.statements.attrs["study"] == f"{STUDY}, to the letter"
    html = (again / "report.html").read_text(encoding="utf-8")
    assert html.index("arXiv 2502.20408, to the letter") < html.index("arXiv 2502.20408, good practice")


def test_run__refuses_results_of_other_settings(folder, given):
    with pytest.raises(InputError, match=r"was made with n_runs 3, not 4; remove it or choose"):
        run(**given, out=folder, **{**OPTIONS, "n_runs": 4})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"part": "brain"}, r"part must be one of \['networks', 'lesions', 'all'\], got 'brain'"),
        ({"mode": "both"}, "mode must be 'practice' or 'paper', got 'both'"),
        ({"site": "brain"}, "site must be one of"),
        ({"n_components": 1}, "n_components must be at least 2, got 1"),
        ({"n_samples": 1}, "n_samples must be at least 2, got 1"),
        ({"n_runs": 1}, "n_runs must be at least 2, got 1"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"n_controls": 0}, "n_controls must be at least 1, got 0"),
        ({"paradigm": []}, "give at least one paradigm"),
        ({"paradigm": ["tasks", "tasks"]}, "two data sets are called 'tasks'"),
    ],
)
def test_run__refuses_a_wrong_option_before_any_work(wrong, message, given, tmp_path):
    out = tmp_path / "none"
    with pytest.raises(InputError, match=message):
        run(**{**given, **OPTIONS, **wrong}, out=out)
    assert not out.exists()


def test_replicate__refuses_options_of_another_study(tmp_path):
    with pytest.raises(InputError, match=r"study 2502\.20408 has no option 'rest'; it has \['model', 'out'"):
        replicate("2502.20408", model="demo", out=tmp_path, rest="other")


def test_command__prints_the_verdicts_of_the_way_asked_for(call, phantom, given, tmp_path):
    phantom.module.save_pretrained(tmp_path / "m")
    phantom.tokenizer.save_pretrained(tmp_path / "m")
    rows = given["paradigm"][0].table[["text", "condition"]].to_dict(orient="records")
    lines = [f"  - {{text: {r['text']!r}, condition: {r['condition']}}}" for r in rows]
    (tmp_path / "p.yaml").write_text("\n".join(["name: words", "prompts:", *lines]), encoding="utf-8")
    status, out, error = call(
        "replicate", "2502.20408", "-m", tmp_path / "m", "-o", tmp_path / "o", "--part", "networks",
        "--mode", "paper", "--paradigm", tmp_path / "p.yaml", "--components", 2, "--samples", 4, "--runs", 2,
    )  # fmt: skip
    assert status == 0, error
    printed = out.splitlines()
    assert printed[-1] == str(tmp_path / "o" / "report.html") and len(printed) == 7
    told = result(tmp_path / "o", "statements_paper")
    assert printed[0] == f"{told['verdict'][0].item()}: {told['claim'][0].item()}"


@pytest.mark.slow
def test_run__the_demo_model_shows_every_output(tmp_path):
    path = replicate("2502.20408", model="demo", out=tmp_path / "d", n_samples=30)
    html = (tmp_path / "d" / "report.html").read_text(encoding="utf-8")
    assert path.endswith("report.html") and re.findall(r'<section id="(\w+)"', html) == SECTIONS
    for way in ("practice", "paper"):
        told = result(tmp_path / "d", f"statements_{way}")
        assert told["verdict"].to_numpy()[0] in ("agree", "cannot say")
