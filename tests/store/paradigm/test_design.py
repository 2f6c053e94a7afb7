"""Block designs: what is counted, drawn and refused."""

import json

import pytest

from actome.store.errors import InputError
from actome.store.paradigm import Paradigm
from actome.store.paradigm.design import Design

from .files import rows, written


def test_design__counts_per_run_and_block():
    design = Design(pattern=("rest", "task", "rest"), per_block=4, rest_per_block=3, runs=2, rest="rest")
    table = Paradigm(rows(), design=design).table
    per_run = table.groupby(["run", "condition"]).size().unstack()
    assert per_run.to_dict("list") == {"a": [4, 4], "b": [4, 4], "rest": [12, 12]}
    blocks = table.groupby("block", sort=False)
    assert list(blocks.groups) == list(range(12))
    assert (blocks["condition"].nunique() == 1).all()
    assert blocks.size().tolist() == [3, 4, 3] * 4
    order = blocks["condition"].first().tolist()
    assert [c == "rest" for c in order] == [True, False, True] * 4
    assert sorted(order[1:6:3]) == sorted(order[7::3]) == ["a", "b"]
    assert table["run"].tolist() == [0] * 20 + [1] * 20


def test_design__no_prompt_is_shown_twice_and_texts_keep_their_condition():
    paradigm = Paradigm(rows(), design=Design(per_block=5, runs=2, rest="rest"))
    assert paradigm.table["prompt"].is_unique
    assert paradigm.table["text"].is_unique
    assert (paradigm.table["text"].str.split().str[0] == paradigm.table["condition"]).all()


def test_design__is_drawn_by_its_seed():
    def order(seed):
        return list(
            Paradigm(rows(), design=Design(per_block=5, runs=2, rest="rest", seed=seed)).table["text"]
        )

    assert order(0) == order(0)
    assert order(0) != order(1)


def test_design__from_the_file_equals_that_in_python(tmp_path):
    listed = "\n".join(f"  - {json.dumps(row)}" for row in rows())
    text = f"name: x\nprompts:\n{listed}\ndesign: {{rest: rest, per_block: 5, runs: 2, seed: 3}}\n"
    read = Paradigm.read(written(tmp_path, text))
    made = Paradigm(rows(), design=Design(rest="rest", per_block=5, runs=2, seed=3))
    assert read.digest == made.digest


@pytest.mark.parametrize(
    ("design", "conditions", "message"),
    [
        (
            {"per_block": 30},
            ("a", "rest"),
            r"needs 90 prompts of condition 'a' \(3 runs of 30\), the paradigm has 40",
        ),
        ({"rest": "pause"}, ("a", "rest"), "prompts of condition 'pause' .*, the paradigm has 0"),
        ({}, ("rest",), "the design needs a condition other than its rest, 'rest'"),
    ],
)
def test_design__bad_input(design, conditions, message):
    with pytest.raises(InputError, match=message):
        Paradigm(rows(conditions=conditions), design=Design(**{"rest": "rest", **design}))
