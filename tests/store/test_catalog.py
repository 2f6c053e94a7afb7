from pathlib import Path

import pytest

from actome.store.archive import open as open_recording
from actome.store.archive import save
from actome.store.catalog import Catalog, open_catalog, resolve
from actome.store.errors import InputError, MissingFileError, UnknownNameError
from actome.store.yaml import read_mapping

TEXT = """\
# The archive of our lab.
version: 1
sources:
  languages:  # the first one
    driver: zarr
    description: "four languages, one small model; a line that goes on and on, longer than a folding dumper"
    args:
      urlpath: "{{ CATALOG_DIR }}/data/languages.zarr"
    metadata:
      recipe: {command: "actome demo"}
      shape: {prompt: 12}
      tags: [demo]
      digest: sha256:abc
  paper:
    driver: zarr
    args: {urlpath: "s3://lab/a-very-long-bucket-name/with/a/long/path/that/a/folding/dumper/would/break/paper.zarr"}
  recorded:
    driver: zarr
    args: {urlpath: data/recorded.zarr}
    metadata:
      recipe: {paradigm: languages.yaml, model: demo}
  bare:
    driver: zarr
    args: {urlpath: /nowhere/bare.zarr}
"""


@pytest.fixture
def path(tmp_path) -> Path:
    file = tmp_path / "catalog.yaml"
    file.write_text(TEXT)
    return file


def with_source(tmp_path, source: str) -> Path:
    file = tmp_path / "catalog.yaml"
    file.write_text(f"version: 1\nsources:\n  x: {source}\n")
    return file


def test_open_catalog__is_a_mapping_of_names(path):
    catalog = open_catalog(path)
    assert list(catalog) == ["languages", "paper", "recorded", "bare"]
    assert len(catalog) == 4
    assert catalog["languages"].metadata.tags == ("demo",)
    assert catalog["languages"].metadata.shape == {"prompt": 12}
    assert "nothing" not in catalog


def test_location__is_relative_to_the_catalog(path, tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    catalog = open_catalog(path)
    assert catalog.location("languages") == str(tmp_path / "data/languages.zarr")
    assert catalog.location("recorded") == str(tmp_path / "data/recorded.zarr")
    assert catalog.location("bare") == "/nowhere/bare.zarr"
    assert catalog.location("paper").startswith("s3://lab/")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "{driver: os.system, args: {urlpath: a}}",
            "sources.x.driver: input should be 'zarr', got 'os.system'",
        ),
        (
            "{driver: zarr, args: {urlpath: a}, mine: 1}",
            "sources.x.mine: extra inputs are not permitted, got 1",
        ),
        ("{driver: zarr, args: {urlpath: a, storage_options: {}}}", "sources.x.args.storage_options: extra"),
        ("{driver: zarr, args: {urlpath: a}, metadata: {digets: b}}", "sources.x.metadata.digets: extra"),
        (
            "{driver: zarr, args: {urlpath: a}, metadata: {recipe: {run: b}}}",
            "sources.x.metadata.recipe.run: extra",
        ),
        ("{driver: zarr, args: {}}", "sources.x.args.urlpath: field required"),
        ("{driver: zarr, args: {urlpath: ../a}}", r"entry 'x' leads out of the catalog's folder: '\.\./a'"),
        ("{driver: zarr, args: {urlpath: a/../../b}}", "leads out of the catalog's folder"),
        ("{driver: zarr, args: {urlpath: '{{ CATALOG_DIR }}/../a'}}", "leads out of the catalog's folder"),
        (
            "{driver: zarr, args: {urlpath: '{{ env(HOME) }}/a'}}",
            r"the one template is '{{ CATALOG_DIR }}' at",
        ),
        ("{driver: zarr, args: {urlpath: 'a/{{ CATALOG_DIR }}'}}", "the one template is"),
        ("{driver: zarr, args: {urlpath: '{% if 1 %}a{% endif %}'}}", "the one template is"),
        ("{driver: zarr, args: {urlpath: 's3://{{ CATALOG_DIR }}/a'}}", "the one template is"),
        ("{driver: zarr, args: {urlpath: !!python/name:os.system a}}", "is not YAML"),
    ],
)
def test_open_catalog__is_strict(tmp_path, source, message):
    with pytest.raises(InputError, match=message):
        open_catalog(with_source(tmp_path, source))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("version: 2\nsources: {}\n", "version: input should be 1, got 2"),
        ("version: 1\n", "sources: field required"),
        ("version: 1\nsources: {}\nplugins: {}\n", "plugins: extra inputs are not permitted"),
        (
            "version: 1\nsources:\n  a/b: {driver: zarr, args: {urlpath: a}}\n",
            "a name must not be a path, got 'a/b'",
        ),
        ("version: 1\nsources:\n  a: 1\n  a: 2\n", "duplicate key"),
    ],
)
def test_open_catalog__refuses(tmp_path, text, message):
    (tmp_path / "catalog.yaml").write_text(text)
    with pytest.raises(InputError, match=message):
        open_catalog(tmp_path / "catalog.yaml")


def test_open_catalog__says_which_file_is_missing(tmp_path):
    with pytest.raises(MissingFileError, match="there is no catalog file at"):
        open_catalog(tmp_path / "catalog.yaml")


def test_getitem__names_the_close_matches(path):
    catalog = open_catalog(path)
    with pytest.raises(KeyError, match="has no entry 'langauges'; did you mean languages") as caught:
        catalog["langauges"]
    assert isinstance(caught.value, UnknownNameError)
    assert str(caught.value).startswith("catalog ")
    with pytest.raises(UnknownNameError, match=r"it has \['bare', 'languages', 'paper', 'recorded'\]"):
        catalog["zzz"]
    assert catalog.get("zzz") is None


@pytest.mark.parametrize(
    ("name", "ending"),
    [
        ("languages", "is not built yet; build it with `actome demo`"),
        ("recorded", "is not built yet; record the paradigm languages.yaml with the model demo"),
        ("bare", "is not built yet"),
    ],
)
def test_resolve__an_entry_that_is_not_built_says_how(path, name, ending):
    assert not open_catalog(path).is_built(name)
    with pytest.raises(MissingFileError) as caught:
        resolve(name, path)
    assert str(caught.value).endswith(ending)


def test_resolve__a_zip_file_that_is_not_built(tmp_path):
    path = with_source(
        tmp_path, "{driver: zarr, args: {urlpath: a.zip}, metadata: {recipe: {command: make a}}}"
    )
    with pytest.raises(MissingFileError, match="is not built yet; build it with `make a`"):
        resolve("x", path)


def test_open__through_the_catalog(path, tiny, tmp_path, monkeypatch):
    save(tiny, tmp_path / "data/languages.zarr")
    monkeypatch.chdir(tmp_path)
    catalog = open_catalog("catalog.yaml")
    assert catalog.is_built("languages")
    for ds in (
        catalog.open("languages"),
        open_recording("languages"),
        open_recording("languages", catalog=catalog),
        open_recording("languages", catalog=path),
    ):
        assert ds.sizes["prompt"] == 12
    assert "mean" in catalog.open("languages", level="prompt")
    with pytest.raises(UnknownNameError, match="has no entry 'nothing'"):
        open_recording("nothing")


def test_open__an_entry_comes_before_a_folder_of_its_name(path, tiny, tmp_path, monkeypatch):
    save(tiny, tmp_path / "data/languages.zarr")
    monkeypatch.chdir(tmp_path)
    save(tiny.isel(prompt=[0]), "languages")
    save(tiny.isel(prompt=[0]), "other")
    catalog = open_catalog(path)
    assert catalog.open("languages").sizes["prompt"] == 12
    assert open_recording("languages", catalog=path).sizes["prompt"] == 12
    assert open_recording("languages").sizes["prompt"] == 1
    assert open_recording("other", catalog=path).sizes["prompt"] == 1
    with pytest.raises(UnknownNameError, match="has no entry 'other'"):
        catalog.open("other")


def test_resolve__paths_and_urls_are_taken_as_they_are(tmp_path):
    assert resolve("a/b.zarr") == "a/b.zarr"
    assert resolve(Path("b.zarr")) == "b.zarr"
    assert resolve("s3://lab/b.zarr") == "s3://lab/b.zarr"


def test_resolve__a_name_without_a_catalog(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MissingFileError, match=r"there is nothing at 'languages', and no catalog\.yaml here"):
        resolve("languages")


def test_save__adds_entries_and_keeps_everything_else(path):
    catalog = open_catalog(path)
    catalog.add(
        "new", "data/new.zarr", description="mine: all", tags=["a", "b"], recipe={"command": "actome x"}
    )
    catalog.add("far", "https://lab.org/far.zarr")
    catalog.save()
    text = path.read_text()
    assert text.startswith(TEXT)
    again = open_catalog(path)
    assert list(again) == ["languages", "paper", "recorded", "bare", "new", "far"]
    assert again["new"] == catalog["new"]
    assert again.location("new") == str(path.parent / "data/new.zarr")
    assert again.location("far") == "https://lab.org/far.zarr"
    assert read_mapping(path, "catalog")[0]["sources"]["new"] == {
        "driver": "zarr",
        "description": "mine: all",
        "args": {"urlpath": "{{ CATALOG_DIR }}/data/new.zarr"},
        "metadata": {"tags": ["a", "b"], "recipe": {"command": "actome x"}},
    }


def test_save__without_news_changes_nothing(path):
    open_catalog(path).save()
    assert path.read_text() == TEXT


def test_save__keeps_what_somebody_else_added_meanwhile(path):
    one, two = open_catalog(path), open_catalog(path)
    one.add("one", "one.zarr")
    two.add("two", "two.zarr")
    one.save()
    two.save()
    assert {"one", "two"} <= set(open_catalog(path))


def test_save__into_an_empty_catalog(tmp_path):
    (tmp_path / "catalog.yaml").write_text("version: 1\nsources: {}\n")
    catalog = Catalog(tmp_path / "catalog.yaml")
    catalog.add("a", "/data/a.zarr")
    catalog.save()
    assert open_catalog(tmp_path / "catalog.yaml").location("a") == "/data/a.zarr"


@pytest.mark.parametrize(
    ("name", "urlpath", "metadata", "message"),
    [
        ("languages", "a.zarr", {}, "has an entry 'languages' already; choose another name"),
        ("a/b", "a.zarr", {}, "a name must not be a path, got 'a/b'"),
        ("new", "../a.zarr", {}, "leads out of the catalog's folder"),
        ("new", "{{ HOME }}/a.zarr", {}, "the one template is"),
        ("new", "a.zarr", {"author": "me"}, "metadata.author: extra inputs are not permitted, got 'me'"),
    ],
)
def test_add__refuses(path, name, urlpath, metadata, message):
    catalog = open_catalog(path)
    with pytest.raises(InputError, match=message):
        catalog.add(name, urlpath, **metadata)
    assert len(catalog) == 4
