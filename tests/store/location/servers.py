"""Servers on loopback: S3, plain static files, and a proxy that fails on purpose."""

import http.client
import logging
import math
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer

from actome.store.location.object_store import ObjectStore

BUCKET = "lab"


@contextmanager
def s3_server() -> Iterator[str]:
    """Serve an empty bucket, and point the environment at it; yield the endpoint."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    endpoint = "http://{}:{}".format(*server.get_host_and_port())
    try:
        with s3_at(endpoint):
            ObjectStore().makedirs(BUCKET, exist_ok=True)  # moto's servers share what they hold
            yield endpoint
    finally:
        server.stop()


@contextmanager
def s3_at(endpoint: str) -> Iterator[None]:
    """Point the environment at an S3 server."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ENDPOINT_URL_S3", endpoint)
        environment.setenv("AWS_ACCESS_KEY_ID", "someone")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
        environment.setenv("NO_PROXY", "127.0.0.1")
        ObjectStore.clear_instance_cache()
        yield
    ObjectStore.clear_instance_cache()


@contextmanager
def _serving(handler: Callable[..., BaseHTTPRequestHandler]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


class _Quiet(BaseHTTPRequestHandler):
    """A handler that does not mind clients that leave."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are sent apart: else each answer waits for 40 ms

    def handle(self):
        with suppress(ConnectionResetError, BrokenPipeError):
            super().handle()

    def finish(self):
        with suppress(ConnectionResetError, BrokenPipeError):
            super().finish()

    def log_message(self, *args):
        pass


class _StaticFiles(_Quiet, SimpleHTTPRequestHandler):
    """The web server of the standard library: it knows no ranges. Folders are not listed."""

    def list_directory(self, path):
        self.send_error(404)


class _StaticFilesWithRanges(_StaticFiles):
    """With ranges, as most servers have them."""

    def do_GET(self):
        path = Path(self.translate_path(self.path))
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if not asked or not path.is_file():
            super().do_GET()
            return
        content = path.read_bytes()
        first, last = asked.groups()
        start = int(first) if first else max(0, len(content) - int(last))
        end = min(len(content), int(last) + 1 if first and last else len(content))
        if start >= len(content):
            self.send_response(416)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(content)}")
        self.send_header("Content-Length", str(end - start))
        self.end_headers()
        self.wfile.write(content[start:end])


@contextmanager
def static_server(folder: Path, *, ranges: bool = False) -> Iterator[str]:
    """Serve the files of a folder; yield the URL."""
    handler = _StaticFilesWithRanges if ranges else _StaticFiles
    with _serving(partial(handler, directory=str(folder))) as url:
        yield url


class Faults:
    """What a proxy does wrong.

    Attributes
    ----------
    kinds
        ``500``, ``503``; ``drop``: the connection closes without an answer; ``cut``: the body ends
        early; ``stall``: half of it comes, and nothing more; ``short``: it ends early, and the header
        agrees; ``empty``: there is no body; ``404``: the file is denied; ``slow``: the answer takes
        its time.
    rate
        Share of the requests that fail.
    only
        Pattern of the paths concerned.
    limit
        How many requests may fail in all.
    done
        How many failed, by kind.
    hides
        Whether what is not there is forbidden, as S3 has it for who must not list.
    """

    def __init__(self) -> None:
        self.done: Counter[str] = Counter()
        self.hides = False
        self.set()

    def set(
        self, *kinds: str, rate: float = 1.0, only: str = "", limit: float = math.inf, seed: int = 0
    ) -> None:
        """Fail in these ways from now on; without an argument, not at all."""
        self.kinds, self.rate, self.only, self.limit = kinds, rate, re.compile(only), limit
        self._random, self._lock = random.Random(seed), threading.Lock()
        self.done.clear()

    def next(self, path: str) -> str | None:
        """Say how the next request fails."""
        with self._lock:
            if not self.kinds or not self.only.search(path) or self.done.total() >= self.limit:
                return None
            if self._random.random() >= self.rate:
                return None
            kind = self._random.choice(self.kinds)
            self.done[kind] += 1
            return kind


_ANSWERS = {"500": "InternalError", "503": "SlowDown", "404": "NoSuchKey"}


class _Proxy(_Quiet):
    def __init__(self, *args, upstream: str, faults: Faults) -> None:
        self.upstream, self.faults = upstream.removeprefix("http://"), faults
        super().__init__(*args)

    def _forward(self) -> None:
        sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = self.faults.next(self.path)
        if fault in _ANSWERS:
            code = _ANSWERS[fault]
            self._answer(
                int(fault), {}, f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()
            )
            return
        if fault == "drop":
            self.close_connection = True
            return
        if fault == "slow":
            time.sleep(0.2)
        headers = {k: v for k, v in self.headers.items() if k.lower() not in ("expect", "connection")}
        with closing(http.client.HTTPConnection(self.upstream)) as upstream:
            upstream.request(self.command, self.path, sent, headers)
            response = upstream.getresponse()
            content = response.read()
        kept = {
            k: v for k, v in response.headers.items() if k.lower() not in ("connection", "transfer-encoding")
        }
        if self.command == "GET" and response.status < 300:
            if fault in ("short", "empty"):
                content = content[: len(content) // 2] if fault == "short" else b""
            elif fault in ("cut", "stall"):
                kept["Content-Length"] = str(len(content))
                self._answer(response.status, kept, content[: len(content) // 2], whole=False)
                if fault == "stall":
                    self.connection.settimeout(10)
                    with suppress(OSError):
                        self.connection.recv(1)  # returns when the client has left
                self.close_connection = True
                return
        if response.status == 404 and self.faults.hides:
            self._answer(403, {}, b"<Error><Code>AccessDenied</Code><Message>Forbidden</Message></Error>")
            return
        self._answer(response.status, kept, content)

    def _answer(self, status: int, headers: dict[str, str], content: bytes, *, whole: bool = True) -> None:
        if whole and self.command != "HEAD":
            headers = {k: v for k, v in headers.items() if k.lower() != "content-length"}
            headers["Content-Length"] = str(len(content))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _forward


@contextmanager
def faulty_proxy(upstream: str) -> Iterator[tuple[str, Faults]]:
    """Stand between a client and a server; yield the URL, and what goes wrong."""
    faults = Faults()
    with _serving(partial(_Proxy, upstream=upstream, faults=faults)) as url:
        yield url, faults


class _Endless(_Quiet):
    """Whatever is asked for: line after line of a comment, far more than anyone wants."""

    protocol_version = "HTTP/1.0"
    block = b"#" * (2**20 - 1) + b"\n"
    n_blocks = 256

    def __init__(self, *args, status: int, sent: list[int]) -> None:
        self.status, self.sent = status, sent
        super().__init__(*args)

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.end_headers()
        for _ in range(self.n_blocks):
            self.wfile.write(self.block)
            self.sent.append(len(self.block))


@contextmanager
def endless_server(status: int) -> Iterator[tuple[str, list[int]]]:
    """Serve 256 MiB for every request, with a status; yield the URL, and the sizes of what was sent."""
    sent: list[int] = []
    with _serving(partial(_Endless, status=status, sent=sent)) as url:
        yield url, sent
