"""Templates: what they fill, and what they leave."""

import json

import pandas as pd
import pytest

from actome.store.errors import InputError, InputTypeError
from actome.store.paradigm import Paradigm
from actome.store.paradigm.design import Design

from .files import rows, written


def test_template__fills_columns_and_keeps_everything_else():
    prompts = [
        {"text": "a {b}", "condition": "x", "n": 1, "half": 0.5},
        {"text": "c", "condition": "y", "n": 2},
    ]
    prompts[1]["half"] = 1.5
    table = Paradigm(prompts, template="{{{condition}}} {text}{n}: {half}\n{text}").table
    assert list(table["text"]) == ["{x} a {b}1: 0.5\na {b}", "{y} c2: 1.5\nc"]
    plain = Paradigm(prompts).table
    pd.testing.assert_frame_equal(table.drop(columns="text"), plain.drop(columns="text"))


def test_template__one_for_a_condition_leaves_the_others():
    table = Paradigm(rows(1), template={"a": "A: {text}", "b": "no column"}).table
    assert list(table["text"]) == ["A: a 0", "no column", "rest 0"]


def test_template__goes_with_the_file_and_its_design(tmp_path):
    listed = "\n".join(f"  - {json.dumps(row)}" for row in rows())
    design = "design: {rest: rest, per_block: 5, runs: 2, seed: 3}\n"
    text = f'name: x\nprompts:\n{listed}\n{design}template: "Run {{run}}: {{text}}\\nAnswer:"\n'
    read = Paradigm.read(written(tmp_path, text)).table
    made = Paradigm(rows(), design=Design(rest="rest", per_block=5, runs=2, seed=3)).table
    expected = [f"Run {run}: {t}\nAnswer:" for t, run in zip(made["text"], made["run"], strict=True)]
    assert list(read["text"]) == expected


def test_template__is_filled_once():
    paradigm = Paradigm([{"text": "a"}, {"text": "b"}], template="<{text}>")
    assert list(paradigm.select(prompt="all-0001").table["text"]) == ["<b>"]


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (
            "{txt}",
            r"unknown column 'txt'; the prompts have \['prompt', 'text', 'condition', 'block', 'run', 'n'\]",
        ),
        ({"a": "{text}", "c": "x"}, r"unknown condition 'c'; the prompts have \['a'\]"),
        ("{text.__class__}", r"only a column's name may stand in braces, got \{text.__class__\}"),
        ("{text[0]}", r"only a column's name may stand in braces, got \{text\[0\]\}"),
        ("{text!r}", r"only a column's name may stand in braces, got \{text!r\}"),
        ("{n:>9}", r"only a column's name may stand in braces, got \{n:>9\}"),
        ("{n:{n}}", r"only a column's name may stand in braces"),
        ("{}", r"only a column's name may stand in braces, got \{\}"),
        ("{ text }", r"only a column's name may stand in braces, got \{ text \}"),
        ("{0}", "unknown column '0'"),
        ("{text", "template '{text': expected '}' .*; write {{ and }} for braces that are meant"),
        ("text}", "Single '}' encountered .*; write {{ and }} for braces"),
        ("", r"the template leaves prompts \[0, 1\] without text"),
        (" \n", r"the template leaves prompts \[0, 1\] without text"),
    ],
)
def test_template__bad_input(template, message):
    prompts = [{"text": "t", "condition": "a", "n": 1}, {"text": "u", "condition": "a", "n": 2}]
    with pytest.raises(InputError, match=message):
        Paradigm(prompts, template=template)


@pytest.mark.parametrize("template", [3, ["{text}"], {"all": 3}])
def test_template__of_the_wrong_type(template):
    with pytest.raises(InputTypeError, match=r"a template .*[,;] got (int|list)$"):
        Paradigm([{"text": "t"}], template=template)
