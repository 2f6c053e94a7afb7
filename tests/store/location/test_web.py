import http.server
import threading
from collections.abc import Iterator

import pytest

from actome.store.catalog import open_catalog
from actome.store.errors import InputError, StorageError
from actome.store.integrity import verify
from actome.store.location import Location
from actome.store.location.web import WebFileSystem

from ..test_integrity import declare_units, unfinished
from .servers import endless_server, faulty_proxy, static_server


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
        monkeypatch.setattr("actome.store.location.place._PIECE", size)
        assert b"".join(location.pieces(KEY)) == b"0123456789"


def test_pieces__one_request_where_the_server_knows_no_ranges(location, monkeypatch, request):
    monkeypatch.setattr("actome.store.location.place._PIECE", 3)
    asked, inner = [], WebFileSystem._get
    monkeypatch.setattr(
        WebFileSystem, "_get", lambda self, url, ranges: asked.append(url) or inner(self, url, ranges)
    )
    assert list(location.pieces(KEY)) == [b"012", b"345", b"678", b"9"]
    assert len(asked) == (1 if "no ranges" in request.node.name else 4)


def test_pieces__go_on_where_the_answer_was_cut_off(location, monkeypatch):
    monkeypatch.setattr("actome.store.location.place._PIECE", 3)
    monkeypatch.setattr("actome.store.location.retries._FIRST_WAIT", 0.001)
    with faulty_proxy(location.root) as (url, faults):
        faults.set("cut", limit=2)
        assert list(Location.of(url).pieces(KEY)) == [b"012", b"345", b"678", b"9"]
        assert faults.done["cut"] == 2


def test_pieces__of_which_only_the_first_is_taken(location, monkeypatch):
    monkeypatch.setattr("actome.store.location.place._PIECE", 3)
    pieces = location.pieces(KEY)
    assert next(pieces) == b"012"
    pieces.close()
    assert location.read(KEY) == b"0123456789"


MOST = 64 * 2**20  # what a catalog may have, and what lies in buffers


def test_read__a_server_without_ranges_sends_no_more_than_is_needed():
    with endless_server(200) as (url, sent):
        assert Location.of(url).read_range("x", 2, 5) == b"###"
        assert Location.of(url).read_range("x", 2**20 - 2, 2**20 + 1) == b"#\n#"
        assert sum(sent) < MOST


def test_open_catalog__a_server_without_ranges_cannot_send_a_longer_one():
    with endless_server(200) as (url, sent):
        with pytest.raises(InputError, match=r"catalog\.yaml is longer than 32 MiB, the most that is read"):
            open_catalog(f"{url}/catalog.yaml")
        assert sum(sent) < MOST


def test_read__a_range_that_is_longer_than_asked_for_is_refused():
    with endless_server(206) as (url, sent):
        for part in ((0, 5), (-5, None)):
            with pytest.raises(StorageError, match="/x: the server sent more than the 5 bytes asked for"):
                Location.of(url).read_range("x", *part)
        with pytest.raises(StorageError, match="the server sent more than the 8388608 bytes asked for"):
            open_catalog(f"{url}/catalog.yaml")
        assert sum(sent) < MOST


def test_verify__asks_for_no_more_units_than_a_recording_has(tiny_path, monkeypatch):
    monkeypatch.setattr("actome.store.integrity._MOST_UNITS", 8)
    unfinished(tiny_path)
    first = "unfinished: no manifest; only complete units are checked"
    with static_server(tiny_path.parent) as url:
        assert verify(f"{url}/tiny.zarr") == [first]
        declare_units(tiny_path, 10**15)
        more = f"unfinished: of {10**15} units that cannot be listed, 8 are checked"
        assert verify(f"{url}/tiny.zarr") == [first, more]


def test_exists__tells_a_missing_file_from_a_failing_server(location, monkeypatch):
    monkeypatch.setattr("actome.store.location.retries._FIRST_WAIT", 0.001)
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
