from pathlib import Path

import pydantic
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from actome.store.errors import InputError, MissingFileError
from actome.store.yaml import MAX_BYTES, describe, dump, parse_mapping, read_mapping


def written(folder: Path, text: str) -> Path:
    path = folder / "x.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_read_mapping__booleans_are_those_of_yaml_1_2(tmp_path):
    text = "a: no\nb: off\nc: yes\nd: on\ne: false\nf: n\nno: g\n"
    content, source = read_mapping(written(tmp_path, text), "paradigm")
    assert content == {"a": "no", "b": "off", "c": "yes", "d": "on", "e": False, "f": "n", "no": "g"}
    assert source == text


REFUSED = [
    ("a: 1\na: 2\n", r"paradigm .*x\.yaml, line 2: duplicate key 'a'"),
    ("b: {a: 1, a: 2}\n", "line 1: duplicate key 'a'"),
    ("1: a\n1: b\n", "line 2: duplicate key 1"),
    ("a: [1\n", "x.yaml is not YAML: line 2, column 1: "),
    ("a: b: c\n", "is not YAML: line 1, column 5: mapping values are not allowed"),
    ("a: \0\n", "is not YAML: .*control characters"),
    ("- 1\n", "must be a mapping of names to values, got list"),
    ("", "must be a mapping of names to values, got NoneType"),
    ("a: !!python/object/apply:os.system [true]\n", "line 1: the tag .*os.system' is not read"),
    ("a: !mine 1\n", "line 1: the tag '!mine' is not read"),
    ("a: !!str 1\n", "is not read; write plain data"),
    ("b: 1\na: &x [1]\n", "line 2: &x is an anchor or an alias"),
    ("a: *x\n", r"\*x is an anchor or an alias"),
    ("? [1]\n: 2\n", "line 1: a key must be a scalar"),
    ("a: 1\n---\nb: 2\n", "line 2: a second document begins"),
    ("a: " + "[" * 40 + "]" * 40 + "\n", "line 1: it is nested more than 32 deep"),
    ("- " * 100_000 + "a\n", "nested more than 32 deep"),
    ("[" * 100_000, "nested more than 32 deep"),
    ("a: " + "{a: " * 100_000, "nested more than 32 deep"),
    ("? " * 100_000, "a key must be a scalar"),
    ("\n".join(" " * i + "a:" for i in range(100)), "nested more than 32 deep"),
    (f"a: {'9' * 5000}\n", "line 1: a number of too many digits"),
]


@pytest.mark.parametrize(("text", "message"), REFUSED, ids=range(len(REFUSED)))
def test_read_mapping__refuses(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        read_mapping(written(tmp_path, text), "paradigm")


def test_read_mapping__a_bomb_of_aliases_is_refused_before_it_grows(tmp_path):
    levels = "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 30))
    with pytest.raises(InputError, match="line 1: &a0 is an anchor or an alias"):
        read_mapping(written(tmp_path, f"a0: &a0 [lol]\n{levels}"), "catalog")


def test_read_mapping__refuses_what_is_huge(tmp_path):
    with (tmp_path / "x.yaml").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(InputError, match="is longer than 32 MiB, the most that is read"):
        read_mapping(tmp_path / "x.yaml", "catalog")


def test_parse_mapping__scalars_mean_what_the_core_schema_says():
    text = (
        "a: 010\nb: 0o17\nc: 0x1F\nd: 1_000\ne: 1e3\nf: -.inf\ng: 12:30\nh: 2026-01-01\ni: ~\n"
        "j: '1'\nk: |\n  1\nl: Null\nm: TRUE\nn: .5\no: '<<'\np:\n"
    )
    assert parse_mapping(text, "catalog", "x") == {
        "a": 10, "b": 15, "c": 31, "d": "1_000", "e": 1000.0, "f": float("-inf"), "g": "12:30",
        "h": "2026-01-01", "i": None, "j": "1", "k": "1\n",
        "l": None, "m": True, "n": 0.5, "o": "<<", "p": None,
    }  # fmt: skip


_data = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
    | st.sampled_from(["no", "1e3", "0o17", "2026-01-01", "12:30:01", "=", "a: b", "- c", "1_000", "\x85"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=12,
)  # fmt: skip


@given(st.dictionaries(st.text(max_size=4), _data, min_size=1, max_size=4))
@settings(max_examples=200)
def test_dump__is_read_alike_by_us_and_by_yaml_1_1(content):
    text = dump(content)
    assert parse_mapping(text, "catalog", "x") == content
    assert yaml.safe_load(text) == content


def test_read_mapping__refuses_what_is_not_utf8(tmp_path):
    (tmp_path / "x.yaml").write_bytes(b"a: \xff\n")
    with pytest.raises(InputError, match=r"is not YAML: .*utf-8"):
        read_mapping(tmp_path / "x.yaml", "catalog")


def test_read_mapping__says_which_file_is_missing(tmp_path):
    with pytest.raises(MissingFileError, match=r"there is no catalog file at .*nowhere\.yaml"):
        read_mapping(tmp_path / "nowhere.yaml", "catalog")


def test_describe__names_each_place_in_one_line():
    class Model(pydantic.BaseModel):
        model_config = pydantic.ConfigDict(extra="forbid")
        a: int
        b: list[int]

    with pytest.raises(pydantic.ValidationError) as caught:
        Model.model_validate({"b": [1, "x"], "c": 3})
    lines = describe(caught.value)
    assert "\n" not in lines
    assert "a: field required;" in lines
    assert "b.1: input should be a valid integer" in lines
    assert "c: extra inputs are not permitted, got 3" in lines
    many = pydantic.ValidationError.from_exception_data(
        "x", [{"type": "missing", "loc": (i,), "input": None} for i in range(9)]
    )
    assert describe(many).endswith("4: field required; and 4 more")
