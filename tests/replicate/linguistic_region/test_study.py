"""Linguistic regions from the importance to the report, on a model whose parameters are known."""

import copy
import re
import shutil

import numpy as np
import pytest

import actome
from actome.ingest.phantom import phantom_model
from actome.replicate import replicate
from actome.replicate.linguistic_region import run
from actome.replicate.linguistic_region.texts import questions, split
from actome.store.errors import InputError
from actome.store.paradigm import Paradigm

SECTIONS = ["summary", "statements", "regions", "dimensions", "forgetting", "provenance"]
OPTIONS = {"n_controls": 1, "steps": 2, "language": "b"}
ARCHIVES = [
    "importance",
    *(f"{kind}_{name}" for kind in ("scores", "effects") for name in ("core", "matrices", "monolingual")),
    *(f"{kind}_{along}" for kind in ("sweep", "sweep_effects") for along in ("scalar", "row", "column")),
    *(f"regions_{name}" for name in ("core", "matrices", "monolingual", "condition", "frozen")),
    *("overlap", "concentration", "training", "forgetting", "statements"),
]


@pytest.fixture(scope="module")
def phantom():
    return phantom_model(n_words=6, n_layers=1, n_prompts=6)


@pytest.fixture(scope="module")
def probe(phantom):
    texts = phantom.paradigm.table["text"].tolist()[:4]
    return Paradigm([{"text": t, "item": str(i // 2), "correct": i % 2 == 0} for i, t in enumerate(texts)])


@pytest.fixture(scope="module")
def given(phantom, probe):
    return {"model": (phantom.module, phantom.tokenizer), "paradigm": phantom.paradigm, "probe": probe}


@pytest.fixture(scope="module")
def folder(given, tmp_path_factory):
    out = tmp_path_factory.mktemp("replicate")
    run(**given, out=out, **OPTIONS)
    return out


def times(folder):
    return {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file() and p.suffix != ".html"}


def test_run__shows_every_output_and_keeps_every_result(folder):
    html = (folder / "report.html").read_text(encoding="utf-8")
    assert re.findall(r'<section id="(\w+)"', html) == SECTIONS
    assert sorted(p.stem for p in folder.glob("*.zarr")) == sorted(ARCHIVES)
    for said in (
        "top 1%",
        "geometric mean",
        "a random region frozen",
        "single parameter of",
        "none (baseline)",
    ):
        assert said in html


def test_run__evaluates_on_texts_that_selected_nothing(folder):
    selected = set(actome.open(folder / "importance.zarr").attrs["selected_on"])
    for name in ("scores_core", "scores_monolingual", "sweep_row", "training"):
        assert not selected & set(actome.open(folder / f"{name}.zarr")["prompt"].to_numpy())


@pytest.mark.slow
def test_run__again_computes_nothing_and_goes_on_with_what_is_missing(folder, given, tmp_path):
    again = tmp_path / "again"
    shutil.copytree(folder, again)
    before = times(again)
    run(**given, out=again, **OPTIONS)
    assert times(again) == before
    gone = again / "effects_core.zarr"
    shutil.rmtree(gone)
    run(**given, out=again, **OPTIONS)
    assert {p for p, t in times(again).items() if before.get(p) != t} == {
        p for p in gone.rglob("*") if p.is_file()
    }


def test_run__refuses_results_of_other_settings(folder, given):
    with pytest.raises(InputError, match=r"n_controls|other"):
        run(**given, out=folder, **{**OPTIONS, "n_controls": 2})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"n_controls": 0}, "n_controls must be at least 1, got 0"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0 and finite, got 0"),
        ({"learning_rate": float("inf")}, "learning_rate must be above 0 and finite, got inf"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"language": "xx"}, "there is no language 'xx' to train on"),
        ({"probe": Paradigm([{"text": "a1 a2"}])}, "a probe needs the columns item and correct"),
    ],
)
def test_run__refuses_a_wrong_option_before_any_work(wrong, message, given, tmp_path):
    out = tmp_path / "none"
    with pytest.raises(InputError, match=message):
        run(**{**given, **OPTIONS, **wrong}, out=out)
    assert not out.exists()


def test_run__a_model_of_another_precision_is_refused_before_any_work(given, tmp_path):
    module, tokenizer = given["model"]
    with pytest.raises(InputError, match="weights are bfloat16: small updates would be rounded away"):
        run(**{**given, "model": (copy.deepcopy(module).bfloat16(), tokenizer)}, out=tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_run__loads_a_model_in_float32_whatever_its_files_are_in(given, tmp_path, monkeypatch):
    asked = []

    def read(*source, dtype=None, **options):
        asked.append(dtype)
        raise InputError("seen")

    monkeypatch.setattr("actome.ingest.models.read_model", read)
    with pytest.raises(InputError, match="seen"):
        run(**{**given, "model": "demo"}, out=tmp_path / "none")
    assert asked == ["float32"]


def test_run__another_training_leaves_what_is_known_of_the_regions(folder, given, tmp_path):
    again = tmp_path / "again"
    shutil.copytree(folder, again)
    with pytest.raises(InputError, match=r"forgetting\.zarr was made with learning_rate 0\.0001, not 0\.01"):
        run(**given, out=again, **OPTIONS, learning_rate=0.01)
    for name in ("training", "forgetting", "statements"):
        shutil.rmtree(again / f"{name}.zarr")
    before = times(again)
    run(**given, out=again, **OPTIONS, learning_rate=0.01)
    after = times(again)
    assert all(after[p] == time for p, time in before.items())
    for name in ("training", "forgetting"):
        shutil.rmtree(again / f"{name}.zarr")
    with pytest.raises(InputError, match=r"regions_frozen\.zarr is the region of \['a'\], not of \['b'\]"):
        run(**given, out=again, **{**OPTIONS, "language": "a"})


def test_split__takes_a_third_of_every_language_whatever_the_order():
    texts = Paradigm.read("languages")
    first = split(texts, "", 0)
    assert first.scoring.table["condition"].value_counts().unique().tolist() == [8]
    assert first.selecting.table["condition"].value_counts().unique().tolist() == [16]
    assert not set(first.selecting.table["text"]) & set(first.scoring.table["text"])
    assert "random" not in first.conditions
    turned = Paradigm(texts.table[texts.table["condition"] != "random"][::-1])
    assert set(split(turned, "", 0).scoring.table["prompt"]) == set(first.scoring.table["prompt"])


def test_split__refuses_one_language_or_too_few_texts():
    with pytest.raises(InputError, match="at least two languages"):
        split(Paradigm([{"text": f"x{i}", "condition": "a"} for i in range(9)]), "", 0)


def test_questions__have_one_right_answer_each():
    table = questions().table
    assert len(table) == 30 and table.groupby("item")["correct"].sum().eq(1).all()
    assert table["text"].is_unique


@pytest.mark.slow
def test_command__shows_the_demo_model_and_prints_the_verdicts(call, tmp_path):
    status, out, error = call("replicate", "2310.14928", "-m", "demo", "-o", tmp_path / "d")
    assert status == 0, error
    printed = out.splitlines()
    assert printed[-1] == str(tmp_path / "d" / "report.html") and len(printed) == 10
    told = actome.open(tmp_path / "d" / "statements.zarr").load()
    assert [line.split(":")[0] for line in printed[:-1]] == told["verdict"].to_numpy().tolist()
    core = actome.open(tmp_path / "d" / "effects_core.zarr").load()
    mean = core["effect"].mean("condition").to_numpy()
    top = core["role"].to_numpy() == "top"
    assert (np.diff(mean[top]) > 0).all() and (mean[top] > 10 * mean[~top]).all()
    assert told["verdict"][0].item() == "agree"


def test_replicate__refuses_options_of_another_study(tmp_path):
    with pytest.raises(InputError, match=r"study 2310\.14928 has no option 'rest'"):
        replicate("2310.14928", model="demo", out=tmp_path, rest="other")
