"""Models from the hub and from folders: pinned, offline, and nothing foreign runs."""

import json
import logging
import os
import pickle
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from huggingface_hub import constants

from actome.ingest.identity import weights_digest
from actome.ingest.models import load_model
from actome.store.errors import MissingFileError


class _Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_load_model__pickled_weights_are_never_read(folder, tmp_path):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(_Bomb(tmp_path / "went off")))
    with pytest.raises(MissingFileError, match=r"weights are pickled.*save_pretrained\(FOLDER\)"):
        load_model(folder)
    assert not (tmp_path / "went off").exists()


def _with_code(folder, tmp_path):
    """Make a model bring code of its own, which leaves a trace when it runs."""
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "model_type": "of_its_own",
        "auto_map": {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnForCausalLM"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text(
        "import os\n"
        f"os.makedirs({str(tmp_path / 'ran')!r}, exist_ok=True)\n"
        "from transformers import LlamaConfig, LlamaForCausalLM\n"
        "class OwnConfig(LlamaConfig):\n    model_type = 'of_its_own'\n"
        "class OwnForCausalLM(LlamaForCausalLM):\n    config_class = OwnConfig\n"
    )


def test_load_model__code_that_a_model_brings_runs_only_when_asked_for(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    _with_code(folder, tmp_path)
    with pytest.raises(MissingFileError, match="trust_remote_code=True"):
        load_model(folder)
    assert not (tmp_path / "ran").exists()
    loaded = load_model(folder, trust_remote_code=True)
    assert (tmp_path / "ran").exists()
    assert loaded.is_causal


@pytest.fixture
def hub(folder, tmp_path, monkeypatch):
    """Serve the folder as the model ``some/one`` at a commit; the requests are noted."""
    commit, asked = "ab" * 20, []

    class Answer(BaseHTTPRequestHandler):
        delay = 0.0

        def do_HEAD(self):
            self.answer(b"")

        def do_GET(self):
            self.answer(None)

        def log_message(self, *args):
            pass

        def answer(self, body):
            asked.append(f"{self.command} {self.path}")
            time.sleep(Answer.delay if len(asked) == 1 else 0)
            start, _, name = self.path.rpartition("/")
            data = b""
            there = (
                start in (f"/some/one/resolve/{rev}" for rev in ("main", commit))
                and (folder / name).is_file()
            )
            if there:
                data = (folder / name).read_bytes()
            self.send_response(200 if there else 404)
            self.send_header("X-Repo-Commit", commit)
            self.send_header("X-Error-Code", "" if there else "EntryNotFound")
            self.send_header("ETag", f'"{hash(data):x}"')
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data if body is None else body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    _use_hub(monkeypatch, tmp_path, server.server_port)
    server.commit, server.asked, server.slow = commit, asked, lambda s: setattr(Answer, "delay", s)
    yield server
    server.shutdown()
    server.server_close()


def _use_hub(monkeypatch, tmp_path, port):
    url = f"http://127.0.0.1:{port}"
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("transformers.utils.hub._hf_api", None, raising=False)  # it keeps the endpoint


def test_load_model__an_id_is_loaded_at_one_commit_which_is_kept(hub, phantom):
    loaded = load_model("some/one")
    assert (loaded.name, loaded.revision) == ("some/one", hub.commit)
    assert weights_digest(loaded.module) == weights_digest(phantom.module)
    files = [path for path in hub.asked if path.endswith(".safetensors")]
    assert files
    assert all(hub.commit in path for path in files)
    assert load_model("some/one", revision=hub.commit).identity() == loaded.identity()


def test_load_model__a_model_on_this_machine_needs_no_hub(hub, monkeypatch):
    loaded = load_model("some/one")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.asked.clear()
    assert load_model("some/one").identity() == loaded.identity()
    assert not hub.asked


def test_load_model__a_model_on_this_machine_waits_for_no_hub_that_is_down(hub, monkeypatch, caplog):
    loaded = load_model("some/one")
    hub.shutdown()
    hub.server_close()
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("it waits to try again"))
    assert load_model("some/one").identity() == loaded.identity()
    assert not caplog.records


def test_load_model__offline_means_that_the_hub_is_not_asked(hub, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(MissingFileError, match="HF_HUB_OFFLINE forbids"):
        load_model("some/one")
    assert not hub.asked


def test_load_model__pickled_weights_on_the_hub_are_neither_read_nor_converted(hub, folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(MissingFileError, match="weights are pickled"):
        load_model("some/one")
    assert not [path for path in hub.asked if "pytorch_model" in path or "refs" in path]


def test_load_model__an_id_that_the_hub_lacks_is_refused(hub):
    with pytest.raises(
        MissingFileError, match="'no/one' is neither a local folder nor an id that can be had"
    ):
        load_model("no/one")


def test_load_model__a_slow_hub_is_waited_for(hub, monkeypatch):
    hub.slow(0.3)
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 0.1)
    assert load_model("some/one").revision == hub.commit


def test_load_model__without_a_connection_it_says_so_at_once_and_once(
    hub, monkeypatch, tmp_path, caplog, capfd
):
    hub.shutdown()
    hub.server_close()
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("it waits to try again"))
    with caplog.at_level(logging.WARNING):
        with pytest.raises(
            MissingFileError, match=r"not on this machine, and 127.0.0.1:\d+ cannot be reached"
        ):
            load_model("some/one")
    assert not caplog.records
    assert capfd.readouterr() == ("", "")
