"""What servers and stores say that Actome did not write: answers that are odd become clear errors."""

import json
from contextlib import contextmanager
from functools import partial

import pytest
from tqdm import tqdm

from actome.store.errors import ActomeError, DamagedError, InputError, StorageError
from actome.store.location import Location
from actome.store.sharing import checksums, export, pull
from actome.store.sharing.container import digest_file
from actome.store.sharing.cut import Cut
from actome.store.sharing.description import read_root
from actome.store.sharing.package import forecast
from actome.store.sharing.s3 import PART, Bucket

from ..location.servers import _serving, _StaticFiles


class _NoLengths(_StaticFiles):
    """A server that ends what it sends by closing the connection."""

    protocol_version = "HTTP/1.0"

    def send_header(self, keyword, value):
        if keyword != "Content-Length":
            super().send_header(keyword, value)


@contextmanager
def without_lengths(folder):
    with _serving(partial(_NoLengths, directory=str(folder))) as url:
        yield url


def test_pull__from_a_server_that_says_no_length(lab, tmp_path):
    export(lab.recording, tmp_path / "p", packed=True)
    with without_lengths(tmp_path) as url:
        with pytest.raises(StorageError, match="does not say how long it is"):
            pull(f"{url}/p", tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_forecast__of_a_server_that_says_no_length(lab):
    with without_lengths(lab.folder) as url, pytest.raises(StorageError, match="does not say how long it is"):
        forecast(f"{url}/words.zarr", Cut())


def test_pull__of_checksums_that_are_too_many(lab, tmp_path, monkeypatch):
    export(lab.recording, tmp_path / "p")
    monkeypatch.setattr(checksums, "MOST_BYTES", 100)
    with pytest.raises(InputError, match=r"SHA256SUMS of .* has more than 100 bytes"):
        pull(f"file://{tmp_path}/p", tmp_path / "back")


WRONG = {
    "no array": lambda root: root["consolidated_metadata"]["metadata"].update(x={"node_type": "array"}),
    "no shape": lambda root: root["consolidated_metadata"]["metadata"]["prompt"].pop("shape"),
    "no type": lambda root: root["consolidated_metadata"]["metadata"]["prompt"].pop("data_type"),
    "no node": lambda root: root["consolidated_metadata"]["metadata"].update(x=3),
    "no mapping": lambda root: root.update(consolidated_metadata=[1]),
    "no attributes": lambda root: root.update(attributes=[1]),
    "no names": lambda root: root["consolidated_metadata"]["metadata"]["prompt"].update(dimension_names=3),
    "an array": lambda root: root.update(node_type="array"),
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
def test_read_root__of_metadata_that_are_malformed(lab, change):
    file = lab.recording / "zarr.json"
    root = json.loads(file.read_bytes())
    change(root)
    file.write_text(json.dumps(root))
    with pytest.raises(DamagedError, match=r"words\.zarr: zarr\.json is not as Actome writes it"):
        read_root(Location.of(lab.recording))
    with pytest.raises(ActomeError):
        export(lab.recording, lab.folder / "p")


@pytest.mark.parametrize("content", ["[", "3", "[]", "[" * 100_000, "\0"])
def test_read_root__of_what_is_no_metadata(lab, content):
    (lab.recording / "zarr.json").write_text(content)
    with pytest.raises(DamagedError, match=r"zarr\.json is not as Actome writes it"):
        read_root(Location.of(lab.recording))


class _Pages:
    """An S3 server that lists one upload at a time: two of other files, then ours, begun and cut off."""

    def __init__(self, key, etags):
        self.uploads = [("lab/x.zip.old", "1"), ("lab/x.zip.other", "2"), (key, "3")]
        self.etags, self.sent, self.aborted, self.sha256 = etags, [], [], None

    def call_s3(self, method, **given):
        return getattr(self, method)(**given)

    def list_multipart_uploads(self, Bucket, Prefix, KeyMarker="", UploadIdMarker=""):
        ids = [upload for _, upload in self.uploads]
        place = ids.index(UploadIdMarker) + 1 if UploadIdMarker else 0
        key, upload = self.uploads[place]
        assert not UploadIdMarker or self.uploads[place - 1][0] == KeyMarker
        found = {"Uploads": [{"Key": key, "UploadId": upload}], "IsTruncated": place + 1 < len(ids)}
        return {**found, "NextKeyMarker": key, "NextUploadIdMarker": upload}

    def list_parts(self, UploadId, **_):
        assert UploadId == "3"
        return {"Parts": [{"PartNumber": n, "ETag": etag} for n, etag in self.etags.items()]}

    def upload_part(self, UploadId, PartNumber, Body, **_):
        self.sent.append((UploadId, PartNumber))
        return {"ETag": "new"}

    def complete_multipart_upload(self, UploadId, MultipartUpload, **_):
        assert UploadId == "3" and [p["PartNumber"] for p in MultipartUpload["Parts"]] == [1, 2]

    def head_object(self, **_):
        return {"ContentLength": PART + 1, "Metadata": {"sha256": self.sha256}}


def test_send__goes_on_with_an_upload_that_stands_on_a_later_page(tmp_path):
    import hashlib

    file = tmp_path / "x.zip"
    with file.open("wb") as target:
        target.truncate(PART + 1)
    server = _Pages("lab/x.zip", {1: hashlib.md5(bytes(PART)).hexdigest()})
    server.sha256 = digest_file(file)
    Bucket(server, "bucket/lab").send("x.zip", file, server.sha256, tqdm(disable=True))
    assert server.sent == [("3", 2)]
