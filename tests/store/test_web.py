import http.server
import threading
from collections.abc import Iterator

import pytest

from actome.store.errors import InputError, StorageError
from actome.store.location import Location

from .servers import faulty_proxy, static_server


@pytest.fixture(params=[False, True], ids=["no ranges", "ranges"])
def location(request, tmp_path) -> Iterator[Location]:
    (tmp_path / "a b").mkdir()
    (tmp_path / "a b" / "x?y#z%41").write_bytes(b"0123456789")
    (tmp_path / "empty").write_bytes(b"")
    with static_server(tmp_path, ranges=request.param) as url:
        yield Location.of(url)


KEY = "a b/x?y#z%41"


def test_read__any_key_and_any_range(location):
    assert location.read(KEY) == b"0123456789"
    assert location.read_range(KEY, 2, 5) == b"234"
    assert location.read_range(KEY, 7) == b"789"
    assert location.read_range(KEY, -3) == b"789"
    assert location.read_range(KEY, 8, 20) == b"89"
    assert location.read_range(KEY, 20, 30) == b""
    assert location.read_range(KEY, 4, 4) == b""
    assert location.read("empty") == b""
    assert b"".join(location.pieces(KEY)) == b"0123456789"
    assert b"".join(location.pieces("empty")) == b""


def test_pieces__of_a_size_that_divides_the_file(location, monkeypatch):
    for size in (1, 3, 5, 10, 11):
        monkeypatch.setattr("actome.store.location._PIECE", size)
        assert b"".join(location.pieces(KEY)) == b"0123456789"


def test_exists__tells_a_missing_file_from_a_failing_server(location, monkeypatch):
    monkeypatch.setattr("actome.store.retries._FIRST_WAIT", 0.001)
    assert location.exists(KEY) and location.exists("empty")
    assert not location.exists("nothing")
    with faulty_proxy(location.root) as (url, faults):
        faults.set("500")
        with pytest.raises(StorageError, match="nothing cannot be looked for"):
            Location.of(url).exists("nothing")
        faults.set("404")
        assert not Location.of(url).exists(KEY)
    with pytest.raises(FileNotFoundError):
        location.read("nothing")


def test_keys__say_that_a_web_server_lists_nothing(location):
    with pytest.raises(InputError, match="is on a web server, which lists no files; copy the folder first"):
        location.keys()
    with pytest.raises(InputError, match="is on a web server: it can be read, not written"):
        location.check_new()


def test_read__a_page_that_is_not_the_file(tmp_path, monkeypatch):
    """A server that wants a password."""

    class Closed(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(403)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Closed)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        with pytest.raises(StorageError, match="cannot be looked for: access is denied"):
            Location.of(f"http://127.0.0.1:{server.server_port}").group()
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
