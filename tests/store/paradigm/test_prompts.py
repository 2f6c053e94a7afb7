"""Prompts from tables and from data sets."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from actome.store.errors import InputError, MissingDependencyError, MissingFileError
from actome.store.paradigm import Paradigm

from .files import written


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


def test_read__columns_of_a_csv_that_are_named_hold_numbers(tmp_path):
    written(tmp_path, "text,item,rating,rt\na,1,3,0.5\nb,2,5,1e1\n", "prompts.csv")
    yaml = "name: x\nprompts: {file: prompts.csv, numbers: [rating, rt]}\n"
    table = Paradigm.read(written(tmp_path, yaml)).table
    assert table["rating"].tolist() == [3.0, 5.0] and table["rating"].dtype == "float64"
    assert table["rt"].tolist() == [0.5, 10.0] and list(table["item"]) == ["1", "2"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "text,rt\na,1\n",
            r"`numbers` names unknown column 'rating'; prompt file p.csv has \['text', 'rt'\]",
        ),
        ("text,rating\na,1\nb,\nc,x\nd,inf\n", r"'rating' must hold a number in every row; rows \[1, 2, 3\]"),
    ],
)
def test_read__a_column_of_numbers_holds_nothing_else(tmp_path, content, message):
    written(tmp_path, content, "p.csv")
    with pytest.raises(InputError, match=message):
        Paradigm.read(written(tmp_path, "name: x\nprompts: {file: p.csv, numbers: [rating]}\n"))


def test_read__a_blank_behind_a_comma_is_no_part_of_the_name(tmp_path):
    written(tmp_path, "text, condition, run\nhello,a, 1\n", "p.csv")
    table = Paradigm.read(written(tmp_path, "name: x\nprompts: {file: p.csv}\n")).table
    assert table[["condition", "run"]].values.tolist() == [["a", 1]] and "condition" in table


def test_read__a_table_of_prompts_is_no_paradigm(tmp_path):
    path = written(tmp_path, "text\na\n", "mine.csv")
    with pytest.raises(InputError, match=r"`name: mine` and `prompts: \{file: mine.csv\}`, and give that"):
        Paradigm.read(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.csv", b"text,rt, rt\na,1,2\n", "p.csv is not csv: two columns have one name"),
        ("p.csv", b"text,condition\na, b\n", "condition ' b' has blanks around it; take them out, in a csv"),
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
