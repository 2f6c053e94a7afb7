import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pytest

from actome.store.archive import open as open_recording
from actome.store.archive import save
from actome.store.catalog import open_catalog, resolve
from actome.store.errors import InputError, MissingFileError, UnknownNameError
from actome.store.yaml import MAX_BYTES

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
        ("{driver: zarr, args: {urlpath: !!python/name:os.system a}}", "line 3: the tag .* is not read"),
        (
            "{driver: zarr, args: {urlpath: a}, metadata: {conditions: [1]}}",
            "conditions.0: input should be a",
        ),
        (
            "{driver: zarr, args: {urlpath: a}, metadata: {sites: mlp}}",
            "metadata.sites: input should be a valid",
        ),
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
        ("version: 1\nsources:\n  a@b: {driver: zarr, args: {urlpath: a}}\n", "'@' stands before a version"),
        (
            "version: 1\nsources:\n  a/b: {driver: zarr, args: {urlpath: a}}\n",
            "a name must not be a path, got 'a/b'",
        ),
        (
            'version: 1\nsources:\n  "a\\e[2J": {driver: zarr, args: {urlpath: a}}\n',
            "a name is of printable characters, without spaces around it",
        ),
        ("version: 1\nsources:\n  1: {driver: zarr, args: {urlpath: a}}\n", "input should be a valid string"),
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


class Silent(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


SOURCE = "{driver: zarr, args: {urlpath: %s}, metadata: {%s}}"


def listed(folder, name: str, urlpath: str, metadata: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    file = folder / "catalog.yaml"
    file.write_text(f"version: 1\nsources:\n  {name}: {SOURCE % (urlpath, metadata)}\n")
    return file


def test_open_catalog__several_are_one(path, tmp_path, tiny):
    other = listed(tmp_path / "other", "more", "more.zarr")
    save(tiny, tmp_path / "other/more.zarr")
    catalog = open_catalog([path, other])
    assert list(catalog) == ["languages", "paper", "recorded", "bare", "more"]
    assert catalog.location("more") == str(tmp_path / "other/more.zarr")
    assert catalog.location("languages") == str(tmp_path / "data/languages.zarr")
    assert (
        catalog.open("more").sizes["prompt"] == open_recording("more", catalog=[path, other]).sizes["prompt"]
    )
    with pytest.raises(
        UnknownNameError, match=r"catalog .*catalog\.yaml and .*other/catalog\.yaml has no entry"
    ):
        catalog["nothing"]
    for change in (catalog.save, lambda: catalog.remove("more"), lambda: catalog.add("x", "x.zarr")):
        with pytest.raises(InputError, match="cannot be changed: it is several files; open its file alone"):
            change()
    with pytest.raises(InputError, match="no catalog is named"):
        open_catalog([])


def test_open_catalog__several_may_share_an_entry_only_if_it_is_the_same(tmp_path):
    one = listed(tmp_path / "one", "x", "x.zarr", "digest: sha256:a")
    same = listed(tmp_path / "same", "x", "x.zarr", "digest: sha256:a")
    assert list(open_catalog([one, same])) == ["x"]
    other_bytes = listed(tmp_path / "two", "x", "x.zarr", "digest: sha256:b")
    with pytest.raises(
        InputError, match=r"catalogs .*one/.* and .*two/.* list different entries under the name 'x'"
    ):
        open_catalog([one, other_bytes])
    here, there = (listed(tmp_path / n, "x", "x.zarr") for n in ("here", "there"))
    with pytest.raises(InputError, match="list different entries under the name 'x'"):
        open_catalog([here, there])  # nothing says that the bytes are the same
    absolute = [listed(tmp_path / n, "x", "/data/x.zarr") for n in ("here", "there")]
    assert open_catalog(absolute).location("x") == "/data/x.zarr"


@pytest.fixture
def memory():
    fs = fsspec.filesystem("memory")
    yield fs
    if fs.exists("/lab"):
        fs.rm("/lab", recursive=True)


def test_open_catalog__at_a_url(memory, tiny):
    url = "memory://lab/catalog.yaml"
    save(tiny, "memory://lab/data/x.zarr")
    memory.pipe_file(
        "/lab/catalog.yaml", b"version: 1\nsources:\n  x: %s\n" % (SOURCE % ("data/x.zarr", "")).encode()
    )
    catalog = open_catalog(url)
    assert catalog.location("x") == "memory://lab/data/x.zarr"
    assert catalog.state("x") == "remote"
    assert catalog.is_built("x")
    assert catalog.open("x").sizes["prompt"] == 12
    assert open_recording("x", catalog=url).sizes["prompt"] == 12
    with pytest.raises(InputError, match="cannot be changed: it is remote"):
        catalog.add("y", "y.zarr")
    with pytest.raises(InputError, match="is not one file of this machine"):
        catalog.path  # noqa: B018


def test_open_catalog__at_a_url_is_refused_where_it_is_huge_or_missing(memory):
    memory.pipe_file("/lab/catalog.yaml", b"#" * (MAX_BYTES + 1))
    with pytest.raises(InputError, match=r"memory://lab/catalog.yaml is longer than 32 MiB"):
        open_catalog("memory://lab/catalog.yaml")
    with pytest.raises(MissingFileError, match=r"there is no catalog file at memory://lab/nowhere.yaml"):
        open_catalog("memory://lab/nowhere.yaml")
    with pytest.raises(InputError, match=r"a URL is of abfs, az, file, .*, not chained, got 'ftp://lab"):
        open_catalog("ftp://lab/catalog.yaml")
    with pytest.raises(InputError, match="not chained, got 'memory://a::memory://b'"):
        open_catalog("memory://a::memory://b")


def test_open_catalog__over_http(tmp_path):
    listed(tmp_path / "lab", "x", "x.zarr")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=str(tmp_path))) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            catalog = open_catalog(f"http://127.0.0.1:{server.server_port}/lab/catalog.yaml")
        finally:
            server.shutdown()
    assert catalog.location("x") == f"http://127.0.0.1:{server.server_port}/lab/x.zarr"
