"""Paradigms: labels, digests, and the strict file."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given

from actome.store.errors import InputError, InputTypeError, MissingFileError
from actome.store.paradigm import Paradigm, as_paradigm

from ...strategies import prompt_rows
from .files import rows, written

YAML = """\
name: languages
licence: CC0-1.0
prompts:
  - {text: le chat, condition: fr, run: 0}
  - {text: the cat, condition: no, run: 1}
  - {text: an, condition: off, run: 1, level: 2}
"""


@given(prompt_rows())
def test_paradigm__keeps_texts_labels_and_order(prompts):
    table = Paradigm(prompts).table
    assert list(table["text"]) == [row["text"] for row in prompts]
    assert table["prompt"].is_unique
    for column in prompts[0].keys() - {"text"}:
        assert list(table[column]) == [row[column] for row in prompts]
    assert list(table.columns[:5]) == ["prompt", "text", "condition", "block", "run"]


@given(prompt_rows())
def test_digest__depends_on_content_and_order_only(prompts):
    digest = Paradigm(prompts).digest
    assert Paradigm(pd.DataFrame(prompts), name="other", licence="MIT").digest == digest
    assert Paradigm([dict(reversed(row.items())) for row in prompts]).digest == digest
    assert Paradigm(Paradigm(prompts).table).digest == digest
    changed = [dict(row) for row in prompts]
    changed[0]["text"] += "!"
    assert Paradigm(changed).digest != digest
    if len(prompts) > 1 and prompts[0] != prompts[-1]:
        assert Paradigm(prompts[::-1]).digest != digest


def test_digest__is_stable_between_versions():
    paradigm = Paradigm([{"text": "le chat", "condition": "fr"}, {"text": "the cat", "condition": "en"}])
    assert paradigm.digest == "sha256:2354b0a304e3072d7e5714bd7a72aca8dff2c21bc04aa2504460f11a974e3c94"


def test_paradigm__completes_the_labels():
    table = Paradigm([{"text": "a"}, {"text": "b"}]).table
    assert table.to_dict("list") == {
        "prompt": ["all-0000", "all-0001"], "text": ["a", "b"], "condition": ["all", "all"],
        "block": [-1, -1], "run": [0, 0],
    }  # fmt: skip
    assert list(Paradigm([{"text": "a", "id": 7}]).table["prompt"]) == ["7"]


def test_paradigm__further_columns_keep_numbers_and_truth_values():
    table = Paradigm(
        [
            {"text": "a", "n": 1, "x": 0.5, "ok": True, "note": None},
            {"text": "b", "n": 2, "x": 1, "ok": False},
        ]
    ).table
    assert [table[c].dtype.kind for c in ("n", "x", "ok")] == ["i", "f", "b"]
    assert list(table["note"]) == ["", ""]
    half = Paradigm([{"text": "a", "n": 1}, {"text": "b"}]).table
    assert list(half["n"]) == ["1.0", ""]


def test_paradigm__nullable_columns_become_plain():
    table = pd.DataFrame(
        {"text": ["a", "b"], "n": pd.array([1, 2], dtype="Int64"), "run": pd.array([0, 1], "Int64")}
    )
    made = Paradigm(table).table
    assert made["n"].dtype == made["run"].dtype == np.int64


def test_paradigm__the_table_given_stays_as_it_was():
    table = pd.DataFrame({"id": ["x"], "text": ["a"]})
    Paradigm(table)
    assert list(table.columns) == ["id", "text"]


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ([], "needs at least one prompt, got none"),
        ([{"condition": "a"}], r"prompts need a column 'text', got \['condition'\]"),
        (
            [{"text": "a"}, {"text": ""}],
            r"prompts \[1\] have no text; every prompt needs one that is not blank",
        ),
        ([{"text": "a"}, {"text": " \n"}], r"prompts \[1\] have no text"),
        ([{"text": 5}], r"prompts \[0\] have no text"),
        (
            [{"text": "a", "id": "x"}, {"text": "b", "id": "x"}],
            r"prompt ids must be unique; \['x'\] stand more",
        ),
        ([{"text": "a", "id": "x"}, {"text": "b"}], r"rows \[1\] have no 'prompt'; give one to every"),
        ([{"text": "a", "id": "x", "prompt": "y"}], "a column stands twice .'id' is short for 'prompt'."),
        ([{"text": "a", "condition": "x"}, {"text": "b"}], r"rows \[1\] have no 'condition'"),
        ([{"text": "a", "condition": ""}], r"rows \[0\] have no 'condition'"),
        ([{"text": "a", "run": "one"}], "column 'run' must hold whole numbers: .*'one'"),
        ([{"text": "a", "run": 0}, {"text": "b"}], "column 'run' must hold whole numbers"),
        ([{"text": "a", "block": 1.5}], "column 'block' must hold whole numbers, got 1.5"),
        (
            [{"text": "a", "token_id": 1}],
            r"columns \['token_id'\] are reserved for what is recorded; rename them",
        ),
        ([{"text": "a", "residual": 1, "layer": 2}], r"columns \['layer', 'residual'\] are reserved"),
        ([{"text": "a", "x/y": 1}], r"columns \['x/y'\] cannot name an array"),
        ([{"text": "a", " x": 1}], r"columns \[' x'\] cannot name an array: .* no blank around"),
        ([{"text": "a", "condition": "x "}], "condition 'x ' has blanks around it"),
        ([{"text": "a", "": 1}], r"columns \[''\] cannot name an array"),
    ],
)
def test_paradigm__bad_input(prompts, message):
    with pytest.raises(InputError, match=message):
        Paradigm(prompts)


def test_read__booleans_are_those_of_yaml_1_2(tmp_path):
    paradigm = Paradigm.read(written(tmp_path, YAML))
    assert list(paradigm.table["condition"]) == ["fr", "no", "off"]
    assert list(paradigm.table["run"]) == [0, 1, 1]
    assert (paradigm.name, paradigm.licence, paradigm.source) == ("languages", "CC0-1.0", YAML)
    assert repr(paradigm) == "Paradigm('languages', 3 prompts, conditions {'fr': 1, 'no': 1, 'off': 1})"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "name: x\nprompts: [{text: a}]\nlicense: MIT\n",
            "paradigm .*p.yaml: license: extra inputs are not permitted",
        ),
        ("prompts: [{text: a}]\n", "name: field required"),
        ("name: ''\nprompts: [{text: a}]\n", "name: string should have at least 1 character"),
        ("name: x\n", "prompts: field required"),
        ("name: x\nprompts: 3\n", "prompts.list: input should be a valid list, got 3"),
        ("name: x\nprompts: [a]\n", "prompts.list.0: input should be a valid dictionary, got 'a'"),
        ("name: x\nprompts: []\n", "needs at least one prompt, got none"),
        (
            "name: x\nprompts: {file: p.csv, sheet: 1}\n",
            "prompts.file.sheet: extra inputs are not permitted, got 1",
        ),
        ("name: x\nprompts: {dataset: d, shuffle: 1}\n", "prompts.dataset.shuffle: extra inputs"),
        ("name: x\nprompts: {dataset: d, file: p.csv}\n", "prompts.dataset.file: extra inputs"),
        ("name: x\nprompts: {dataset: ''}\n", "prompts.dataset.dataset: string should have at least 1"),
        ("name: x\nprompts: {dataset: d, limit: 0}\n", "prompts.dataset.limit: .*, got 0"),
        ("name: x\nprompts: {dataset: d, seed: -1}\n", "prompts.dataset.seed: .*, got -1"),
        ("name: x\nprompts: {}\n", "prompts.file.file: field required"),
        ("name: x\nprompts: [{text: a}]\ntemplate: [a]\n", "template.str: input should be a valid string"),
        (
            "name: x\nprompts: [{text: a}]\ntemplate: {all: 1}\n",
            "template.dict.*.all: input should be a valid str",
        ),
        ("name: x\nprompts: [{text: a}]\nprompts: []\n", "duplicate key 'prompts'"),
        ("name: x\nprompts: [{text: a, text: b}]\n", "duplicate key 'text'"),
        ("name: x\nprompts: [{text: a}]\ndesign: {rest: r, pause: 1}\n", "design.pause: extra inputs"),
        ("name: x\nprompts: [{text: a}]\ndesign: {rest: r, per_block: 0}\n", "design.per_block: .*, got 0"),
        (
            "name: x\nprompts: [{text: a}]\ndesign: {rest: r, pattern: [rest]}\n",
            "design.pattern: value error, needs at least one 'task'",
        ),
        (
            "name: x\nprompts: [{text: a}]\ndesign: {rest: r, pattern: [task, nap]}\n",
            "design.pattern.1: .*got 'nap'",
        ),
        ("- 1\n", "must be a mapping"),
    ],
)
def test_read__is_strict(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        Paradigm.read(written(tmp_path, text))


def test_read__missing_files(tmp_path):
    with pytest.raises(MissingFileError, match="there is no paradigm file at"):
        Paradigm.read(tmp_path / "p.yaml")
    with pytest.raises(MissingFileError, match=r"there is no prompt file at .*prompts\.csv"):
        Paradigm.read(written(tmp_path, "name: x\nprompts: {file: prompts.csv}\n"))


def test_select__keeps_ids_and_order():
    paradigm = Paradigm(rows(3), name="x", licence="MIT")
    picked = paradigm.select(condition=["a", "rest"])
    assert list(picked.table["prompt"]) == [
        "a-0000",
        "rest-0000",
        "a-0001",
        "rest-0001",
        "a-0002",
        "rest-0002",
    ]
    assert (picked.name, picked.licence) == ("x", "MIT")
    assert len(paradigm) == 9
    assert list(paradigm.select(condition="b", run=0).table["text"]) == ["b 0", "b 1", "b 2"]


def test_select__bad_input():
    paradigm = Paradigm(rows(2))
    with pytest.raises(InputError, match=r"has no column 'task'; it has \['prompt', 'text', 'condition'"):
        paradigm.select(task="a")
    with pytest.raises(InputError, match=r"no prompt of the paradigm has \{'condition': 'z'\}"):
        paradigm.select(condition="z")


def test_as_paradigm__takes_a_paradigm_or_a_path(tmp_path):
    paradigm = Paradigm(rows(1))
    assert as_paradigm(paradigm) is paradigm
    path = written(tmp_path, YAML)
    assert as_paradigm(path).digest == as_paradigm(str(path)).digest == Paradigm.read(path).digest
    with pytest.raises(InputTypeError, match="expected a Paradigm or the path of its YAML, got list"):
        as_paradigm([{"text": "a"}])
