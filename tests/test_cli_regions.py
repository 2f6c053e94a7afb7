"""`actome regions`: importance found or opened again, regions chosen and saved, one line for each."""

import json

import numpy as np
import pytest

import actome
from actome.analyze.regions.selection import region
from actome.ingest.phantom import phantom_model


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    made = phantom_model(n_layers=1)
    made.module.save_pretrained(folder / "m")
    made.tokenizer.save_pretrained(folder / "m")
    (folder / "texts.yaml").write_text(
        "name: t\nprompts: [{text: a1 a2 a3 a4, condition: a}, {text: b1 b2 b3, condition: b}]\n"
    )
    return folder / "m", folder / "texts.yaml"


def test_regions__saves_what_region_selects(call, model, tmp_path):
    out = tmp_path / "r.zarr"
    options = ("--top", 0.02, "--top", 0.05, "--role", "top", "--role", "bottom", "--matrix", "gate")
    status, printed, err = call("regions", *model, "-o", out, *options, "--device", "cpu", "--json")
    assert status == 0, err
    rows = [json.loads(line) for line in printed.splitlines()]
    assert [r["region"] for r in rows] == ["top 2%", "bottom 2%", "top 5%", "bottom 5%"]
    saved = actome.open(out)
    weights = actome.open(tmp_path / "r-importance.zarr")
    wanted = region(weights, top=0.05, matrices=["gate"])
    for name, node in wanted.children.items():
        np.testing.assert_array_equal(saved[name]["mask"].sel(region="top 5%"), node["mask"][0])
    sizes = sum(n["mask"].sum(("row", "column")).to_numpy() for n in saved.children.values())
    total = sum(n["mask"][0].size for n in saved.children.values())
    assert [r["parameters"] for r in rows] == sizes.tolist()
    assert [r["share"] for r in rows] == (sizes / total).tolist()
    assert saved.attrs["derived_from"] == [weights.attrs["manifest_digest"]]


def test_regions__opens_importance_that_is_there(call, model, tmp_path):
    kept = tmp_path / "importance.zarr"
    common = (*model, "--importance", kept, "--device", "cpu")
    assert call("regions", *common, "-o", tmp_path / "a.zarr")[0] == 0
    before = {p: p.stat().st_mtime_ns for p in kept.rglob("*")}
    status, printed, err = call(
        "regions", *common, "-o", tmp_path / "b.zarr", "--of", "condition", "--top", 0.02, "--top", 0.1
    )
    assert status == 0, err
    assert before == {p: p.stat().st_mtime_ns for p in kept.rglob("*")}
    assert [line.split(":")[0] for line in printed.splitlines()] == ["a 2%", "b 2%", "a 10%", "b 10%"]
    assert actome.open(tmp_path / "b.zarr")["condition"].to_numpy().tolist() == ["a", "b"] * 2


def test_regions__where_selects_on_some_texts_and_leaves_the_others_to_score(call, model, tmp_path):
    out = tmp_path / "r.zarr"
    status, _, err = call("regions", *model, "-o", out, "--where", "condition=a", "--device", "cpu")
    assert status == 0, err
    saved = actome.open(out)
    assert saved.attrs["selected_on"] == ["a-0000"] and len(saved.attrs["selected_texts"]) == 1
    scores = actome.score_regions(*model, tmp_path / "s.zarr", saved, controls=0)
    assert scores["prompt"].to_numpy().tolist() == ["b-0000"]
    status, _, err = call("regions", *model, "-o", tmp_path / "x.zarr", "--where", "condition=c")
    assert status == 2 and "no prompt has the condition 'c'; there are ['a', 'b']" in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--top", 0), "--top must be above 0 and at most 1, got 0"),
        (("--role", "best"), "--role must be one of ['top', 'bottom', 'random'], got 'best'"),
        (("--of", "all"), "--of must be one of"),
        (("--scope", "layer"), "--scope must be one of"),
        (("--seed", -1), "--seed must be at least 0, got -1"),
        (("--of", "monolingual", "--role", "bottom"), "--of monolingual goes with --role top alone"),
        (("--top", 0.01, "--top", 0.01), "--top 0.01 is given twice"),
        (("--role", "top", "--role", "top"), "--role top is given twice"),
        (("--condition", "zz"), "--condition must be one of ['a', 'b'], got 'zz'"),
        (("--condition", "a", "--condition", "a"), "--condition a is given twice"),
        (("--condition", "a", "--of", "monolingual"), "needs at least two conditions, got ['a']"),
        (
            ("--matrix", "foo"),
            "--matrix must be one of ['q', 'k', 'v', 'o', 'gate', 'up', 'down'], got 'foo'",
        ),
        (("--by", "language"), "has no column 'language'"),
        (("--parameters", "some"), "parameters must be 'blocks' or 'all', got 'some'"),
    ],
)
def test_regions__refuses_a_wrong_option_before_any_work(call, model, tmp_path, options, message):
    status, _, err = call("regions", *model, "-o", tmp_path / "r.zarr", *options, "--device", "cpu")
    assert status == 2 and message in err and err.count("\n") == 1
    assert not list(tmp_path.iterdir())
