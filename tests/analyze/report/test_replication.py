"""The report's sections of a replicated study: statements, time course, repeatability, chance overlap."""

import numpy as np
import pytest
import xarray as xr

import actome
from actome.analyze.reliability.repeatability import repeatability
from actome.analyze.report.timecourse import _limits, _tasks
from actome.analyze.time_course import time_course
from actome.store.phantom import phantom

from .test_report import EVIL, page


@pytest.fixture(scope="module")
def ds():
    return phantom(n_prompts=6, n_tokens=(4, 6), effect=2.0)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "report.html"


def statements(claim="All is well.", verdict="agree") -> xr.Dataset:
    columns = {"claim": claim, "measured": "1 of 1", "verdict": verdict, "rule": "Agree: always."}
    along = {k: ("statement", np.array([v], dtype=object)) for k, v in columns.items()}
    made = {k: ("choice", np.array([k], dtype=object)) for k in ("choice", "value", "reason")}
    return xr.Dataset(along | made, attrs={"kind": "statements", "study": "A study", "note": "Mind this."})


def test_report__sets_a_statement_beside_what_was_measured(out):
    shown = page(statements(), out=out)
    assert shown.sections == ["summary", "statements", "provenance"]
    for text in ("A study, 1 statement: 1 agree.", "All is well.", "1 of 1", "Agree: always.", "Mind this."):
        assert text in shown.text
    assert "background:#cfe4f2" in out.read_text(encoding="utf-8")
    assert "the study's figures" not in shown.text  # none are known
    known = statements().assign(published=("statement", np.array(["2 of 2"], dtype=object)))
    text = page(known, out=out).text
    assert "the study's figures" in text and "2 of 2" in text


def test_report__statements_without_choices_or_a_known_verdict_still_show(out):
    ds = statements(verdict="perhaps").drop_vars(["choice", "value", "reason"])
    assert "perhaps" in page(ds, out=out).text


def test_report__compares_maps_within_and_between_runs(ds, out):
    result = repeatability(ds, n_permutations=9, network=actome.Top(0.05))
    shown = page(result, out=out)
    assert shown.sections == ["summary", "repeatability", "provenance"]
    assert "from 9 permutations" in shown.text and "Top(0.05)" in shown.text
    n = ds["run"].to_numpy().max() + 1
    assert f"rest,\u00a0run\u00a0{n - 1}" in shown.text
    same = float(result["dice"].to_numpy()[0, 3])  # maps go by run, then contrast; three contrasts
    assert f"{same:.2f}" in shown.text


def test_report__many_maps_show_their_numbers_as_hints_alone(out):
    many = phantom(conditions=tuple("abcdef"), n_prompts=8, n_runs=4, n_tokens=(2, 3), n_layers=1)
    result = repeatability(many, n_permutations=2, network=actome.Top(0.2))
    page(result, out=out)
    html = out.read_text(encoding="utf-8")
    dice = f"{float(result['dice'][0, 1]):.2f}"
    assert result.sizes["map"] == 24
    assert f': {dice}"' in html and f">{dice}<" not in html


def test_report__draws_a_time_course_with_its_blocks(ds, out):
    fit = actome.fit_glm(ds)
    course = time_course(ds, fit, layer=1, neuron=3).assign_attrs(rest="rest", chosen="By hand.")
    shown = page(course, out=out)
    assert shown.sections == ["summary", "timecourse", "provenance"]
    n = course.sizes["row"]
    assert f"of neuron 3 in layer 1, over {n} tokens" in shown.text.replace(" of the site mlp", "")
    assert "By hand." in shown.text and "white: rest" in shown.text


def test_report__draws_a_time_course_without_blocks_or_spread(ds, out):
    course = time_course(ds, actome.fit_glm(ds), layer=0, neuron=0)
    bare = course.drop_vars([c for c in ("condition", "block", "run") if c in course.coords])
    flat = bare.assign(value=bare["value"] * 0, prediction=bare["prediction"] * 0)
    shown = page(bare, flat, bare.isel(row=slice(0, 0)), out=out)
    assert shown.sections == ["summary", "timecourse", "provenance"]


def test_tasks__are_stretches_of_a_block_and_a_condition():
    labels = {"condition": ("row", list("rraabbrb")), "block": ("row", [0, 0, 1, 1, 2, 2, 3, 4])}
    ds = xr.Dataset(coords=labels)
    assert _tasks(ds, "r") == [(2, 4, "a"), (4, 6, "b"), (7, 8, "b")]


def test_limits__leave_out_the_farthest_values_and_keep_the_fit():
    value = np.r_[np.linspace(0, 1, 9999), 1e6]
    low, high = _limits(value, np.array([2.0]))
    assert low == 0.0 and 2.0 < high < 3.0
    assert _limits(np.full(3, np.nan), np.full(3, np.nan)) == (0.0, 1.0)


def test_report__escapes_a_studys_text(out):
    shown = page(statements(claim=EVIL), out=out)
    assert EVIL in shown.text and "script" not in shown.tags


def test_report__tells_how_many_neurons_chance_would_share(ds, out):
    mask = actome.threshold(
        xr.concat(
            [actome.compute_contrast(actome.fit_glm(ds), f"{c} - rest") for c in "ab"],
            xr.Variable("network", np.array(["a", "b"], dtype=object)),
            coords="different",
            compat="equals",
        ),
        control=actome.Top(0.2),
    )
    result = actome.overlap(mask, null="layers")
    shown = page(result, out=out)
    both, expected = (float(result[v][0, 1]) for v in ("intersection", "expected"))
    ratio = f"{both / expected:.2f}" if both else "0.00"
    assert f"{ratio} \u00d7" in shown.text and "for networks of these sizes in each layer" in shown.text
    assert "expected by chance, p = " in out.read_text(encoding="utf-8")
    assert " \u00d7" not in page(actome.overlap(mask), out=out).text
