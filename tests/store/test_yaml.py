from pathlib import Path

import pydantic
import pytest

from actome.store.errors import InputError, MissingFileError
from actome.store.yaml import describe, read_mapping


def written(folder: Path, text: str) -> Path:
    path = folder / "x.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_read_mapping__booleans_are_those_of_yaml_1_2(tmp_path):
    text = "a: no\nb: off\nc: yes\nd: on\ne: false\nf: n\nno: g\n"
    content, source = read_mapping(written(tmp_path, text), "paradigm")
    assert content == {"a": "no", "b": "off", "c": "yes", "d": "on", "e": False, "f": "n", "no": "g"}
    assert source == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2\n", 'paradigm .*x.yaml is not YAML: .*duplicate key "a"'),
        ("a: [1\n", "is not YAML: "),
        ("- 1\n", "must be a mapping of names to values, got list"),
        ("", "must be a mapping of names to values, got NoneType"),
        ("a: !!python/object/apply:os.system [true]\n", "is not YAML: could not determine a constructor"),
        ("a: !mine 1\n", "is not YAML: could not determine a constructor"),
        ("a: 1\n---\nb: 2\n", "is not YAML: expected a single document"),
    ],
)
def test_read_mapping__refuses(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        read_mapping(written(tmp_path, text), "paradigm")


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
