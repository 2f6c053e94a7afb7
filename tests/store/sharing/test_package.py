"""`export`: bytes, files beside the data, and what is refused before anything is written."""

import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
import xarray as xr

from actome.store.archive import open as open_entry
from actome.store.catalog import open_catalog
from actome.store.errors import ActomeError, DamagedError, InputError, MissingFileError
from actome.store.index.build import build_index
from actome.store.integrity import verify
from actome.store.location import Location
from actome.store.sharing import export, receive
from actome.store.sharing.cut import Cut
from actome.store.sharing.package import forecast
from actome.store.versions import commit

BESIDE = {
    "CITATION.cff",
    "LICENSE.txt",
    "README.md",
    "SHA256SUMS",
    "catalog.yaml",
    "croissant.json",
    "ro-crate-metadata.json",
}


def files_of(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def digest_of(path: Path) -> str:
    return Location.of(path).group().attrs["manifest_digest"]


def test_export__copies_every_byte_of_recordings_and_results(lab, tmp_path):
    out = tmp_path / "package"
    assert export(["words", lab.result], out, catalog=lab.folder / "catalog.yaml") == str(out)
    assert {p.name for p in out.iterdir()} == {*BESIDE, "words.zarr", "contrast.zarr"}
    assert files_of(out / "words.zarr") == files_of(lab.recording)
    assert files_of(out / "contrast.zarr") == files_of(lab.result)
    assert verify(out / "words.zarr") == [] == verify(out / "contrast.zarr")


def test_export__its_catalog_opens_every_entry_wherever_the_package_is(lab, tmp_path):
    export(["words", lab.result], tmp_path / "package", catalog=lab.folder / "catalog.yaml")
    shutil.move(tmp_path / "package", tmp_path / "elsewhere")
    catalog = open_catalog(tmp_path / "elsewhere" / "catalog.yaml")
    assert list(catalog) == ["words", "contrast"]
    xr.testing.assert_identical(
        catalog.open("words", site="mlp").load(), open_entry(lab.recording, site="mlp").load()
    )
    entry = catalog["words"]
    assert (entry.description, entry.metadata.licence) == ("Words for animals", "CC0-1.0")
    assert (entry.metadata.digest, entry.metadata.tags) == (digest_of(lab.recording), ("animals",))
    assert entry.metadata.citation == "Lab (2026), Words."


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="needs sha256sum")
@pytest.mark.parametrize("packed", [False, True])
def test_export__checksums_are_those_of_sha256sum(lab, tmp_path, packed):
    export(lab.recording, tmp_path / "p", packed=packed)
    command = ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"]
    assert subprocess.run(command, cwd=tmp_path / "p", check=False).returncode == 0
    listed = [line.split("  ", 1)[1] for line in (tmp_path / "p" / "SHA256SUMS").read_text().splitlines()]
    assert sorted(listed) == sorted(files_of(tmp_path / "p").keys() - {"SHA256SUMS"})
    with (tmp_path / "p" / "README.md").open("a") as file:
        file.write(" ")
    assert subprocess.run(command, cwd=tmp_path / "p", capture_output=True, check=False).returncode == 1


def test_export__equal_content_gives_equal_bytes(lab, tmp_path):
    names = [lab.recording, lab.result]
    export(names, tmp_path / "a.zip")
    for path in lab.folder.rglob("*"):
        os.utime(path, (1e9, 1e9))
    export(names, tmp_path / "b.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    export(names, tmp_path / "a", packed=True)
    export(names, tmp_path / "b", packed=True)
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")


def test_export__a_zip_holds_what_the_folder_holds_and_is_not_compressed_again(lab, tmp_path):
    export(lab.recording, tmp_path / "p", title="Words")
    export(lab.recording, tmp_path / "p.zip", title="Words")
    with zipfile.ZipFile(tmp_path / "p.zip") as file:
        assert file.testzip() is None
        assert {i.compress_type for i in file.infolist()} == {zipfile.ZIP_STORED}
        assert {name: file.read(name) for name in file.namelist()} == files_of(tmp_path / "p")


def test_export__packed_entries_open_in_place(lab, tmp_path):
    export(["words", lab.result], tmp_path / "p", catalog=lab.folder / "catalog.yaml", packed=True)
    assert {p.name for p in (tmp_path / "p").iterdir()} == {*BESIDE, "words.zip", "contrast.zip"}
    catalog = open_catalog(tmp_path / "p" / "catalog.yaml")
    there = open_entry(lab.recording, site="mlp").load()
    assert catalog.open("words", site="mlp").load().equals(there)
    assert verify(tmp_path / "p" / "words.zip") == []
    assert Location.of(tmp_path / "p" / "words.zip").group().attrs["manifest_digest"] == digest_of(
        lab.recording
    )


def test_export__a_derived_index_goes_with_a_whole_copy_only(lab, tmp_path):
    build_index(lab.recording)
    export(lab.recording, tmp_path / "whole")
    assert files_of(tmp_path / "whole" / "words.zarr") == files_of(lab.recording)
    receive(tmp_path / "whole", tmp_path / "archive")
    assert files_of(tmp_path / "archive" / "words.zarr") == files_of(lab.recording)
    export(lab.recording, tmp_path / "part", layers=[4])
    export(lab.recording, tmp_path / "hidden", text="digest")
    assert not list(tmp_path.glob("part/**/index")) and not list(tmp_path.glob("hidden/**/index"))


def test_export__an_index_of_other_numbers_stays_behind(lab, tmp_path):
    build_index(lab.recording)
    manifest = lab.recording / "actome" / "index" / "manifest.json"
    manifest.write_text(manifest.read_text().replace("sha256:", "sha256:0", 1))
    export(lab.recording, tmp_path / "p")
    assert not list(tmp_path.glob("p/**/index"))
    receive(tmp_path / "p", tmp_path / "archive")


def test_export__a_version_is_an_entry(lab, tmp_path):
    commit(lab.recording, tmp_path / "words.icechunk", message="first", tag="v1")
    export(f"{tmp_path}/words.icechunk@v1", tmp_path / "p")
    assert files_of(tmp_path / "p" / "words-v1.zarr") == files_of(lab.recording)


def test_export__a_foreign_file_stays_behind(lab, tmp_path):
    (lab.recording / "private.txt").write_text("mine")
    export(lab.recording, tmp_path / "p")
    assert "words.zarr/private.txt" not in files_of(tmp_path / "p")


def test_forecast__says_what_is_written(lab):
    sizes = forecast(["words", lab.result], Cut(), lab.folder / "catalog.yaml")
    assert sizes == {
        "words": sum(map(len, files_of(lab.recording).values())) - len(manifest(lab.recording)),
        "contrast": sum(map(len, files_of(lab.result).values())) - len(manifest(lab.result)),
    }
    values = 24 * 6 * 8 * 4 + 24 * 2 * 8 * 24  # the cube's layer; the moments of two sites
    assert forecast(lab.recording, Cut(layers=(4,)))["words"] == values


def manifest(path: Path) -> bytes:
    return (path / "actome" / "manifest.json").read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": [9]}, r"has no layer 9; it has \[1, 4\]"),
        ({"layers": []}, "layers must be a list with something in it"),
        ({"conditions": ["z"]}, r"has no condition 'z'; it has \["),
        ({"conditions": "a"}, "conditions must be a list"),
        ({"dtype": "int8"}, r"dtype must be one of \['float16', 'float32'\] or None, got 'int8'"),
        ({"text": "none"}, "text must be 'keep' or 'digest', got 'none'"),
        ({"keep_labels": ["language"]}, "give both or neither"),
        ({"text": "digest", "keep_labels": ["text"]}, "keep_labels must name labels of the prompts"),
        ({"citation": "no.cff"}, "there is no citation file at no.cff"),
        ({"licence_text": "no.txt"}, "there is no text of a licence at no.txt"),
        ({"catalog": "no.yaml"}, "there is no catalog file at no.yaml"),
    ],
)
def test_export__wrong_options_write_nothing(lab, tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(lab.folder)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ActomeError, match=message):
        export("words", tmp_path / "p", **{"catalog": "catalog.yaml", **options})
    assert sorted(tmp_path.rglob("*")) == before


def test_export__refuses_what_cannot_be_a_package(lab, tmp_path):
    with pytest.raises(InputError, match="nothing to export"):
        export([], tmp_path / "p")
    with pytest.raises(InputError, match="two entries have the name 'words'"):
        export([lab.recording, lab.recording], tmp_path / "p")
    shutil.copytree(lab.recording, tmp_path / "some words.zarr")
    with pytest.raises(InputError, match="'some words' cannot be a name in a package"):
        export(tmp_path / "some words.zarr", tmp_path / "p")
    with pytest.raises(InputError, match="packed entries go into a folder"):
        export(lab.recording, tmp_path / "p.zip", packed=True)
    with pytest.raises(InputError, match=r"something at .* already"):
        export(lab.recording, lab.folder)
    with pytest.raises(InputError, match="there is no folder"):
        export(lab.recording, tmp_path / "no" / "p")
    with pytest.raises(MissingFileError, match="no recording or result at"):
        export(tmp_path / "nowhere", tmp_path / "p")
    with pytest.raises(InputError, match="no conditions can be left out"):
        export(_with_prompts(lab, tmp_path), tmp_path / "p", conditions=["a"])
    assert not (tmp_path / "p").exists() and not list(tmp_path.glob(".*"))


def _with_prompts(lab, tmp_path):
    from actome.store.results import save_result

    return save_result(xr.Dataset({"x": ("prompt", [1.0, 2.0])}), tmp_path / "scores.zarr")


def test_export__refuses_a_recording_that_is_not_finished_or_is_damaged(lab, tmp_path):
    shutil.copytree(lab.recording, tmp_path / "half.zarr")
    root = (tmp_path / "half.zarr" / "zarr.json").read_text()
    (tmp_path / "half.zarr" / "zarr.json").write_text(root.replace("manifest_digest", "nothing"))
    with pytest.raises(InputError, match="it has no manifest of digests"):
        export(tmp_path / "half.zarr", tmp_path / "p")
    shard = next(p for p in lab.recording.glob("mlp/activation/c/**/*") if p.is_file())
    shard.write_bytes(shard.read_bytes()[:-1] + b"\0")
    with pytest.raises(DamagedError, match=r"mlp/activation/c/.* is damaged; `actome verify` names all"):
        export(lab.recording, tmp_path / "p")
    shard.unlink()
    with pytest.raises(ActomeError, match="mlp/activation/c/"):
        export(lab.recording, tmp_path / "p.zip")
    assert (
        not (tmp_path / "p").exists() and not list(tmp_path.glob(".*")) and not list(tmp_path.glob("*.zip"))
    )
