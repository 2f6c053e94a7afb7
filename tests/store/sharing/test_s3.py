"""`push` and `pull` with an object store: moto's S3 server on loopback, and a proxy that fails on purpose."""

from itertools import count

import numpy as np
import pytest
import xarray as xr

from actome.store.archive import open as open_entry
from actome.store.archive import save
from actome.store.catalog import open_catalog
from actome.store.errors import DamagedError, InputError, MissingFileError, StorageError
from actome.store.integrity import verify
from actome.store.location.object_store import ObjectStore
from actome.store.sharing import download, export, pull, push, receive

from ..location.servers import BUCKET, faulty_proxy, s3_at, s3_server, static_server
from .test_package import files_of

URL = f"s3://{BUCKET}/shared/words"
PART = 5 * 2**20  # the smallest that S3 takes


@pytest.fixture(scope="module")
def server():
    with s3_server() as endpoint:
        yield endpoint


@pytest.fixture
def bucket(server):
    """The server, with an empty bucket."""
    yield server
    fs = ObjectStore()
    for upload in fs.call_s3("list_multipart_uploads", Bucket=BUCKET).get("Uploads", []):
        fs.call_s3("abort_multipart_upload", Bucket=BUCKET, Key=upload["Key"], UploadId=upload["UploadId"])
    if fs.exists(f"{BUCKET}/shared"):
        fs.rm(f"{BUCKET}/shared", recursive=True)


@pytest.fixture(scope="session")
def big(tmp_path_factory):
    """A package with an entry of some 20 MB, which cannot be compressed."""
    folder = tmp_path_factory.mktemp("big")
    cube = np.random.default_rng(0).standard_normal((20, 10, 2, 8192)).astype(np.float32)
    save(xr.Dataset({"activation": (("prompt", "token", "layer", "neuron"), cube)}), folder / "noise.zarr")
    export(folder / "noise.zarr", folder / "p", packed=True)
    assert (folder / "p" / "noise.zip").stat().st_size > 2 * PART
    return folder / "p"


@pytest.fixture
def calls(monkeypatch):
    """What is asked of the server from now on: (method, part or range)."""
    made = []
    sync, plain = ObjectStore.call_s3, ObjectStore._call_s3

    def note(method, *args, **kwargs):
        extra = {k: v for given in (*args, kwargs) for k, v in given.items()}
        made.append((method, extra.get("PartNumber") or extra.get("Range")))

    def noted_sync(self, method, *args, **kwargs):
        note(method, *args, **kwargs)
        return sync(self, method, *args, **kwargs)

    async def noted(self, method, *args, **kwargs):
        note(method, *args, **kwargs)
        return await plain(self, method, *args, **kwargs)

    monkeypatch.setattr(ObjectStore, "call_s3", noted_sync)
    monkeypatch.setattr(ObjectStore, "_call_s3", noted)
    return made


def test_push__a_package_comes_back_and_opens_in_place(bucket, lab, tmp_path):
    export([lab.recording, lab.result], tmp_path / "p", packed=True)
    names = push(tmp_path / "p", URL)
    assert names[-1] == "SHA256SUMS" and sorted(names) == sorted(files_of(tmp_path / "p"))
    there = open_entry(f"{URL}/words.zip", site="mlp").load()
    assert there.equals(open_entry(lab.recording, site="mlp").load())
    assert verify(f"{URL}/words.zip") == []
    catalog = open_catalog(f"{URL}/catalog.yaml")
    assert catalog.open("words", site="mlp").load().equals(there)
    pull(URL, tmp_path / "back")
    assert files_of(tmp_path / "back") == files_of(tmp_path / "p")
    receive(tmp_path / "back", tmp_path / "archive")
    assert files_of(tmp_path / "archive" / "words.zarr") == files_of(lab.recording)


@pytest.mark.parametrize("form", ["name", "path", "folder", "zip"])
def test_push__whatever_is_pushed_arrives_packed(bucket, lab, tmp_path, form):
    options = {"authors": ["Ada"], "title": "T", "citation": "C", "licence": "MIT"}
    catalog = lab.folder / "catalog.yaml" if form == "name" else None
    source = {"name": "words", "path": lab.recording, "folder": tmp_path / "p", "zip": tmp_path / "p.zip"}[
        form
    ]
    if form in ("folder", "zip"):
        export(lab.recording, source, **options)
    assert sum(name.endswith(".zip") for name in push(source, URL, catalog=catalog)) == 1
    pull(URL, tmp_path / "back")
    assert [r.name for r in receive(tmp_path / "back", tmp_path / "archive")] == ["words"]
    assert files_of(tmp_path / "archive" / "words.zarr") == files_of(lab.recording)
    if form in ("folder", "zip"):
        export(lab.recording, tmp_path / "packed", packed=True, **options)
        kept = ("LICENSE.txt", "CITATION.cff", "catalog.yaml", "words.zip")
        back, packed = files_of(tmp_path / "back"), files_of(tmp_path / "packed")
        assert {k: back[k] for k in kept} == {k: packed[k] for k in kept}


def test_push__sends_nothing_twice(bucket, lab, tmp_path, calls):
    export(lab.recording, tmp_path / "p", packed=True)
    push(tmp_path / "p", URL)
    calls.clear()
    push(tmp_path / "p", URL)
    assert {method for method, _ in calls} == {"head_object"}
    ObjectStore().pipe_file(f"{URL}/README.md", b"other")
    calls.clear()
    push(tmp_path / "p", URL)
    assert [method for method, _ in calls].count("put_object") == 1


@pytest.mark.slow
def test_push__goes_on_with_the_parts_that_are_missing(bucket, big, tmp_path, calls, monkeypatch):
    monkeypatch.setattr(ObjectStore, "retries", 1)  # on top of botocore's own
    with faulty_proxy(bucket) as (endpoint, faults), s3_at(endpoint):
        faults.set("drop", only="partNumber=3")
        with pytest.raises(StorageError, match=r"was not sent to its end; the same command goes on"):
            push(big, URL, part_bytes=PART)
        assert faults.done["drop"] >= 3  # it was tried again
        assert not ObjectStore().exists(f"{URL}/noise.zip") and not ObjectStore().exists(f"{URL}/SHA256SUMS")
        faults.set()
        calls.clear()
        push(big, URL, part_bytes=PART)
    assert [part for method, part in calls if method == "upload_part"] == [3]
    assert ObjectStore().cat_file(f"{URL}/noise.zip") == (big / "noise.zip").read_bytes()
    pull(URL, tmp_path / "back")
    assert files_of(tmp_path / "back") == files_of(big)


def test_push__gives_up_the_parts_of_another_file(bucket, big, calls):
    place = {"Bucket": BUCKET, "Key": "shared/words/noise.zip"}
    fs = ObjectStore()
    upload = fs.call_s3("create_multipart_upload", **place)["UploadId"]
    fs.call_s3("upload_part", **place, UploadId=upload, PartNumber=1, Body=b"x" * PART)
    calls.clear()
    push(big, URL, part_bytes=PART)
    n_parts = -(-(big / "noise.zip").stat().st_size // PART)
    assert sorted(part for method, part in calls if method == "upload_part") == [*range(1, n_parts + 1)]
    assert fs.cat_file(f"{URL}/noise.zip") == (big / "noise.zip").read_bytes()
    assert not fs.call_s3("list_multipart_uploads", Bucket=BUCKET).get("Uploads")


def test_push__notices_parts_that_were_begun_with_a_longer_file(bucket, big):
    place = {"Bucket": BUCKET, "Key": "shared/words/noise.zip"}
    fs = ObjectStore()
    noted = {"sha256": "0" * 64}
    upload = fs.call_s3("create_multipart_upload", **place, Metadata=noted)["UploadId"]
    first = (big / "noise.zip").read_bytes()[:PART]
    fs.call_s3("upload_part", **place, UploadId=upload, PartNumber=1, Body=first)
    with pytest.raises(InputError, match="was changed since it was sent in part; send it again"):
        push(big, URL, part_bytes=PART)
    push(big, URL, part_bytes=PART)
    assert fs.cat_file(f"{URL}/noise.zip") == (big / "noise.zip").read_bytes()


@pytest.mark.slow
def test_pull__goes_on_with_the_rest_of_a_file(bucket, big, tmp_path, monkeypatch, calls):
    push(big, URL)
    monkeypatch.setattr(download, "_PIECE", 2**20)
    with faulty_proxy(bucket) as (endpoint, faults), s3_at(endpoint):
        asked = count(1)
        wanted = "/noise.zip"
        faults.next = lambda path: "cut" if wanted in path and next(asked) > 6 else None
        with pytest.raises(StorageError, match="was not fetched to its end"):
            pull(URL, tmp_path / "back")
        partial = tmp_path / ".back.partial" / ".noise.zip.partial"
        there = partial.stat().st_size
        assert 2**20 <= there < (big / "noise.zip").stat().st_size and there % 2**20 == 0
        faults.next = lambda path: None
        calls.clear()
        pull(URL, tmp_path / "back")
    starts = [int(r.removeprefix("bytes=").split("-")[0]) for m, r in calls if m == "get_object" and r]
    assert there in starts and 2**20 not in starts
    assert files_of(tmp_path / "back") == files_of(big) and not list(tmp_path.glob(".*"))


def test_pull__a_partial_file_of_something_else_is_fetched_anew(bucket, big, tmp_path):
    push(big, URL)
    partial = tmp_path / ".back.partial" / ".noise.zip.partial"
    partial.parent.mkdir()
    partial.write_bytes(b"x" * 1000)
    with pytest.raises(DamagedError, match="is damaged, or was changed while it was fetched"):
        pull(URL, tmp_path / "back")
    assert not partial.exists() and not (tmp_path / "back").exists()
    pull(URL, tmp_path / "back")
    assert files_of(tmp_path / "back") == files_of(big)


def test_pull__from_a_web_server(lab, tmp_path):
    export(lab.recording, tmp_path / "p", packed=True)
    with static_server(tmp_path, ranges=True) as url:
        pull(f"{url}/p", tmp_path / "back")
        assert open_entry("words", site="mlp", catalog=f"{url}/p/catalog.yaml").sizes["prompt"] == 24
    assert files_of(tmp_path / "back") == files_of(tmp_path / "p")


def test_transfer__says_what_is_wrong_with_an_address(bucket, big, tmp_path):
    with pytest.raises(InputError, match="push goes to s3://BUCKET/PREFIX or hf://"):
        push(big, "ftp://lab/words")
    with pytest.raises(InputError, match="a part must have at least 5242880 bytes, got 1"):
        push(big, URL, part_bytes=1)
    with pytest.raises(MissingFileError, match="there is no such place as s3://nobody/words"):
        push(big, "s3://nobody/words")
    with pytest.raises(MissingFileError, match="there is no package at s3://lab/nothing: no SHA256SUMS"):
        pull("s3://lab/nothing", tmp_path / "back")
    with pytest.raises(InputError, match=r"something at .* already"):
        pull(URL, tmp_path)
    assert not (tmp_path / "back").exists()


def test_push__refuses_a_package_that_is_damaged(bucket, lab, tmp_path):
    export(lab.recording, tmp_path / "p", packed=True)
    with (tmp_path / "p" / "words.zip").open("ab") as file:
        file.write(b"x")
    with pytest.raises(DamagedError, match=r"damaged: words\.zip"):
        push(tmp_path / "p", URL)
    assert not ObjectStore().exists(f"{BUCKET}/shared")


def test_pull__refuses_a_package_whose_checksums_lead_out(bucket, tmp_path):
    ObjectStore().pipe_file(f"{URL}/SHA256SUMS", f"{'0' * 64}  ../out\n".encode())
    with pytest.raises(InputError, match="leads out of the package"):
        pull(URL, tmp_path / "back")
    assert not (tmp_path / "out").exists()
