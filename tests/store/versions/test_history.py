from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr
from distributed.protocol import deserialize, serialize
from hypothesis import given, settings

from actome.store.archive import open as open_recording
from actome.store.archive import save
from actome.store.catalog import open_catalog
from actome.store.errors import (
    InputError,
    MissingDependencyError,
    MissingFileError,
    UnknownNameError,
)
from actome.store.integrity import compare, verify
from actome.store.location import Location
from actome.store.manifest import write_manifest
from actome.store.phantom import phantom
from actome.store.results import save_result
from actome.store.validation import validate
from actome.store.versions import commit, log, tag
from tests.strategies import recordings

pytest.importorskip("icechunk")


@pytest.fixture
def changed_path(tiny: xr.Dataset, tmp_path: Path) -> Path:
    """The tiny recording with one activation of its first unit changed."""
    other = tiny.copy(deep=True)
    other["activation"][0, 0, 0, 0] = 5
    return Path(save(other, tmp_path / "changed.zarr"))


@pytest.fixture
def history(tiny_path: Path, changed_path: Path) -> str:
    """Two versions: `v1` the tiny recording, `v2` the changed one."""
    path = tiny_path.with_name("tiny.icechunk")
    commit(tiny_path, path, message="first", tag="v1")
    commit(changed_path, path, message="one activation", tag="v2")
    return str(path)


def files(path) -> dict[str, bytes]:
    location = Location.of(path)
    return {key: location.read(key) for key in location.keys()}


def same(a: xr.Dataset, b: xr.Dataset) -> None:
    xr.testing.assert_identical(a.drop_attrs(deep=False), b.drop_attrs(deep=False))
    assert {**a.attrs, "name": ""} == {**b.attrs, "name": ""}


def test_commit__keeps_every_byte(history, tiny_path, changed_path):
    for version, path in (("v1", tiny_path), ("v2", changed_path)):
        assert files(f"{history}@{version}") == files(path)
        assert verify(f"{history}@{version}") == validate(f"{history}@{version}") == []
        assert compare(f"{history}@{version}", path) == []


def test_commit__cube_moments_and_labels_are_equal(history, tiny_path, changed_path):
    for level in ("token", "prompt"):
        same(open_recording(f"{history}@v1", level=level), open_recording(tiny_path, level=level))
        same(open_recording(f"{history}@v2", level=level), open_recording(changed_path, level=level))


@settings(max_examples=5)
@given(ds=recordings())
def test_commit__any_recording_is_read_as_it_was(tmp_path_factory, ds):
    folder = tmp_path_factory.mktemp("any")
    path = save(ds, folder / "a.zarr")
    commit(path, folder / "a.icechunk", message="a")
    same(open_recording(folder / "a.icechunk"), open_recording(path))
    assert verify(folder / "a.icechunk") == []


def test_commit__a_result_is_equal(tmp_path, rng):
    ds = xr.Dataset({"stat": (("layer", "neuron"), rng.random((3, 700)))}, attrs={"kind": "contrast"})
    ds = ds.assign_coords(regressor=np.array(["fr", "en"], dtype=object))
    path = save_result(ds, tmp_path / "r.zarr", derived_from="languages")
    commit(path, tmp_path / "r.icechunk", message="a contrast", tag="v1")
    same(open_recording(tmp_path / "r.zarr@v1"), open_recording(path))
    assert verify(tmp_path / "r.icechunk") == []


def test_commit__what_icechunk_and_xarray_read_by_themselves_is_equal(history, tiny_path):
    import icechunk

    repository = icechunk.Repository.open(icechunk.local_filesystem_storage(history))
    store = repository.readonly_session(tag="v1").store
    ds = xr.open_dataset(store, engine="zarr", group="mlp", consolidated=False, chunks=None)
    np.testing.assert_array_equal(ds["activation"], open_recording(tiny_path)["activation"])
    assert not Path(history, "repo").exists()  # the format that all versions of Icechunk read


def test_commit__writes_only_what_changed(history, tiny_path, tiny, tmp_path, monkeypatch):
    other = tiny.copy(deep=True)
    other["activation"][-1, 0, 1, 0] = 7
    path = save(other, tmp_path / "other.zarr")
    read = []
    inner = Location.fetch
    monkeypatch.setattr(Location, "fetch", lambda self, key, *a: read.append(key) or inner(self, key, *a))
    commit(path, tiny_path.with_name("tiny.icechunk"), message="the last unit")
    copied = {key for key in read if "/c/" in key and not key.startswith("actome/")}
    last, first = {key for key in copied if "/c/5/" in key}, {key for key in copied if "/c/0/" in key}
    assert (
        copied == last | first and "mlp/activation/c/5/0/1/0" in last and "mlp/activation/c/0/0/0/0" in first
    )
    assert "prompt/c/5" not in copied and "mlp/activation/c/5/0/0/0" not in copied


def test_commit__nothing_new_is_no_new_version(history, changed_path):
    newest = commit(changed_path, history, message="again", tag="v2.0")
    assert [(v.id == newest, v.tags) for v in log(history)] == [(True, ("v2", "v2.0")), (False, ("v1",))]


def test_commit__an_earlier_version_can_be_the_newest_again(history, tiny_path):
    commit(f"{history}@v1", history, message="back")
    assert files(history) == files(tiny_path)
    assert [v.message for v in log(history)] == ["back", "one activation", "first"]


def test_commit__a_branch_starts_at_the_newest_of_main(history, tiny_path):
    commit(f"{history}@v1", history, message="try", branch="trial")
    assert [v.message for v in log(history, branch="trial")] == ["try", "one activation", "first"]
    assert [v.message for v in log(history)] == ["one activation", "first"]
    assert files(f"{history}@trial") == files(tiny_path)


def group_with(path: Path, **arrays: tuple[int, ...]) -> Path:
    """A result of arrays of given shapes, in chunks of 600 bytes, some in groups."""
    root = zarr.create_group(path, attributes={"kind": "result"})
    for name, shape in arrays.items():
        values = np.random.default_rng(len(name)).integers(1, 99, shape)
        root.create_array(name.replace("__", "/"), data=values, chunks=(75,) * len(shape))
    write_manifest(Location.of(path))
    return path


def test_commit__arrays_that_shrink_grow_vanish_and_become_groups(tmp_path):
    shapes = [
        {"x": (600,), "y": (300,)},
        {"x": (150,), "z": (300,)},
        {"x": (750,)},
        {"x__inner": (75,)},
        {"x": (9,)},
    ]
    paths = [group_with(tmp_path / f"{i}.zarr", **arrays) for i, arrays in enumerate(shapes)]
    for i, path in enumerate(paths):
        commit(path, tmp_path / "all.icechunk", message=str(i), tag=f"v{i}")
    for i, path in enumerate(paths):
        assert files(tmp_path / f"all.icechunk@v{i}") == files(path)


def test_log__lists_the_newest_first(history, tiny_path, changed_path):
    newest, first = log(history)
    assert (newest.message, newest.tags, first.message, first.tags) == (
        "one activation",
        ("v2",),
        "first",
        ("v1",),
    )
    assert newest.time > first.time and newest.time.utcoffset().total_seconds() == 0
    assert newest.manifest_digest == open_recording(changed_path).attrs["manifest_digest"]
    assert [v.id for v in log(history, branch="v1")] == [first.id]


def test_tag__names_any_version_for_good(history):
    newest, first = log(history)
    assert tag(history, "published") == tag(history, "published") == newest.id
    assert tag(history, "draft", first.id) == tag(history, "draft-2", "v1") == first.id
    with pytest.raises(InputError, match="has a tag 'draft' for another version; tags never move"):
        tag(history, "draft")
    with pytest.raises(InputError, match="has a branch 'main'; choose another tag"):
        tag(history, "main")


def test_open__by_tag_branch_and_snapshot(history, monkeypatch):
    first = log(history)[-1].id
    value = {
        v: float(open_recording(f"{history}@{v}")["activation"][0, 0, 0, 0]) for v in ("v1", "main", first)
    }
    assert value["v1"] == value[first] != value["main"] == 5
    assert float(open_recording(history)["activation"][0, 0, 0, 0]) == 5
    assert open_recording(f"{history}@v1").attrs["name"] == "tiny@v1"
    assert open_recording(history).attrs["name"] == "tiny"
    monkeypatch.chdir(Path(history).parent)
    for name in ("tiny.icechunk@v1", "tiny.zarr@v1", "./tiny.zarr@v1", "tiny.icechunk/@v1"):
        assert float(open_recording(name)["activation"][0, 0, 0, 0]) == value["v1"], name


def test_open__by_a_name_of_the_catalog(history, tmp_path):
    entry = "{{driver: zarr, args: {{urlpath: '{{{{ CATALOG_DIR }}}}/{}'}}}}"
    places = {"lab": "tiny.zarr", "all": "tiny.icechunk", "old": "tiny.icechunk@v1", "odd": "odd"}
    lines = [f"  {name}: {entry.format(place)}" for name, place in places.items()]
    (tmp_path / "catalog.yaml").write_text("\n".join(["version: 1", "sources:", *lines, ""]))
    (tmp_path / "odd").mkdir()
    save(phantom(n_prompts=2), tmp_path / "odd")
    catalog = open_catalog(tmp_path / "catalog.yaml")
    for name, value in (("lab@v2", 5), ("all@v2", 5), ("all", 5), ("old@v2", 5)):
        assert float(open_recording(name, catalog=catalog)["activation"][0, 0, 0, 0]) == value, name
    assert float(open_recording("old", catalog=catalog)["activation"][0, 0, 0, 0]) != 5
    with pytest.raises(UnknownNameError, match="has no version 'v9'"):
        open_recording("lab@v9", catalog=catalog)
    with pytest.raises(UnknownNameError, match="did you mean lab"):
        open_recording("labb@v1", catalog=catalog)
    with pytest.raises(InputError, match=r"NAME\.icechunk, by default beside NAME\.zarr, got"):
        open_recording("odd@v1", catalog=catalog)


def test_open__a_version_travels_to_other_processes(history):
    ds = deserialize(*serialize(open_recording(f"{history}@v2")))
    assert float(ds["activation"][0, 0, 0, 0]) == 5


def test_open__a_wrong_version_names_the_close_ones(history):
    tag(history, "published")
    with pytest.raises(UnknownNameError, match=r"has no version 'publishd'; did you mean published\?"):
        open_recording(f"{history}@publishd")
    with pytest.raises(
        UnknownNameError, match=r"has no version 'zzz'; it has \['main', 'published', 'v1', 'v2'\]"
    ):
        open_recording(f"{history}@zzz")
    with pytest.raises(UnknownNameError, match="has no snapshot 00000000000000000000; `actome log`"):
        open_recording(f"{history}@{'0' * 20}")
    with pytest.raises(UnknownNameError, match="did you mean main"):
        log(history, branch="mian")


def test_open__no_history(tiny_path):
    for path in ("tiny.zarr@v1", "tiny.icechunk"):
        with pytest.raises(
            MissingFileError, match=r"no version history at .*tiny\.icechunk; `actome commit NAME"
        ):
            open_recording(tiny_path.with_name(path))
    assert [p.name for p in tiny_path.parent.iterdir()] == ["tiny.zarr"]


def test_read__ranges_pieces_and_listings_are_those_of_the_folder(history, tiny_path):
    version, folder = Location.of(f"{history}@v1"), Location.of(tiny_path)
    for prefix in (
        "",
        "mlp",
        "mlp/activation/c",
        "mlp/activation/c/1",
        "prompt/c/0",
        "prompt/c/99",
        "actome",
        "none",
    ):
        assert version.keys(prefix) == folder.keys(prefix), prefix
        assert version.exists(prefix) == folder.exists(prefix), prefix
    ranges = ((0, 5), (3, None), (-4, None), (-6, -2), (2, 2), (1, 10**6))
    for key in folder.keys():
        assert b"".join(version.pieces(key)) == folder.read(key)
        for part in ranges:
            assert version.read_range(key, *part) == folder.read_range(key, *part), (key, part)
    with pytest.raises(FileNotFoundError):
        version.fetch("mlp/activation/c/99/0/0/0")


def test_save__a_version_is_never_written(history, tiny):
    for path in (history, f"{history}@v1"):
        with pytest.raises(InputError, match="holds a recording already"):
            save(tiny, path)
    location = Location.of(history)
    for write in (location.check_new, lambda: location.write("a", b""), lambda: location.remove("zarr.json")):
        with pytest.raises(InputError, match="is never written again; commit a recording"):
            write()
    with pytest.raises(InputError, match="is never written again"):
        location.group(read_only=False)
    assert verify(history) == []


def test_versions__without_icechunk(history, tiny_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "icechunk", None)
    calls = [
        lambda: open_recording(history),
        lambda: commit(tiny_path, history, message="x"),
        lambda: log(history),
        lambda: tag(history, "x"),
    ]
    for call in calls:
        with pytest.raises(
            MissingDependencyError, match=r"versions need .* pip install 'actome\[versions\]'"
        ):
            call()
