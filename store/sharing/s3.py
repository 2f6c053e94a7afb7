"""Sending files to an object store that speaks S3; a big one goes in parts, and goes on after a break."""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ..errors import InputError

PART = 64 * 2**20  # bytes; a smaller file is sent at once
_MOST_PARTS = 10_000
_THREADS = 4
_SMALLEST = 5 * 2**20  # what S3 takes as a part


class Bucket:
    """A place in a bucket that takes files.

    Parameters
    ----------
    fs
        An s3fs file system.
    root
        ``bucket/prefix``.
    part
        Bytes of a part of a big file, at least 5 MiB; of a very big one it is more.
    """

    def __init__(self, fs: Any, root: str, *, part: int = PART) -> None:
        if part < _SMALLEST:
            raise InputError(f"a part must have at least {_SMALLEST} bytes, got {part}")
        self._fs = fs
        self._bucket, _, self._prefix = root.strip("/").partition("/")
        self._part = part

    def _place(self, name: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": f"{self._prefix}/{name}".lstrip("/")}

    def has(self, name: str, size: int, digest: str) -> bool:
        """Say whether a file is there with this size, and with this SHA-256 noted."""
        try:
            head = self._fs.call_s3("head_object", **self._place(name))
        except FileNotFoundError:
            return False
        return bool(head["ContentLength"] == size and head["Metadata"].get("sha256") == digest)

    def send(self, name: str, path: Path, digest: str, bar: Any) -> None:
        """Send a file, or the parts of it that are not there yet.

        Raises
        ------
        InputError
            The parts that an earlier call sent were of other content, which shows only at the end.
        """
        size, noted = path.stat().st_size, {"sha256": digest}
        if size <= self._part:
            self._fs.call_s3("put_object", **self._place(name), Body=path.read_bytes(), Metadata=noted)
            bar.update(size)
            return
        part = max(self._part, -(-size // _MOST_PARTS))
        upload, there = self._begun(name, path, part)
        if upload is None:
            upload = self._fs.call_s3("create_multipart_upload", **self._place(name), Metadata=noted)[
                "UploadId"
            ]
        numbers = range(1, -(-size // part) + 1)
        bar.update(sum(min(part, size - (n - 1) * part) for n in there))

        def send_part(n: int) -> dict[str, Any]:
            if n not in there:
                body = _part_of(path, n, part)
                sent = self._fs.call_s3(
                    "upload_part", **self._place(name), UploadId=upload, PartNumber=n, Body=body
                )
                there[n] = sent["ETag"]
                bar.update(len(body))
            return {"PartNumber": n, "ETag": there[n]}

        with ThreadPoolExecutor(_THREADS, "send") as pool:
            parts = list(pool.map(send_part, numbers))
        self._fs.call_s3(
            "complete_multipart_upload",
            **self._place(name),
            UploadId=upload,
            MultipartUpload={"Parts": parts},
        )
        if not self.has(name, size, digest):  # begun with another file of which the first parts are the same
            self._fs.call_s3("delete_object", **self._place(name))
            raise InputError(f"{name} was changed since it was sent in part; send it again")

    def _begun(self, name: str, path: Path, part: int) -> tuple[str | None, dict[int, str]]:
        """Return a broken-off upload of this file, and its parts; one of another file is given up."""
        for upload in self._uploads(name):
            there = dict(self._sent_parts(name, upload))
            same = all(etag.strip('"') == _md5(path, n, part) for n, etag in there.items())
            if there and same:
                return upload, there
            self._fs.call_s3("abort_multipart_upload", **self._place(name), UploadId=upload)
        return None, {}

    def _uploads(self, name: str) -> list[str]:
        place = self._place(name)
        asked = {"Bucket": place["Bucket"], "Prefix": place["Key"]}
        uploads: list[str] = []
        while True:
            found = self._fs.call_s3("list_multipart_uploads", **asked)
            uploads += [u["UploadId"] for u in found.get("Uploads", []) if u["Key"] == place["Key"]]
            if not found.get("IsTruncated"):
                return uploads
            asked |= {
                "KeyMarker": found["NextKeyMarker"],
                "UploadIdMarker": found["NextUploadIdMarker"],
            }

    def _sent_parts(self, name: str, upload: str) -> Iterator[tuple[int, str]]:
        after = 0
        while True:
            found = self._fs.call_s3(
                "list_parts", **self._place(name), UploadId=upload, PartNumberMarker=after
            )
            for part in found.get("Parts", []):
                yield int(part["PartNumber"]), str(part["ETag"])
            if not found.get("IsTruncated"):
                return
            after = int(found["NextPartNumberMarker"])


def _part_of(path: Path, n: int, part: int) -> bytes:
    with path.open("rb") as file:
        file.seek((n - 1) * part)
        return file.read(part)


def _md5(path: Path, n: int, part: int) -> str:
    """Digest a part as S3 does; not for security, the whole file is checked by SHA-256."""
    return hashlib.md5(_part_of(path, n, part), usedforsecurity=False).hexdigest()
