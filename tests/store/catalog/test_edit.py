"""Saving a catalog: the text keeps its comments and order, whatever its style."""

import random

import pytest

from actome.store.catalog import edit as catalog_edit
from actome.store.catalog import open_catalog
from actome.store.errors import InputError, MissingFileError
from actome.store.yaml import read_mapping

from .test_opening import TEXT


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "catalog.yaml"
    file.write_text(TEXT)
    return file


def test_save__adds_entries_and_keeps_everything_else(path):
    catalog = open_catalog(path)
    catalog.add(
        "new", "data/new.zarr", description="mine: all", tags=["a", "no"], recipe={"command": "actome x"}
    )
    catalog.add("far", "https://lab.org/far.zarr", look=False)
    catalog.save()
    assert path.read_text().startswith(TEXT)
    again = open_catalog(path)
    assert list(again) == ["languages", "paper", "recorded", "bare", "new", "far"]
    assert again["new"] == catalog["new"]
    assert again.location("new") == str(path.parent / "data/new.zarr")
    assert again.location("far") == "https://lab.org/far.zarr"
    assert read_mapping(path, "catalog")[0]["sources"]["new"] == {
        "driver": "zarr",
        "description": "mine: all",
        "args": {"urlpath": "{{ CATALOG_DIR }}/data/new.zarr"},
        "metadata": {"tags": ["a", "no"], "recipe": {"command": "actome x"}},
    }


def test_save__without_news_changes_nothing(path):
    open_catalog(path).save()
    assert path.read_text() == TEXT


def test_save__a_tag_touches_the_lines_of_its_entry_alone(path):
    catalog = open_catalog(path)
    catalog.tag("languages", "demo", "good")
    catalog.tag("bare", "bad")
    catalog.save()
    text = path.read_text()
    assert text.startswith(TEXT.partition("      tags")[0])
    assert "      tags: [demo, good]\n      digest: sha256:abc\n  paper:\n" in text
    assert open_catalog(path)["bare"].metadata.tags == ("bad",)
    assert text.replace("[demo, good]", "[demo]").startswith(TEXT)


def test_save__a_removed_entry_is_gone_with_its_lines(path):
    catalog = open_catalog(path)
    catalog.remove("paper")
    catalog.save()
    assert "paper" not in catalog
    assert list(open_catalog(path)) == ["languages", "recorded", "bare"]
    start, end = TEXT.index("  paper:"), TEXT.index("  recorded:")
    assert path.read_text() == TEXT[:start] + TEXT[end:]


def test_save__all_entries_can_go_and_come_again(path):
    catalog = open_catalog(path)
    for name in list(catalog):
        catalog.remove(name)
    catalog.save()
    assert list(open_catalog(path)) == []
    catalog.add("x", "x.zarr")
    catalog.save()
    assert list(open_catalog(path)) == ["x"]


def test_save__keeps_what_somebody_else_changed_meanwhile(path):
    one, two, three = (open_catalog(path) for _ in range(3))
    one.add("one", "one.zarr")
    two.add("two", "two.zarr")
    three.tag("bare", "three")
    for catalog in (one, two, three):
        catalog.save()
    again = open_catalog(path)
    assert {"one", "two"} <= set(again)
    assert again["bare"].metadata.tags == ("three",)


def test_save__refuses_to_undo_what_somebody_else_changed(path):
    one, two = open_catalog(path), open_catalog(path)
    one.add("new", "one.zarr")
    two.add("new", "two.zarr")
    one.save()
    with pytest.raises(InputError, match="another has changed entry 'new' meanwhile; open the catalog again"):
        two.save()
    assert open_catalog(path).location("new").endswith("one.zarr")
    one.tag("bare", "mine")
    path.unlink()
    with pytest.raises(MissingFileError, match="there is no catalog file at"):
        one.save()


def test_save__through_a_link_writes_the_file_that_is_linked(path, tmp_path):
    (tmp_path / "here").mkdir()
    link = tmp_path / "here/catalog.yaml"
    link.symlink_to(path)
    catalog = open_catalog(link)
    catalog.add("x", "/data/x.zarr")
    catalog.save()
    assert link.is_symlink()
    assert "x" in open_catalog(path)


ENTRY = "{driver: zarr, args: {urlpath: /a.zarr}}"
BOTH = f"  a: {ENTRY}\n  b: {ENTRY}\n"
LONG = "  a:\n    driver: zarr\n    args: {urlpath: /a}\n    description: "
STYLES = {
    "empty": "version: 1\nsources: {}\n",
    "empty, then more": "version: 1\nsources: {  }  # none yet\nmetadata: {title: x}\n",
    "flow": f"{{version: 1, sources: {{a: {ENTRY}, b: {ENTRY}}}}}\n",
    "flow entries": f"version: 1\nsources: {{a: {ENTRY}, b: {ENTRY}}}\n",
    "sources first": f"sources:\n{BOTH}# the version\nversion: 1\n",
    "no final newline": f"version: 1\nsources:\n{BOTH}"[:-1],
    "comments": (
        f"version: 1\n# all\nsources:  # these\n\n  # one\n  a: {ENTRY}  # end\n"
        f"  b: {ENTRY}\n  # last\n\n# end\n"
    ),
    "four spaces": f"version: 1\nsources:\n{BOTH}".replace("  ", "    "),
    "one space": f"version: 1\nsources:\n{BOTH}".replace("  ", " "),
    "quoted names": f"version: 1\nsources:\n  'a': {ENTRY}\n  \"b\": {ENTRY}\n",
    "quoted sources": f"version: 1\n'sources':\n{BOTH}",
    "line ends of Windows": f"version: 1\nsources:\n{BOTH}".replace("\n", "\r\n"),
    "byte order mark": f"\ufeffversion: 1\nsources:\n{BOTH}",
    "document marks": f"---\nversion: 1\nsources:\n{BOTH}...\n",
    "directive": f"%YAML 1.2\n---\nversion: 1\nsources:\n{BOTH}",
    "a text that looks like entries": (
        f"version: 1\nsources:\n{LONG}|\n      x\n\n      sources:\n        new: y\n  b: {ENTRY}\n"
    ),
    "a text at the end": f"version: 1\nsources:\n  b: {ENTRY}\n{LONG}|+\n      x\n\n\n",
    "a folded text": f"version: 1\nsources:\n{LONG}>-\n      x\n      y\n  b: {ENTRY}\n",
    "a name with a colon": f"version: 1\nsources:\n  c:d: {ENTRY}\n{BOTH}",
    "names of fields": f"version: 1\nsources:\n  args: {ENTRY}\n{LONG}x\n  b: {ENTRY}\n",
}


@pytest.mark.parametrize("style", STYLES)
def test_save__every_style_gets_what_was_asked_and_keeps_its_comments(tmp_path, style):
    path = tmp_path / "catalog.yaml"
    path.write_bytes(STYLES[style].encode())
    catalog = open_catalog(path)
    before = dict(catalog)
    catalog.add("new", "data/new.zarr", description="a: b # c", tags=["x"], look=False)
    if before:
        catalog.tag("a", "first")
        catalog.remove("b")
    catalog.save()
    again = open_catalog(path)
    assert dict(again) == dict(catalog)
    assert set(again) == ({*before, "new"} - {"b"})
    content = path.read_bytes().decode()
    for comment in ("# all", "# these", "# one", "# last", "# end", "# the version", "# none yet"):
        assert content.count(comment) == STYLES[style].count(comment)
    assert content.count("\r\n") in (0, content.count("\n"))


def test_save__refuses_a_file_that_it_cannot_edit(path, monkeypatch):
    monkeypatch.setattr(catalog_edit, "_edit_lines", lambda text, changes: None)
    monkeypatch.setattr(catalog_edit, "_edit_document", lambda text, changes: text)
    catalog = open_catalog(path)
    catalog.add("new", "new.zarr")
    with pytest.raises(InputError, match=r"cannot be edited by a program; change \['new'\] by hand"):
        catalog.save()
    assert path.read_text() == TEXT


def test_save__one_entry_among_thousands_takes_no_rewriting(tmp_path, monkeypatch):
    monkeypatch.setattr(catalog_edit, "_edit_document", None)  # what takes seconds is not called
    path = tmp_path / "catalog.yaml"
    path.write_text("version: 1\nsources:\n" + "".join(f"  e{i}: {ENTRY}\n" for i in range(5000)))
    catalog = open_catalog(path)
    catalog.add("new", "new.zarr")
    catalog.tag("e17", "x")
    catalog.remove("e4000")
    catalog.save()
    assert len(open_catalog(path)) == 5000


def test_save__many_changes_at_once_stand_where_they_belong(tmp_path):
    path = tmp_path / "catalog.yaml"
    path.write_text("version: 1\nsources:\n" + "".join(f"  e{i}: {ENTRY}\n" for i in range(60)))
    catalog = open_catalog(path)
    rng = random.Random(0)
    for i in range(60):
        rng.choice([catalog.remove, lambda n: catalog.tag(n, "t"), lambda n: None])(f"e{i}")
        catalog.add(f"new{i}", f"new{i}.zarr", look=False)
    catalog.save()
    assert list(open_catalog(path).items()) == list(catalog.items())


def test_create__makes_an_empty_catalog_and_never_replaces_one(tmp_path):
    path = tmp_path / "a/catalog.yaml"
    catalog_edit.create(path)
    assert len(open_catalog(path)) == 0
    with pytest.raises(InputError, match=r"no catalog can be made at .*: File exists"):
        catalog_edit.create(path)
