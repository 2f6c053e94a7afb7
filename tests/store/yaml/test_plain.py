"""The quick reader reads what the full one reads, or nothing."""

import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actome.store.errors import InputError
from actome.store.yaml import dump
from actome.store.yaml import plain as plain_yaml
from actome.store.yaml.plain import read_plain
from actome.store.yaml.strict import _parse

ROOT = Path(__file__).parents[3]

# Pieces that mean something to a parser, put together at random.
PIECES = [
    *"abc01", " ", " ", "  ", "    ", "\n", "\n", "\n  ", "\n    ", "\n- ", "\n  - ", "a: ", "b: ",
    "c:\n  ",
    "\nd:\n- ", ":", ": ", "::", "a:b", ",", ", ", "[", "]", "{", "}", "[a, 1]", "{f: g, h: 2}", "'", '"',
    "'x y'", '"q: r"', "''", "it's", "#", " # c", "\n# c\n", "-", "- ", "--", "---", "\n---\n", "...", "?",
    "? ", "&x ", "*x", "!t ", "|", "|-\n", ">", "%", "@", "`", "\t", "\r\n", "\\", "\\n", "é",
    "\u00a0", "\u2028",
    "\ufeff", "\x01", "<<", "~", "null", "true", "yes", "0x1f", "007", "-1", "1.5", "1e3", ".inf", "0o17",
    "1_000", "2026-01-01", "12:30", "x y", "_z: /abs/p", "k-1.2+3: v", 'urlpath: "{{ CATALOG_DIR }}/x"',
    "http://x/y", "9" * 5000, "k" * 200,
]  # fmt: skip
texts = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)


def check_agrees(text):
    quick = read_plain(text)
    if quick is not None:
        full = _parse(text, "x")
        assert repr(full) == repr(quick)  # 1, 1.0 and True are equal, but not the same


@given(texts)
@settings(max_examples=500)
def test_read_plain__reads_what_the_full_parser_reads_or_nothing(text):
    check_agrees(text)


@pytest.mark.slow
@given(texts)
@settings(max_examples=20_000)
def test_read_plain__reads_what_the_full_parser_reads_or_nothing_many_times(text):
    check_agrees(text)


_names = st.text("abcdefgh01.-_", min_size=1, max_size=6)
_scalars = st.integers(0, 999) | st.text("ab c/:{}.é", max_size=9)
_flat = _scalars | st.lists(_scalars, max_size=3) | st.dictionaries(_names, _scalars, max_size=3)


@given(st.dictionaries(_names, st.dictionaries(_names, _flat, max_size=3) | _flat, min_size=1, max_size=4))
@settings(max_examples=200)
def test_read_plain__agrees_on_what_is_dumped(content):
    check_agrees(dump(content))


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("# c\na: b c\n\nd: 'e: f'\n", {"a": "b c", "d": "e: f"}),
        (
            'a:\n  b: {c: 1, d: "{{ x }}"}\n  e: [f, g h]\ni: no\n',
            {"a": {"b": {"c": 1, "d": "{{ x }}"}, "e": ["f", "g h"]}, "i": "no"},
        ),
        ("a: 'it''s: b'\n", {"a": "it's: b"}),
        ("a:\n  - b\n  - 2\nc: s3://d/e\n", {"a": ["b", 2], "c": "s3://d/e"}),
        ("a:\n- b\nc:\n  d:\n  - e\n  f: g\n", {"a": ["b"], "c": {"d": ["e"], "f": "g"}}),
    ],
)  # fmt: skip
def test_read_plain__knows_how_catalogs_are_written(text, content):
    assert read_plain(text) == content
    assert _parse(text, "x") == content


def test_read_plain__knows_the_shipped_catalog():
    text = (ROOT / "catalog.yaml").read_text(encoding="utf-8")
    assert read_plain(text) == _parse(text, "x")
    assert read_plain(text) is not None


@pytest.mark.parametrize(
    "text", ["", "a", "a:\n", "- a\n", "a: 1\na: 2\n", "a: b\n  c\n", "a: !t b\n", "a: &b c\n"]
)
def test_read_plain__declines(text):
    assert read_plain(text) is None


def test_read_plain__equal_lists_are_not_the_same_list():
    content = read_plain("a: [b]\nc: [b]\n")
    content["a"].append(1)
    assert content["c"] == ["b"]


def test_read_plain__declines_what_is_deep():
    text = (
        "".join(" " * i + "a:\n" for i in range(plain_yaml.MAX_DEPTH)) + " " * plain_yaml.MAX_DEPTH + "b: c\n"
    )
    assert read_plain(text) is None
    with pytest.raises(InputError, match="nested more than 32 deep"):
        _parse(text, "x")


SLOW = {
    "spaces before a comment": "a: x{}#",
    "spaces after a quoted value": 'a: "x"{}#',
    "spaces in a list": "a: [x{}#]",
    "spaces at the start of a list": "a: [{}#]",
    "spaces in a mapping": "a: {{b: x{}#}}",
    "spaces after a key": "a: {{b: {}#}}",
}


@pytest.mark.parametrize("line", SLOW.values(), ids=SLOW)
def test_read_plain__no_line_takes_longer_than_its_length_asks_for(line, monkeypatch):
    check_is_quick([line.format(" " * n) for n in (2_000, 100_000)], monkeypatch)


UNITS = {"quotes": "'", "double quotes": '"', "letters": "a", "colons": "a:", "braces": "}", "pairs": "b: c,",
         "items": "a,", "empty quotes": "'',"}  # fmt: skip


@pytest.mark.parametrize("unit", UNITS.values(), ids=UNITS)
@pytest.mark.parametrize("line", ["a: {}#", "a: [{}#]", "a: {{{}#}}", "a: '{}", "{}"])
def test_read_plain__no_repetition_takes_longer_than_its_length_asks_for(line, unit, monkeypatch):
    check_is_quick([line.format(unit * n) for n in (1_000, 50_000)], monkeypatch)


def check_is_quick(texts, monkeypatch):
    """Whether or not long values are declined: a quadratic time would be minutes."""
    for longest in (plain_yaml._LONGEST, 10**9):
        monkeypatch.setattr(plain_yaml, "_LONGEST", longest)
        for text in texts:
            start = time.perf_counter()
            read_plain(text)
            assert time.perf_counter() - start < 5


def test_read_plain__declines_a_value_of_thousands_of_letters():
    assert read_plain(f"a: {'b' * 4096}\n") == {"a": "b" * 4096}
    assert read_plain(f"a: {'b' * 4097}\n") is None
