"""The paradigms that ship: counts, balance, matching, and that their scripts make them."""

import csv
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from actome.store.errors import MissingFileError
from actome.store.paradigm import SHIPPED, Paradigm, as_paradigm

TASKS = ("political_science", "medical_imaging", "paleontology", "archeology", "pathology", "random_strings")
COUNTS = {
    "languages": dict.fromkeys("code de el en es fr it ja pt ru".split(), 24) | {"random": 180},
    "tasks": dict.fromkeys(TASKS, 36) | {"other": 108},
    "localizer": {"sentences": 72, "nonwords": 72},
    "arithmetic": {"arithmetic": 72, "text": 72},
}


def words(texts: pd.Series) -> pd.Series:
    return texts.str.split().str.len()


def rows(name: str) -> pd.DataFrame:
    return pd.read_csv(SHIPPED / f"{name}.csv", dtype=str, keep_default_na=False)


def test_shipped__are_those_that_are_tested():
    assert {p.stem for p in SHIPPED.glob("*.yaml")} == COUNTS.keys()


@pytest.mark.parametrize("name", COUNTS)
def test_shipped__have_their_counts_in_balanced_runs(name):
    paradigm = Paradigm.read(name)
    table = paradigm.table
    assert paradigm.name == name and paradigm.licence
    assert table["condition"].value_counts().to_dict() == COUNTS[name]
    assert table["text"].is_unique
    assert table["text"].str.strip().ne("").all()
    per_run = table.groupby(["run", "condition"]).size().unstack()
    assert len(per_run) >= 2 and (per_run.nunique() == 1).all()
    assert (table.groupby("block")["condition"].nunique() == 1).all()
    assert (table.groupby("block")["run"].nunique() == 1).all()
    assert table["block"].is_monotonic_increasing


@pytest.mark.parametrize("name", COUNTS)
def test_shipped__say_what_they_are_for_and_under_which_licence(name):
    text = Paradigm.read(name).source
    assert "description: " in text and "licence: " in text
    if name != "languages":
        assert Paradigm.read(name).licence == "CC0-1.0"
        assert f"`{name}.csv`" in (SHIPPED / "LICENSE-texts.md").read_text(encoding="utf-8")


def test_read__a_name_stands_for_a_shipped_paradigm(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    by_path = Paradigm.read(SHIPPED / "tasks.yaml")
    assert as_paradigm("tasks").digest == as_paradigm(Path("tasks")).digest == by_path.digest
    (tmp_path / "localizer").mkdir()
    assert Paradigm.read("localizer").name == "localizer"
    (tmp_path / "tasks").write_text("name: mine\nprompts: [{text: a}]\n", encoding="utf-8")
    assert Paradigm.read("tasks").name == "mine"
    assert not (tmp_path / "tasks.csv").exists()


def test_read__an_unknown_name_lists_those_that_ship(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = re.escape("['arithmetic', 'languages', 'localizer', 'tasks']")
    with pytest.raises(MissingFileError, match=f"no paradigm file at task, .*those that do: {names}"):
        Paradigm.read("task")
    with pytest.raises(MissingFileError, match=r"there is no paradigm file at tasks\.yaml$"):
        Paradigm.read("tasks.yaml")
    with pytest.raises(MissingFileError, match=r"there is no paradigm file at .*tasks$"):
        Paradigm.read(tmp_path / "tasks")


def test_tasks__prompts_are_as_long_as_a_sentence_and_begin_differently():
    table = Paradigm.read("tasks").table
    written = table[table["condition"] != "random_strings"]
    assert words(table["text"]).between(8, 25).all()
    assert written["text"].str.split().str[:3].str.join(" ").value_counts().max() <= 3
    per_task = words(table["text"]).groupby(table["condition"]).mean()
    assert per_task.max() - per_task.min() < 2


def test_tasks__random_strings_have_the_lengths_of_prompts():
    table = rows("tasks")
    strings = table["text"][table["condition"] == "random_strings"]
    lengths = {tuple(map(len, text.split())) for text in table["text"][table["condition"].isin(TASKS[:5])]}
    assert strings.str.fullmatch(r"[A-Za-z0-9 ]+").all()
    assert {tuple(map(len, text.split())) for text in strings} <= lengths


def test_localizer__nonwords_match_their_sentence_word_by_word():
    table = Paradigm.read("localizer").table
    pairs = table.pivot(index="item", columns="condition", values="text")
    assert len(pairs) == 72
    for sentence, nonwords in zip(pairs["sentences"], pairs["nonwords"], strict=True):
        assert [len(w) for w in sentence.split()] == [len(w) for w in nonwords.split()]
    assert words(pairs["sentences"]).between(8, 12).all()
    assert (table.groupby("item")["run"].nunique() == 1).all()


def test_localizer__nonwords_are_no_words_of_the_texts():
    texts = pd.concat([rows(name) for name in ("tasks", "localizer", "arithmetic")])
    texts = texts["text"][~texts["condition"].isin(["nonwords", "random_strings"])]
    known = set(re.findall(r"[a-z]+", " ".join(texts).lower()))
    nonwords = rows("localizer").query("condition == 'nonwords'")["text"]
    found = [word for text in nonwords for word in re.findall(r"[a-z]+", text.lower())]
    assert not known & set(found)
    long = [word for word in found if len(word) > 3]
    assert len(long) == len(set(long))
    assert all(re.search("[aeiou]", word) for word in found)


def test_arithmetic__is_matched_in_words_and_text_has_no_numbers():
    table = Paradigm.read("arithmetic").table
    pairs = table.pivot(index="item", columns="condition", values="text")
    assert (words(pairs["arithmetic"]) == words(pairs["text"])).all()
    number = r"(?i)\d|\b(?:zero|one|two|three|four|five|six|seven|eight|nine|ten|hundred|half|twice|first)\b"
    assert not pairs["text"].str.contains(number).any()
    assert pairs["arithmetic"].str.contains(number + "|teen|ty").all()
    kinds = table[table["condition"] == "arithmetic"].groupby(["operation", "notation"]).size()
    assert len(kinds) == 8 and kinds.min() >= 6
    assert set(table["operation"][table["condition"] == "text"]) == {""}


def test_arithmetic__equations_are_true():
    texts = rows("arithmetic").query("notation == 'symbols'")["text"]
    equation = re.compile(r"[\dx]+(?: [-+*/=] [\dx]+)+")
    n_true = 0
    for text in texts:
        x = re.search(r"x = (\d+) ", text)
        for match in equation.findall(text.rstrip(".")):
            if "=" not in match or match == f"x = {x and x[1]}":
                continue
            sides = [_value(side.replace("x", x[1]) if x else side) for side in match.split(" = ")]
            assert len(set(sides)) == 1, text
            n_true += 1
    assert n_true >= 20


def _value(side: str) -> float:
    """Products and quotients here stand before sums, so from left to right is right."""
    terms = side.split()
    value = float(terms[0])
    for sign, term in zip(terms[1::2], terms[2::2], strict=True):
        step = {"+": value + float(term), "-": value - float(term), "*": value * float(term)}
        value = step[sign] if sign in step else value / float(term)
    return value


def test_script__makes_the_tables_that_ship(tmp_path):
    script = SHIPPED / "make_strings.py"
    subprocess.run([sys.executable, "-W", "error", script, "--out", tmp_path], check=True)
    for name in ("tasks", "localizer", "arithmetic"):
        assert (tmp_path / f"{name}.csv").read_bytes() == (SHIPPED / f"{name}.csv").read_bytes()


def test_script__another_seed_draws_others_and_keeps_what_was_written(tmp_path):
    script = SHIPPED / "make_strings.py"
    subprocess.run([sys.executable, script, "--out", tmp_path, "--seed", "1"], check=True)
    for name, drawn in (("tasks", "random_strings"), ("localizer", "nonwords"), ("arithmetic", "arithmetic")):
        with (tmp_path / f"{name}.csv").open(newline="", encoding="utf-8") as stream:
            made = {(row["text"], row["condition"]) for row in csv.DictReader(stream)}
        shipped = set(zip(rows(name)["text"], rows(name)["condition"], strict=True))
        assert {condition for _, condition in made - shipped} == {drawn}
