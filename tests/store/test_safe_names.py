"""Names that a stranger wrote never lead out of where they are used: no manifest, package or catalog does."""

import json
from pathlib import Path

import pytest

from actome.store.archive import open as open_recording
from actome.store.archive import save
from actome.store.errors import DamagedError, InputError
from actome.store.housekeeping import append, cast, merge, rechunk
from actome.store.integrity import verify
from actome.store.location import Location
from actome.store.manifest import MANIFEST, ROOT, listed_files, root_bytes, unit_file, write_manifest
from actome.store.phantom import phantom
from actome.store.provenance import digest_bytes
from actome.store.safe_names import climbs, fits_package, leads_out
from actome.store.sharing import export
from actome.store.sharing.cut import Cut
from actome.store.sharing.package import forecast

BAD = [
    "actome/../../evil.txt",
    "../evil.txt",
    "/evil.txt",
    "a//b",
    "./a",
    "a/.",
    "a/",
    "",
    "a\\..\\b",
    "a\0b",
    "C:/a",
]
FINE = [
    "mlp/activation/c/0/1",
    "actome/paradigm-2.yaml",
    "..a",
    "a..b/c",
    "...",
    ".hidden",
    "a:b/zarr.json",
    "é/c",
]


@pytest.mark.parametrize("name", BAD)
def test_leads_out__of_what_is_no_plain_name(name):
    assert leads_out(name)
    assert listed_files(json.dumps({"files": {name: "sha256:0"}}).encode()) is None


@pytest.mark.parametrize("name", FINE)
def test_leads_out__not_of_names_that_only_look_odd(name):
    assert not leads_out(name)
    assert listed_files(json.dumps({"files": {name: "sha256:0"}}).encode()) == {name: "sha256:0"}


@pytest.mark.parametrize(
    "content", ["[" * 100_000, '{"files": {"a": 1}}', '{"files": []}', "{}", "[]", "\xff"]
)
def test_listed_files__of_what_is_no_manifest(content):
    assert listed_files(content.encode("latin-1")) is None


def test_climbs__quoted_or_not():
    assert [climbs(x) for x in ("a/..", "..", "a/%2E./b", "a/..b", "a.../b")] == [
        True,
        True,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize("name", ["two words", "été", "", ".a", "-a", "a/b", "a@b", "a\n", "a:b"])
def test_fits_package__not_what_some_system_cannot_write(name):
    assert fits_package("words_2.b+c-d") and not fits_package(name)


@pytest.fixture
def recordings(tmp_path) -> tuple[Path, Path]:
    """A recording whose manifest names a file outside it, which is there; and one of ours elsewhere."""
    paths = tmp_path / "theirs" / "theirs.zarr", tmp_path / "mine" / "mine.zarr"
    for path, seed in zip(paths, (1, 2), strict=True):
        ds = phantom(n_prompts=2, n_tokens=(2, 4), n_layers=2, n_neurons=4, seed=seed)
        save(ds.assign_coords(prompt=[f"{path.stem}-{p}" for p in ds["prompt"].values]), path)
    theirs = paths[0]
    (theirs.parent / "evil.txt").write_text("evil")
    manifest = json.loads((theirs / MANIFEST).read_bytes())
    manifest["files"]["actome/../../evil.txt"] = digest_bytes(b"evil")
    content = json.dumps(manifest).encode()
    (theirs / MANIFEST).write_bytes(content)
    root = json.loads((theirs / ROOT).read_bytes())
    (theirs / ROOT).write_bytes(root_bytes(root, digest_bytes(content)))
    return paths


def commit(theirs: Path, mine: Path) -> None:
    pytest.importorskip("icechunk")
    from actome.store.versions import commit

    commit(theirs, mine.parent / "x.icechunk", message="x")


COPIES = {
    "cast": lambda theirs, mine: cast(theirs, mine.parent / "x.zarr", "float16"),
    "rechunk": lambda theirs, mine: rechunk(theirs, mine.parent / "x.zarr", unit=1),
    "merge": lambda theirs, mine: merge([mine, theirs], mine.parent / "x.zarr"),
    "append": lambda theirs, mine: append(mine, theirs),
    "export": lambda theirs, mine: export(theirs, mine.parent / "x"),
    "packed": lambda theirs, mine: export(theirs, mine.parent / "x", packed=True),
    "forecast": lambda theirs, mine: forecast(str(theirs), Cut()),
    "commit": commit,
}


@pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES)
def test_listed_files__a_manifest_that_leads_out_is_copied_by_nothing(recordings, tmp_path, copy):
    theirs, mine = recordings
    with pytest.raises(DamagedError, match=r"actome/manifest\.json is (damaged|not)"):
        copy(theirs, mine)
    assert [path.parent.name for path in tmp_path.rglob("evil.txt")] == ["theirs"]
    assert verify(mine) == [] and open_recording(mine).sizes["prompt"] == 6


def test_verify__says_that_a_manifest_leads_out(recordings):
    assert verify(recordings[0]) == ["damaged: actome/manifest.json is not readable"]


def test_write_manifest__refuses_the_digests_of_a_unit_that_lead_out(recordings):
    location = Location.of(recordings[1])
    location.write(unit_file(0), b'{"files": {"../a": "sha256:0"}}')
    with pytest.raises(DamagedError, match=r"units/000000\.json is not readable; remove it"):
        write_manifest(location)


def test_export__an_index_lists_nothing_but_its_own(tmp_path):
    from actome.store.index.build import build_index
    from actome.store.manifest import INDEX_MANIFEST

    path = save(phantom(n_prompts=2, n_layers=1, n_neurons=4), tmp_path / "x.zarr")
    build_index(path)
    listed = json.loads(Location.of(path).read(INDEX_MANIFEST))
    for key in ("actome/index/../../../a", "mlp/activation/zarr.json"):
        forged = {**listed, "files": {**listed["files"], key: "sha256:0"}}
        Location.of(path).write(INDEX_MANIFEST, json.dumps(forged).encode())
        with pytest.raises(DamagedError, match=r"actome/index/manifest\.json is damaged"):
            export(path, tmp_path / "p")


def test_export__refuses_a_name_that_no_package_can_hold(tmp_path, tiny):
    save(tiny, tmp_path / "two words.zarr")
    with pytest.raises(InputError, match="'two words' cannot be a name in a package"):
        export(tmp_path / "two words.zarr", tmp_path / "p")
