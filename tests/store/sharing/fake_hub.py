"""As much of the Hugging Face Hub as huggingface_hub asks for when a dataset is sent and fetched."""

import base64
import hashlib
import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

_BIG = 2**10  # bytes; above, a file goes to the large file storage


class Hub:
    """What the server holds.

    Attributes
    ----------
    files
        The repository's files by path.
    objects
        The large file storage, by SHA-256.
    commits, private
        Messages of the commits; whether the repository is private, None before it is made.
    requests
        How often each kind of request came.
    fail
        Says of a request's path whether the connection closes without an answer.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.objects: dict[str, bytes] = {}
        self.commits: list[str] = []
        self.private: bool | None = None
        self.requests: Counter[str] = Counter()
        self.fail: Callable[[str], bool] = lambda path: False


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are sent apart

    def __init__(self, *args: Any, hub: Hub) -> None:
        self.hub = hub
        super().__init__(*args)

    def log_message(self, *args: Any) -> None:
        pass

    def _answer(self, status: int, content: Any = b"", headers: dict[str, str] | None = None) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        kind = "application/octet-stream" if isinstance(content, bytes) else "application/json"
        for name, value in {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            content = b""
            while size := int(self.rfile.readline(), 16):
                content += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return content
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _dispatch(self) -> None:
        path = unquote(urlsplit(self.path).path)
        for pattern, name in _ROUTES:
            match = re.fullmatch(pattern, f"{self.command} {path}")
            if match:
                self.hub.requests[name] += 1
                if self.hub.fail(path):
                    self.close_connection = True
                    return
                getattr(self, name)(*match.groups())
                return
        self._body()
        self._answer(404, {"error": f"no {path}"})

    do_GET = do_HEAD = do_POST = do_PUT = _dispatch

    def create(self) -> None:
        asked = json.loads(self._body())
        about = {"url": f"http://{self.headers['Host']}/datasets/lab/words"}
        if self.hub.private is not None:
            self._answer(409, {**about, "error": "You already created this dataset repo"})
            return
        self.hub.private = asked.get("private") is True or asked.get("visibility") == "private"
        self._answer(200, about)

    def check_yaml(self) -> None:
        self._body()
        self._answer(200, {"warnings": [], "errors": []})

    def _entry(self, path: str) -> dict[str, Any]:
        content = self.hub.files[path]
        oid = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        entry = {"type": "file", "path": path, "size": len(content), "oid": oid}
        if len(content) > _BIG:
            digest = hashlib.sha256(content).hexdigest()
            entry["lfs"] = {"oid": digest, "size": len(content), "pointerSize": 130}
        return entry

    def _stored_oid(self, path: str) -> str | None:
        if path not in self.hub.files:
            return None
        entry = self._entry(path)
        return str(entry.get("lfs", entry)["oid"])

    def paths_info(self) -> None:
        asked = parse_qs(self._body().decode())["paths"]
        self._answer(200, [self._entry(path) for path in asked if path in self.hub.files])

    def tree(self) -> None:
        self._answer(200, [self._entry(path) for path in sorted(self.hub.files)])

    def repository(self) -> None:
        if self.hub.private is None:
            self._answer(404, {"error": "none"}, {"X-Error-Code": "RepoNotFound"})
            return
        about = {"id": "lab/words", "sha": "0" * 40, "private": self.hub.private, "siblings": []}
        self._answer(200, about)

    def preupload(self) -> None:
        asked = json.loads(self._body())["files"]
        modes = [
            {
                "path": f["path"],
                "uploadMode": "lfs" if f["size"] > _BIG else "regular",
                "shouldIgnore": False,
                "oid": self._stored_oid(f["path"]),
            }
            for f in asked
        ]
        self._answer(200, {"files": modes})

    def batch(self) -> None:
        asked = json.loads(self._body())["objects"]
        base = f"http://{self.headers['Host']}/lfs"
        actions = {"upload": {"href": f"{base}/"}, "verify": {"href": f"{base}-verify/"}}
        objects = [
            o
            if o["oid"] in self.hub.objects
            else {**o, "actions": {k: {"href": a["href"] + o["oid"]} for k, a in actions.items()}}
            for o in asked
        ]
        self._answer(200, {"transfer": "basic", "objects": objects})

    def upload(self, oid: str) -> None:
        content = self._body()
        assert hashlib.sha256(content).hexdigest() == oid
        self.hub.objects[oid] = content
        self._answer(200)

    def verify(self, oid: str) -> None:
        asked = json.loads(self._body())
        self._answer(200 if len(self.hub.objects.get(oid, b"")) == asked["size"] else 422, {})

    def commit(self) -> None:
        lines = [json.loads(line) for line in self._body().splitlines()]
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                self.hub.commits.append(value["summary"])
            elif line["key"] == "file":
                self.hub.files[value["path"]] = base64.b64decode(value["content"])
            else:
                self.hub.files[value["path"]] = self.hub.objects[value["oid"]]
        about = {"commitUrl": f"http://{self.headers['Host']}/datasets/lab/words/commit/{'1' * 40}"}
        self._answer(200, {**about, "commitOid": "1" * 40})

    def resolve(self, path: str) -> None:
        content = self.hub.files.get(path)
        if content is None:
            self._answer(404, {"error": "none"}, {"X-Error-Code": "EntryNotFound"})
            return
        head = {"X-Repo-Commit": "0" * 40, "ETag": f'"{hashlib.sha1(content).hexdigest()}"'}
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if asked is None:
            self._answer(200, content, head)
            return
        start, end = int(asked[1]), min(int(asked[2]) + 1, len(content))
        self.hub.requests["bytes"] += end - start
        head["Content-Range"] = f"bytes {start}-{end - 1}/{len(content)}"
        self._answer(206, content[start:end], head)


_REPO = "/api/datasets/lab/words"
_ROUTES = [
    ("POST /api/repos/create", "create"),
    ("POST /api/validate-yaml", "check_yaml"),
    (f"POST {_REPO}/paths-info/main", "paths_info"),
    (f"GET {_REPO}/tree/main(?:/.*)?", "tree"),
    (f"GET {_REPO}(?:/revision/main)?", "repository"),
    (f"POST {_REPO}/preupload/main", "preupload"),
    ("POST /datasets/lab/words.git/info/lfs/objects/batch", "batch"),
    ("PUT /lfs/(.+)", "upload"),
    ("POST /lfs-verify/(.+)", "verify"),
    (f"POST {_REPO}/commit/main", "commit"),
    ("(?:GET|HEAD) /datasets/lab/words/resolve/main/(.+)", "resolve"),
]


@contextmanager
def fake_hub() -> Iterator[tuple[str, Hub]]:
    """Serve an account without repositories; yield the endpoint and what the server holds."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, hub=hub))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", hub
    finally:
        server.shutdown()
        server.server_close()
