"""Lesions from the templates to the report: on a model whose networks are known, and on the demo model."""

import re

import numpy as np
import pytest

import actome
from actome.ingest.phantom import phantom_model
from actome.replicate import replicate
from actome.replicate.functional_networks import run
from actome.store.paradigm import Paradigm

SECTIONS = ["summary", "statements", "design", "lesions", "gains", "preservation", "provenance"]
# the model has two networks: of three components of one condition none may be left above the threshold
pytestmark = pytest.mark.filterwarnings("ignore:no neuron is in")

OPTIONS = {"part": "lesions", "site": "mlp", "n_components": 3, "n_samples": 12, "n_runs": 2}
LESIONS = {"n_controls": 3, "n_scored": 8, "kept_components": [4]}


@pytest.fixture(scope="module")
def given():
    phantom = phantom_model(n_words=6, n_prompts=20)
    table = phantom.paradigm.table
    sets = [Paradigm(table[table["condition"] == "a"], name="one"), Paradigm(table, name="both")]
    return {"model": (phantom.module, phantom.tokenizer), "paradigm": sets}


@pytest.fixture(scope="module")
def done(given, tmp_path_factory):
    out = tmp_path_factory.mktemp("lesions")
    return out, run(**given, out=out, **OPTIONS, **LESIONS)


def result(folder, name):
    return actome.open(folder / f"{name}.zarr").load()


@pytest.mark.slow
def test_run__scores_no_sample_that_selected_a_network(done):
    for name in ("both_practice", "kept_both_paper", "added_one_practice", "both_signed"):
        scores = result(done[0], f"scores_{name}")
        assert scores.attrs["selected_on"] and scores.sizes["prompt"] == 8
        assert not set(scores["prompt"].to_numpy()) & set(scores.attrs["selected_on"])
        assert (scores["role"] == "control").sum() == 3 * (scores["role"] == "target").sum()


@pytest.mark.slow
def test_run__shows_lesions_of_both_ways_and_of_conditions(done):
    html = (done[0] / "report.html").read_text(encoding="utf-8")
    assert re.findall(r'<section id="(\w+)"', html) == SECTIONS
    for title in (
        "both, networks of conditions by signed activation",
        "Published: GPT-2",
        "both, to the letter",
    ):
        assert title in html
    claims = done[1].statements
    assert claims.sizes["statement"] == 8 and set(claims["verdict"].to_numpy()) <= {
        "agree", "disagree", "cannot say", "not asked"
    }  # fmt: skip
    assert result(done[0], "effects_both_signed")["network"].to_numpy().tolist() == ["a", "b"]


@pytest.mark.slow
def test_run__uses_again_what_was_done(done, given):
    before = {p: p.stat().st_mtime_ns for p in done[0].rglob("*") if p.is_file() and p.suffix != ".html"}
    again = run(**given, out=done[0], **OPTIONS, **LESIONS)
    after = {p: p.stat().st_mtime_ns for p in done[0].rglob("*") if p.is_file() and p.suffix != ".html"}
    assert before == after
    assert np.array_equal(again.statements["verdict"], done[1].statements["verdict"])


@pytest.mark.slow
def test_run__the_demo_model_shows_every_output(tmp_path):
    replicate(
        "2502.20408", model="demo", out=tmp_path / "d", part="lesions", n_scored=10, n_controls=2, n_runs=2
    )
    html = (tmp_path / "d" / "report.html").read_text(encoding="utf-8")
    assert re.findall(r'<section id="(\w+)"', html) == SECTIONS
    for way in ("practice", "paper"):
        told = result(tmp_path / "d", f"statements_lesions_{way}")
        assert told.sizes["statement"] == 6 and told["verdict"].to_numpy()[0] != "not asked"
    assert result(tmp_path / "d", "effects_languages_signed").sizes["network"] == 10
