"""The entries of a catalog: entering, searching, what they were derived from."""

import fsspec
import pytest

from actome.store.archive import open as open_recording
from actome.store.archive import save
from actome.store.catalog import open_catalog
from actome.store.catalog.edit import create
from actome.store.catalog.search import descendants, made_of
from actome.store.errors import InputError, StorageError, UnknownNameError
from actome.store.results import save_result
from actome.store.versions import commit


@pytest.fixture
def catalog(tmp_path):
    create(tmp_path / "catalog.yaml")
    return open_catalog(tmp_path / "catalog.yaml")


@pytest.fixture
def lab(catalog):
    """Entries that say much of themselves, and no data."""
    catalog.add("fr", "fr.zarr", kind="recording", model="lab/big-7b", sites=["mlp"], conditions=["fr", "en"],
                licence="CC0-1.0", tags=["demo", "languages"], digest="sha256:1")  # fmt: skip
    catalog.add("de", "de.zarr", kind="recording", model="lab/small", sites=["mlp", "residual"],
                conditions=["de", "en"], licence="CC-BY-4.0", tags=["languages"],
                description="German, of the Passages")  # fmt: skip
    catalog.add(
        "fr-en", "c.zarr", kind="contrast", derived_from=["sha256:1"], tags=["demo"], digest="sha256:2"
    )
    catalog.add("mask", "m.zarr", kind="mask", derived_from=["fr-en", "de", "sha256:9"], citation="Doe 2026")
    return catalog


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, ["fr", "de", "fr-en", "mask"]),
        ({"tag": "demo"}, ["fr", "fr-en"]),
        ({"tag": ["demo", "languages"]}, ["fr"]),
        ({"tag": []}, ["fr", "de", "fr-en", "mask"]),
        ({"condition": "en"}, ["fr", "de"]),
        ({"condition": "e"}, []),
        ({"model": "lab/*"}, ["fr", "de"]),
        ({"model": "*-7b"}, ["fr"]),
        ({"site": "residual"}, ["de"]),
        ({"licence": "CC-*"}, ["de"]),
        ({"kind": "contrast"}, ["fr-en"]),
        ({"text": "german"}, ["de"]),
        ({"text": "DOE"}, ["mask"]),
        ({"text": "fr"}, ["fr", "fr-en"]),
        ({"kind": "recording", "condition": "en", "tag": "demo"}, ["fr"]),
        ({"licence": "nothing"}, []),
    ],
)
def test_search__finds_what_fits_all(lab, asked, found):
    assert list(lab.search(**asked)) == found


def test_search__gives_a_catalog_that_is_read(lab, tmp_path, tiny):
    save(tiny, tmp_path / "de.zarr")
    found = lab.search(site="residual")
    assert found.open("de").sizes["prompt"] == 12
    assert open_recording("de", catalog=found).sizes["prompt"] == 12
    assert found["de"] == lab["de"]
    with pytest.raises(UnknownNameError, match=r"it has \['de'\]"):
        found["nothing"]
    assert list(found.search(tag="demo")) == []
    for change in (lambda: found.tag("de", "x"), lambda: found.remove("de"), found.save):
        with pytest.raises(
            InputError, match="cannot be changed: it is what a search found; open its file alone"
        ):
            change()


def test_search__opens_nothing(lab, monkeypatch):
    monkeypatch.setattr("actome.store.location.Location.of", None)
    assert list(lab.search(text="passages", model="*")) == ["de"]
    assert lab.state("de") == "not built"


def test_lineage__goes_back_by_name_and_by_digest(lab):
    assert lab.lineage("fr") == []
    assert lab.lineage("fr-en") == ["fr"]
    assert lab.lineage("mask") == ["fr-en", "de", "sha256:9", "fr"]
    with pytest.raises(UnknownNameError):
        lab.lineage("nothing")


def test_descendants__are_those_in_whose_lineage_it_stands(lab):
    lab.add("report", "r.zarr", derived_from=["sha256:2", "mask"])
    made = made_of(lab)
    for origin in (*lab, "sha256:9", "nothing"):
        expected = {name for name in lab if origin in lab.lineage(name)}
        assert set(descendants([origin], made)) == expected
    assert descendants(["fr"], made) == ["fr-en", "mask", "report"]
    assert descendants(["fr", "mask"], made) == ["fr-en", "report"]


def test_descendants__end_where_entries_name_each_other(catalog):
    catalog.add("a", "a.zarr", derived_from=["b"])
    catalog.add("b", "b.zarr", derived_from=["a"])
    assert descendants(["a"], made_of(catalog)) == ["b"]


def test_lineage__ends_where_entries_name_each_other(catalog):
    catalog.add("a", "a.zarr", derived_from=["b"])
    catalog.add("b", "b.zarr", derived_from=["a", "b"])
    assert catalog.lineage("a") == ["b"]


def test_add__takes_from_the_store_what_is_not_given(catalog, tmp_path, tiny):
    save(tiny, tmp_path / "data/r.zarr")
    ds = open_recording(tmp_path / "data/r.zarr")
    save_result(ds["activation"].mean(("prompt", "token")).assign_attrs(kind="contrast"), tmp_path / "c.zarr",
                derived_from=ds.attrs["manifest_digest"])  # fmt: skip
    catalog.add("r", "data/r.zarr", licence="CC0-1.0", tags=["x"])
    catalog.add("c", str(tmp_path / "c.zarr"), kind="difference")
    catalog.save()
    again = open_catalog(tmp_path / "catalog.yaml")
    known = again["r"].metadata
    assert (known.kind, known.sites, known.licence, known.tags) == ("recording", ("mlp",), "CC0-1.0", ("x",))
    assert set(known.conditions) == set(tiny["condition"].values)
    assert known.shape == {"prompt": 12, "token": tiny.sizes["token"], "layer": 2, "neuron": 6}
    assert known.digest == ds.attrs["manifest_digest"]
    assert known.created == ds.attrs["provenance"]["saved"]
    assert again["c"].metadata.kind == "difference"  # what is given comes first
    assert again["c"].metadata.shape == {"layer": 2, "neuron": 6}
    assert again.lineage("c") == ["r"]
    catalog.add("unseen", "data/r.zarr", look=False)
    assert catalog["unseen"].metadata.digest is None


@pytest.mark.parametrize(
    ("name", "urlpath", "metadata", "message"),
    [
        ("fr", "a.zarr", {}, "has an entry 'fr' already; choose another name"),
        ("a/b", "a.zarr", {}, "a name must not be a path, got 'a/b'"),
        ("", "a.zarr", {}, "a name must not be a path, got ''"),
        ("a@v1", "a.zarr", {}, "'@' stands before a version, and in no name, got 'a@v1'"),
        (" a", "a.zarr", {}, "without spaces around it"),
        ("new", "../a.zarr", {}, "leads out of the catalog's folder"),
        ("new", "{{ HOME }}/a.zarr", {}, "the one template is"),
        ("new", "a.zarr", {"author": "me"}, "metadata.author: extra inputs are not permitted, got 'me'"),
        ("new", "a.zarr", {"tags": "demo"}, "metadata.tags: input should be a valid"),
    ],
)
def test_add__refuses(lab, name, urlpath, metadata, message):
    with pytest.raises(InputError, match=message):
        lab.add(name, urlpath, **metadata)
    assert len(lab) == 4


def test_add__says_what_to_do_where_a_store_cannot_be_asked(catalog, monkeypatch):
    def fails(path):
        raise StorageError(f"{path}: no answer")

    monkeypatch.setattr("actome.store.catalog.stored_metadata.Location.of", fails)
    with pytest.raises(StorageError, match="no answer; or give look=False to enter it unseen"):
        catalog.add("far", "s3://lab/far.zarr")
    catalog.add("far", "s3://lab/far.zarr", look=False)
    assert catalog.state("far") == "remote"


def test_tag__adds_each_tag_once(lab):
    lab.tag("fr", "new", "demo", "new")
    assert lab["fr"].metadata.tags == ("demo", "languages", "new")
    with pytest.raises(UnknownNameError):
        lab.tag("nothing", "x")


def test_refresh__takes_what_the_store_says_and_keeps_what_else_was_given(catalog, tmp_path, tiny):
    path = save(tiny, tmp_path / "tiny.zarr")
    catalog.add("one", path, description="mine", tags=["a"], digest="sha256:old", look=False)
    catalog.save()
    catalog.refresh("one")
    catalog.save()
    entry = open_catalog(catalog.path)["one"]
    assert entry.metadata.digest == open_recording(path).attrs["manifest_digest"]
    assert entry.metadata.shape == {d: tiny.sizes[d] for d in ("prompt", "token", "layer", "neuron")}
    assert (entry.description, entry.metadata.tags) == ("mine", ("a",))
    with pytest.raises(UnknownNameError):
        catalog.refresh("two")


def test_remove__leaves_the_data(lab, tmp_path, tiny):
    path = save(tiny, tmp_path / "fr.zarr")
    lab.remove("fr")
    assert "fr" not in lab
    assert open_recording(path).sizes["prompt"] == 12
    with pytest.raises(UnknownNameError):
        lab.remove("fr")
    lab.add("fr", "fr.zarr")
    lab.save()
    assert "fr" in open_catalog(tmp_path / "catalog.yaml")


def test_state__says_what_is_there_without_asking_far_places(catalog, tmp_path, tiny):
    save(tiny, tmp_path / "x.zarr")
    catalog.add("here", "x.zarr")
    catalog.add("url", f"file://{tmp_path}/x.zarr")
    catalog.add("not", "y.zarr")
    catalog.add("zip", "y.zip")
    catalog.add("far", "memory://lab/x.zarr")
    states = [catalog.state(n) for n in catalog]
    assert states == ["built", "built", "not built", "not built", "remote"]
    assert not catalog.is_built("far")
    fsspec.filesystem("memory").store.clear()


def test_state__knows_versions(catalog, tmp_path, tiny):
    commit(save(tiny, tmp_path / "x.zarr"), tmp_path / "x.icechunk", message="first", tag="v1")
    for name, urlpath in {"newest": "x.icechunk", "one": "x.zarr@v1", "other": "x.zarr@v2"}.items():
        catalog.add(name, urlpath, look=False)
    assert [catalog.state(n) for n in catalog] == ["built", "built", "not built"]


def test_catalog__shows_some_names_of_many(catalog):
    for i in range(30):
        catalog.add(f"entry{i:02d}", "x.zarr", look=False)
    with pytest.raises(UnknownNameError, match=r"'entry09'\] and 20 more"):
        catalog["zzz"]
