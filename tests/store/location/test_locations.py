"""The same recording in every kind of place: the same numbers, the same checks, the same refusals."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from distributed.protocol import deserialize, serialize

from actome.analyze.contrasts import compute_contrast
from actome.analyze.glm import fit_glm
from actome.store.archive import open as open_entry
from actome.store.archive import open_so_far, save
from actome.store.errors import InputError, MissingFileError
from actome.store.integrity import compare, verify
from actome.store.location import Location
from actome.store.phantom import phantom
from actome.store.results import save_result
from actome.store.validation import validate
from actome.store.writer import RecordingWriter

from .servers import BUCKET, s3_server, static_server
from .test_place import zipped

WRITABLE = ("local", "memory", "s3")
READ_ONLY = (
    "zip",
    "web",
    "web-with-ranges",
    "zip-on-memory",
    "zip-on-s3",
    "zip-on-web",
    "zip-on-web-with-ranges",
)
ENTRIES = ("tiny", "partial", "result", "damaged")


@pytest.fixture(scope="module")
def ds() -> xr.Dataset:
    return phantom(n_prompts=4, n_tokens=(2, 5), n_layers=2, n_neurons=6, fraction=0.1, seed=1)


@pytest.fixture(scope="module")
def folder(ds, tmp_path_factory) -> Path:
    """On disk: a recording, a partial one of units 0, 2, 3, 5, a result, and a damaged recording."""
    folder = tmp_path_factory.mktemp("places")
    save(ds, folder / "tiny.zarr")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RecordingWriter, "write_unit", _all_but(1, 4))
        with pytest.raises(InputError, match="are not recorded yet"):
            save(ds, folder / "partial.zarr")
    fit = fit_glm(open_entry(folder / "tiny.zarr"))
    save_result(compute_contrast(fit, "a - b"), folder / "result.zarr", derived_from="tiny")
    damaged = Path(shutil.copytree(folder / "tiny.zarr", folder / "damaged.zarr"))
    _flip(damaged / "mlp/activation/c/1/0/0/0")
    (damaged / "text/c/3").unlink()
    (damaged / "notes.txt").write_text("mine")
    for name in ENTRIES:
        zipped(folder / f"{name}.zarr", folder / f"{name}.zarr.zip")
    return folder


def _all_but(*units: int):
    write_unit = RecordingWriter.write_unit
    return lambda self, i, *args, **kwargs: None if i in units else write_unit(self, i, *args, **kwargs)


def _flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.fixture(scope="module")
def places(folder) -> Iterator[dict[str, str]]:
    """Start of the address of the same entries, by kind of place."""
    with ExitStack() as servers:
        servers.enter_context(s3_server())
        web = servers.enter_context(static_server(folder))
        with_ranges = servers.enter_context(static_server(folder, ranges=True))
        bases = {"local": str(folder), "memory": "memory://places", "s3": f"s3://{BUCKET}/places"}
        for base in (bases["memory"], bases["s3"]):
            _upload(folder, Location.of(base))
        yield bases | {"web": web, "web-with-ranges": with_ranges}


def _upload(folder: Path, target: Location) -> None:
    files = (path for path in folder.rglob("*") if path.is_file())
    contents = {f"{target.root}/{path.relative_to(folder).as_posix()}": path.read_bytes() for path in files}
    target.fs.pipe(contents)


@pytest.fixture(params=[*WRITABLE, *READ_ONLY])
def at(request, places) -> dict[str, str]:
    """Address of every entry in one kind of place."""
    kind = request.param
    base = places["local" if kind == "zip" else kind.removeprefix("zip-on-")]
    return {name: f"{base}/{name}.zarr{'.zip' if kind.startswith('zip') else ''}" for name in ENTRIES}


def test_open__gives_the_same_numbers_and_labels(at, folder):
    for level in ("token", "prompt"):
        here = open_entry(folder / "tiny.zarr", level=level)
        there = open_entry(at["tiny"], level=level)
        xr.testing.assert_identical(there.compute(), here.compute())
        assert there.attrs == here.attrs


def test_open__reads_a_few_neurons_of_one_prompt(at, ds):
    part = open_entry(at["tiny"])["activation"].isel(prompt=[7], layer=[1], neuron=[0, 2, 3])
    np.testing.assert_array_equal(part, ds["activation"].isel(prompt=[7], layer=[1], neuron=[0, 2, 3]))


def test_open__a_partial_recording_gives_what_is_recorded(at, ds):
    kept = [0, 1, 4, 5, 6, 7, 10, 11]
    if Location.of(at["partial"]).is_web:
        with pytest.raises(InputError, match="not recorded to its end, and a web server lists no files"):
            open_entry(at["partial"])
        return
    with pytest.warns(UserWarning, match="only 8 of 12 prompts of partial are recorded"):
        there = open_entry(at["partial"])
    np.testing.assert_array_equal(there["activation"], ds["activation"].isel(prompt=kept))
    assert there["condition"].to_numpy().tolist() == ds["condition"].to_numpy()[kept].tolist()
    assert not open_so_far(at["partial"], level="prompt")["mean"].isnull().any()


def test_open__a_dataset_goes_to_another_process(at, ds):
    there = deserialize(*serialize(open_entry(at["tiny"])))
    np.testing.assert_array_equal(there["activation"], ds["activation"])


@pytest.mark.parametrize("kind", ["web", "web-with-ranges"])
def test_open__any_name_of_a_column_is_found_on_the_web(kind, places, ds, folder):
    save(ds.assign_coords({"a b?c#d%41": ("prompt", np.arange(12))}), folder / f"{kind}.zarr")
    there = open_entry(f"{places[kind]}/{kind}.zarr")
    assert there["a b?c#d%41"].to_numpy().tolist() == list(range(12))


def test_open__says_where_nothing_is(at):
    nowhere = at["tiny"].replace("tiny", "nowhere")
    with pytest.raises(MissingFileError, match=r"there is no (recording or result|ZIP file) at .*nowhere"):
        open_entry(nowhere)


@pytest.mark.parametrize(
    "at",
    [
        kind if kind in ("local", "s3", "zip", "web") else pytest.param(kind, marks=pytest.mark.slow)
        for kind in (*WRITABLE, *READ_ONLY)
    ],
    indirect=True,
)
def test_fit_glm__gives_the_contrast_that_was_saved(at):
    for level in ("token", "prompt"):
        contrast = compute_contrast(fit_glm(open_entry(at["tiny"], level=level)), "a - b").compute()
        for name in ("effect", "stat", "p_value"):
            np.testing.assert_allclose(contrast[name], open_entry(at["result"])[name], rtol=1e-9)


def test_verify__and_validate_say_the_same(at):
    assert verify(at["tiny"]) == validate(at["tiny"]) == verify(at["result"]) == []
    assert verify(at["partial"]) == ["unfinished: no manifest; only complete units are checked"]
    if not Location.of(at["partial"]).is_web:
        assert validate(at["partial"]) == []


def test_verify__names_what_is_wrong(at):
    lines = ["damaged: mlp/activation/c/1/0/0/0", "missing: text/c/3"]
    listed = [] if Location.of(at["damaged"]).is_web else ["foreign: notes.txt"]
    assert verify(at["damaged"]) == lines + listed


def test_compare__two_copies_are_the_same(at, folder):
    assert compare(at["tiny"], folder / "tiny.zarr") == []
    assert compare(at["damaged"], folder / "tiny.zarr") == []  # no shard is read
    assert any(line.startswith("only in") for line in compare(at["result"], folder / "tiny.zarr"))


@pytest.mark.parametrize("at", READ_ONLY, indirect=True)
def test_check_new__refuses_where_files_are_only_read(at):
    with pytest.raises(InputError, match="can be read, not written; write a folder"):
        Location.of(at["tiny"]).check_new()
    with pytest.raises(InputError, match="can be read, not written"):
        Location.of(at["tiny"]).group(read_only=False)
    with pytest.raises(InputError, match="can be read, not written"):
        Location.of(at["tiny"]).write("a", b"")


@pytest.fixture(params=WRITABLE)
def new(request, places, tmp_path) -> str:
    """Address that is free."""
    base = str(tmp_path) if request.param == "local" else places[request.param]
    return f"{base}/{request.node.name}"


def test_save__writes_the_same_bytes(new, ds, folder):
    path = save(ds, f"{new}/a.zarr")
    assert verify(path) == validate(path) == []
    assert not [
        line
        for line in compare(path, folder / "tiny.zarr")
        if "saved" not in line and "zarr.json" not in line
    ]
    with pytest.raises(InputError, match="holds a recording already"):
        save(ds, path)


def test_save_result__is_opened_again(new):
    result = xr.Dataset({"stat": (("layer", "neuron"), [[1.0, np.nan]])}, attrs={"note": "é"})
    path = save_result(result, f"{new}/r.zarr")
    np.testing.assert_array_equal(open_entry(path)["stat"], result["stat"])
    assert verify(path) == []
    with pytest.raises(InputError, match="holds a result already"):
        save_result(result, path)


def test_writer__goes_on_with_an_interrupted_recording(new, ds, folder, monkeypatch):
    whole = open_entry(folder / "tiny.zarr").compute()
    with monkeypatch.context() as patch, pytest.raises(InputError, match="are not recorded yet"):
        patch.setattr(RecordingWriter, "write_unit", _all_but(2, 5))
        save(ds, f"{new}/a.zarr")
    location = Location.of(f"{new}/a.zarr")
    location.write("text/c/2", b"a write that was cut off")
    writer = RecordingWriter(location)
    assert writer.pending() == [2, 5]
    writer.clear_units(writer.pending())
    assert not location.exists("text/c/2")
    for i in writer.pending():
        unit = whole.isel(prompt=writer.units[i])
        columns = ("prompt", "text", "condition", "run", "block", "n_tokens", "token_id")
        labels = {name: unit[name].to_numpy() for name in columns}
        writer.write_unit(i, labels, {"mlp": unit["activation"].to_numpy()})
    writer.finalise()
    assert verify(str(location)) == []
    xr.testing.assert_equal(open_entry(str(location)).compute(), whole)
