import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given

from actome.store.design import Design
from actome.store.errors import InputError, InputTypeError, MissingDependencyError, MissingFileError
from actome.store.paradigm import Paradigm, as_paradigm

from ..strategies import prompt_rows

YAML = """\
name: languages
licence: CC0-1.0
prompts:
  - {text: le chat, condition: fr, run: 0}
  - {text: the cat, condition: no, run: 1}
  - {text: an, condition: off, run: 1, level: 2}
"""


def written(folder: Path, text: str, name: str = "p.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def rows(n: int = 40, conditions: tuple[str, ...] = ("a", "b", "rest")) -> list[dict[str, str]]:
    return [{"text": f"{c} {i}", "condition": c} for i in range(n) for c in conditions]


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
        ([{"text": "a"}, {"text": ""}], r"prompts \[1\] have no text; every prompt needs a non-empty string"),
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
        ("name: x\nprompts: [{text: a}]\nprompts: []\n", 'duplicate key "prompts"'),
        ("name: x\nprompts: [{text: a, text: b}]\n", 'duplicate key "text"'),
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


@pytest.mark.parametrize("kind", ["csv", "txt", "jsonl", "parquet"])
def test_read__prompt_files(tmp_path, kind):
    table = pd.DataFrame(
        {"text": ["le chat, noir", "Häuser 01\u2028x"], "condition": ["fr", "NA"], "run": [0, 1]}
    )
    path = tmp_path / f"prompts.{kind}"
    if kind == "csv":
        table.to_csv(path, index=False, encoding="utf-8-sig")
    elif kind == "txt":
        path.write_text("\n".join([*table["text"], "", "  "]), encoding="utf-8")
    elif kind == "jsonl":
        path.write_text(
            "\n".join(json.dumps(row, ensure_ascii=False) for row in table.to_dict("records")) + "\n"
        )
    else:
        table.to_parquet(path)
    read = Paradigm.read(written(tmp_path, f"name: x\nprompts: {{file: prompts.{kind}}}\n")).table
    assert list(read["text"]) == list(table["text"])
    if kind != "txt":
        assert list(read["condition"]) == ["fr", "NA"]
        assert read["run"].tolist() == [0, 1]


def test_read__csv_labels_stay_text(tmp_path):
    written(tmp_path, "text,code\na,007\nb,\n", "prompts.csv")
    read = Paradigm.read(written(tmp_path, "name: x\nprompts: {file: prompts.csv}\n"))
    assert list(read.table["code"]) == ["007", ""]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.xlsx", b"", "must end in .csv, .txt, .jsonl, .parquet, got '.xlsx'"),
        ("p.csv", b"", "p.csv is not csv: "),
        ("p.csv", b"text\n\xff\n", "p.csv is not csv: .*utf-8"),
        ("p.csv", b"text\na\nb,c,d\n", "p.csv is not csv: "),
        ("p.csv", b"phrase\na\n", r"prompts need a column 'text', got \['phrase'\]"),
        ("p.txt", b"\n\n", "needs at least one prompt, got none"),
        ("p.jsonl", b'{"text": "a"}\n{"text"\n', "p.jsonl is not jsonl: "),
        ("p.jsonl", b"[1]\n", "p.jsonl is not jsonl: every line must be an object"),
        ("p.parquet", b"PAR", "p.parquet is not parquet: "),
    ],
)
def test_read__bad_prompt_files(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        Paradigm.read(written(tmp_path, f"name: x\nprompts: {{file: {name}}}\n"))


def test_read__missing_files(tmp_path):
    with pytest.raises(MissingFileError, match="there is no paradigm file at"):
        Paradigm.read(tmp_path / "p.yaml")
    with pytest.raises(MissingFileError, match=r"there is no prompt file at .*prompts\.csv"):
        Paradigm.read(written(tmp_path, "name: x\nprompts: {file: prompts.csv}\n"))


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


def saved(folder: Path, **columns: object) -> Path:
    """Write a data set with a class label, as `datasets` saves it."""
    datasets = pytest.importorskip("datasets")
    table = {"text": [f"text {i}" for i in range(6)], "label": [0, 1, 1, 0, 1, 0], **columns}
    rows = datasets.Dataset.from_dict(table)
    rows = rows.cast_column("label", datasets.ClassLabel(names=["world", "sports"]))
    datasets.DatasetDict({"train": rows.select(range(1)), "test": rows}).save_to_disk(str(folder / "news"))
    rows.save_to_disk(str(folder / "table"))
    return folder


def read_dataset(folder: Path, keys: str, more: str = "") -> Paradigm:
    return Paradigm.read(written(folder, f"name: news\nprompts: {{{keys}}}\n{more}"))


def test_dataset__class_labels_become_their_names(tmp_path):
    paradigm = read_dataset(saved(tmp_path), "dataset: news, split: test, condition: label")
    assert list(paradigm.table["text"]) == [f"text {i}" for i in range(6)]
    assert list(paradigm.table["condition"]) == ["world", "sports", "sports", "world", "sports", "world"]
    assert list(paradigm.table["prompt"][:3]) == ["world-0000", "sports-0000", "sports-0001"]
    assert paradigm.source.startswith("name: news")
    same = Paradigm(paradigm.table[["text", "condition"]])
    assert paradigm.digest == same.digest


def test_dataset__keeps_only_the_columns_that_are_named(tmp_path):
    folder = saved(tmp_path, token=[1] * 6, headline=[f"head {i}" for i in range(6)])
    table = read_dataset(folder, "dataset: table, text: headline").table
    assert list(table.columns) == ["prompt", "text", "condition", "block", "run"]
    assert table["text"][5] == "head 5" and set(table["condition"]) == {"all"}
    table = read_dataset(folder, "dataset: table", 'template: "{headline} ({label}, {run}): {text}"').table
    assert list(table.columns[5:]) == ["headline", "label"]
    assert table["text"][1] == "head 1 (sports, 0): text 1"


def test_dataset__limit_takes_the_first_and_a_seed_draws(tmp_path):
    folder = saved(tmp_path)
    before = sorted(folder.rglob("*"))

    def texts(keys):
        return list(read_dataset(folder, f"dataset: table, {keys}").table["text"])

    assert texts("limit: 2") == ["text 0", "text 1"]
    assert texts("limit: 99") == texts("text: text") == [f"text {i}" for i in range(6)]
    assert texts("limit: 3, seed: 1") == texts("seed: 1")[:3] != texts("limit: 3, seed: 2")
    assert sorted(texts("seed: 1")) == texts("text: text")
    assert sorted(folder.rglob("*")) == sorted([*before, folder / "p.yaml"])


def test_dataset__a_relative_path_starts_at_the_yaml(tmp_path, monkeypatch):
    (tmp_path / "there").mkdir()
    (tmp_path / "here").mkdir()
    folder = saved(tmp_path / "there")
    monkeypatch.chdir(tmp_path / "here")
    assert len(read_dataset(folder, "dataset: table")) == 6
    assert len(read_dataset(tmp_path / "here", f"dataset: {json.dumps(str(folder / 'table'))}")) == 6
    monkeypatch.chdir(folder)
    with pytest.raises(InputError, match="'table' is in the working folder, but a paradigm's paths start at"):
        read_dataset(tmp_path / "here", "dataset: table")


@pytest.mark.parametrize(
    ("keys", "error", "message"),
    [
        ("dataset: news", InputError, r"'news' has the splits \['train', 'test'\], got None; name one with"),
        ("dataset: news, split: dev", InputError, r"has the splits \['train', 'test'\], got 'dev'"),
        ("dataset: table, split: test", InputError, "'table' is one table, of split None, got 'test'; leave"),
        ("dataset: table, text: body", InputError, r"has no column 'body'; it has \['text', 'label'\]"),
        ("dataset: table, condition: topic", InputError, "'table' has no column 'topic'; it has"),
        ("dataset: table, text: label, condition: text", None, ""),
        ("dataset: table, name: plain", InputError, "'table' is a folder; `name` and `revision` are of the"),
        ("dataset: table, revision: v1", InputError, "'table' is a folder; `name` and `revision` are of the"),
        ("dataset: ./nowhere", MissingFileError, "no data set at .*nowhere, and './nowhere' is no id of the"),
        ("dataset: a/b/c", MissingFileError, "no data set at .*, and 'a/b/c' is no id of the"),
        ("dataset: plain", InputError, "data set 'plain' cannot be loaded: .*plain"),
    ],
)
def test_dataset__bad_input(tmp_path, keys, error, message):
    folder = saved(tmp_path)
    (folder / "plain").mkdir()
    (folder / "plain" / "dataset_info.json").write_text("{", encoding="utf-8")
    if error is None:
        assert set(read_dataset(folder, keys).table["text"]) == {"world", "sports"}
    else:
        with pytest.raises((InputError, MissingFileError), match=message) as caught:
            read_dataset(folder, keys)
        assert isinstance(caught.value, error) or "plain" in keys


def test_dataset__an_unlabelled_row_is_an_error(tmp_path):
    folder = saved(tmp_path, label=[0, 1, -1, 0, 1, 0])
    with pytest.raises(InputError, match=r"rows \[2\] have no 'condition'"):
        read_dataset(folder, "dataset: table, condition: label")


def test_dataset__the_hub_is_asked_for_what_the_file_says(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    rows, asked = datasets.load_from_disk(str(saved(tmp_path) / "table")), []
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **keys: asked.append((args, keys)) or rows)
    keys = "dataset: owner/set, name: en, split: test, revision: v2, condition: label, limit: 2"
    assert list(read_dataset(tmp_path, keys).table["condition"]) == ["world", "sports"]
    assert asked == [(("owner/set", "en"), {"split": "test", "revision": "v2"})]


def test_dataset__one_that_cannot_be_reached_is_one_error(tmp_path):
    pytest.importorskip("datasets")
    path = written(tmp_path, "name: x\nprompts: {dataset: ag_news, split: test}\n")
    code = f"""
from actome.store.errors import MissingFileError
from actome.store.paradigm import Paradigm
try:
    Paradigm.read({str(path)!r})
except MissingFileError as error:
    print(error)
"""
    offline = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")}
    out = subprocess.run(
        [sys.executable, "-c", code], env=offline, capture_output=True, text=True, check=False
    )
    assert out.stdout.startswith("data set 'ag_news' cannot be loaded: Couldn't reach 'ag_news'"), out.stderr


def test_dataset__needs_the_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(
        MissingDependencyError, match=r"'ag_news' need the package datasets.*actome\[datasets\]"
    ):
        read_dataset(tmp_path, "dataset: ag_news")


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
