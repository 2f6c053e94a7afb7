"""`push` and `pull` with the Hub: a fake of its HTTP API on loopback, and huggingface_hub itself."""

import hashlib
import sys

import pytest
from huggingface_hub import constants

from actome.store.errors import (
    DamagedError,
    InputError,
    MissingDependencyError,
    MissingFileError,
    StorageError,
)
from actome.store.sharing import download, export, hub, pull, push, receive

from .fake_hub import fake_hub
from .test_package import files_of

# huggingface_hub 2.4 calls its HTTP client as the client no longer likes it
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

URL = "hf://datasets/lab/words"


@pytest.fixture
def server(monkeypatch):
    """The Hub, without Xet, whose servers cannot be faked, and with files from 20 kB on taken as big."""
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "_SMALL", 20_000)
    with fake_hub() as served:
        yield served


@pytest.fixture
def package(lab, tmp_path):
    export([lab.recording, lab.result], tmp_path / "p", packed=True)
    return tmp_path / "p"


@pytest.mark.parametrize("private", [True, False])
def test_push__a_package_comes_back_from_the_hub(server, package, tmp_path, private):
    endpoint, held = server
    names = push(package, URL, endpoint=endpoint, private=private)
    assert held.files == files_of(package) and sorted(names) == sorted(held.files)
    assert held.private is private
    assert held.commits[-1] == "Add the package's card, metadata and checksums"
    assert pull(URL, tmp_path / "back", endpoint=endpoint) == str(tmp_path / "back")
    assert files_of(tmp_path / "back") == files_of(package)
    assert not list(tmp_path.glob(".*"))
    assert [r.is_new for r in receive(tmp_path / "back", tmp_path / "archive")] == [True, True]


def test_push__sends_nothing_twice(server, package):
    endpoint, held = server
    push(package, URL, endpoint=endpoint)
    before, commits = held.requests["upload"], list(held.commits)
    push(package, URL, endpoint=endpoint)
    assert held.requests["upload"] == before and held.commits == commits


def test_push__goes_on_after_the_connection_broke(server, package, monkeypatch):
    endpoint, held = server
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    big = sorted(package.glob("*.zip"), key=lambda p: -p.stat().st_size)
    last = hashlib.sha256(big[1].read_bytes()).hexdigest()
    held.fail = lambda path: path == f"/lfs/{last}"
    with pytest.raises(StorageError, match=f"{URL} was not sent to its end; .*{big[1].name}"):
        push(package, URL, endpoint=endpoint)
    assert set(held.files) == {big[0].name}
    held.fail = lambda path: False
    held.requests.clear()
    push(package, URL, endpoint=endpoint)
    assert held.files == files_of(package)
    assert hashlib.sha256(big[0].read_bytes()).hexdigest() in held.objects
    assert held.requests["upload"] < len(held.files)


def test_pull__goes_on_with_the_rest_of_a_file(server, package, tmp_path, monkeypatch):
    endpoint, held = server
    push(package, URL, endpoint=endpoint)
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    monkeypatch.setattr(download, "_PIECE", 4096)
    pieces = []

    def fail(path: str) -> bool:
        pieces.extend([path] if path.endswith("words.zip") else [])
        return len(pieces) > 4

    held.fail = fail
    with pytest.raises(StorageError, match="was not fetched to its end; the same command goes on"):
        pull(URL, tmp_path / "back", endpoint=endpoint)
    partial = tmp_path / ".back.partial" / ".words.zip.partial"
    there = partial.stat().st_size
    assert there == 4 * 4096 and not (tmp_path / "back").exists()
    held.fail = lambda path: False
    held.requests.clear()
    pull(URL, tmp_path / "back", endpoint=endpoint)
    assert files_of(tmp_path / "back") == files_of(package)
    assert held.requests["bytes"] <= sum(map(len, held.files.values())) - there


def test_pull__a_file_that_is_not_what_its_digest_says_does_not_arrive(server, package, tmp_path):
    endpoint, held = server
    push(package, URL, endpoint=endpoint)
    content = held.files["contrast.zip"]
    held.files["contrast.zip"] = content[:-1] + bytes([content[-1] ^ 1])
    with pytest.raises(DamagedError, match=r"contrast\.zip is damaged, or was changed"):
        pull(URL, tmp_path / "back", endpoint=endpoint)
    assert not (tmp_path / "back").exists()
    held.files["contrast.zip"] = content
    pull(URL, tmp_path / "back", endpoint=endpoint)
    assert files_of(tmp_path / "back") == files_of(package)


def test_transfer__wrong_addresses_and_offline_are_one_clear_error(server, package, tmp_path, monkeypatch):
    endpoint, held = server
    with pytest.raises(MissingFileError, match="there is no package at hf://datasets/lab/words"):
        pull(URL, tmp_path / "back", endpoint=endpoint)
    for url in ("hf://lab/words", "hf://datasets/words", "hf://datasets/lab/words/folder"):
        with pytest.raises(InputError, match="names no dataset repository"):
            push(package, url, endpoint=endpoint)
    monkeypatch.setattr(hub, "_MOST_BYTES", 1000)
    with pytest.raises(InputError, match=r"words.zip has .* and the Hub takes 1,000 in one file"):
        push(package, URL, endpoint=endpoint)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for call in (lambda: push(package, URL), lambda: pull(URL, tmp_path / "back")):
        with pytest.raises(InputError, match="HF_HUB_OFFLINE is set"):
            call()
    assert not held.files and held.private is None


def test_push__says_what_is_not_installed(package, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(
        MissingDependencyError, match=r"needs huggingface_hub, .* pip install 'actome\[hub\]'"
    ):
        push(package, URL)
