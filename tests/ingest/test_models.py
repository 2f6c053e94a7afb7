"""Loading: what is no model, and what lacks a part, is refused in one clear line; nothing foreign runs."""

import json
import logging
import os
import pickle
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForMaskedLM, BertLMHeadModel, BertModel, LlamaForCausalLM, LlamaModel

from actome.ingest import identity, pretrained
from actome.ingest.identity import tokenizer_digest, weights_digest
from actome.ingest.models import LoadedModel, load_model
from actome.ingest.phantom import phantom_model
from actome.store.errors import InputError, InputTypeError, MissingDependencyError, MissingFileError

from .architectures import ARCHITECTURES, COMMON, ROUTED, tokenizer

ENCODERS = [a.name for a in ARCHITECTURES if a.encodes]
IDS = torch.arange(3, 17).reshape(2, 7)


@pytest.fixture
def folder(phantom, tmp_path):
    phantom.module.save_pretrained(tmp_path / "m")
    phantom.tokenizer.save_pretrained(tmp_path / "m")
    return tmp_path / "m"


def _encoder_folder(path, name="bert"):
    model = next(a for a in ARCHITECTURES if a.name == name).build()
    model.save_pretrained(path)
    tokenizer().save_pretrained(path)
    return model


def test_load_model__a_file_is_no_model(folder):
    with pytest.raises(InputError, match="got the file"):
        load_model(folder / "model.safetensors")


def test_load_model__damaged_weights_are_named(folder):
    (folder / "model.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(MissingFileError, match="cannot be loaded"):
        load_model(folder)


def test_load_model__weights_that_are_missing_are_not_made_up(folder):
    weights = load_file(folder / "model.safetensors")
    save_file(
        {k: v for k, v in weights.items() if "layers.1.mlp.up" not in k},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    with pytest.raises(InputError, match=r"lack 1 weights, such as 'model.layers.1.mlp.up_proj.weight'"):
        load_model(folder)


@pytest.mark.parametrize("device", ["nowhere", "cuda:99"])
def test_load_model__a_device_that_is_not_there_is_refused(folder, device):
    with pytest.raises(InputError, match=f"device '{device}' cannot be used here"):
        load_model(folder, device=device)


def test_load_model__parameters_without_values_are_refused(phantom):
    module = phantom_model().module.to("meta")
    with pytest.raises(InputError, match="without values"):
        load_model((module, phantom.tokenizer))


def test_load_model__what_is_no_module_and_tokenizer_is_refused(phantom):
    for wrong in ((phantom.module,), (phantom.module, "gpt2"), (1, phantom.tokenizer)):
        with pytest.raises(InputTypeError, match="must be \\(module, tokenizer\\), got"):
            load_model(wrong)
    for model in (torch.nn.Linear(2, 2), (torch.nn.Linear(2, 2), phantom.tokenizer)):
        with pytest.raises(InputTypeError, match="causal language model or an encoder of transformers, got"):
            load_model(model)
    with pytest.raises(InputTypeError, match="must be an id, a folder or a module, got int"):
        load_model(3)


def test_load_model__a_loaded_model_is_taken_as_it_is(folder, model):
    for first in (load_model(folder), load_model(model)):
        assert load_model(first) == first
        assert load_model(first, device="cpu").module is first.module
    with pytest.raises(InputError, match="a loaded one was given"):
        load_model(first, revision="main")


def test_load_model__a_module_finds_the_tokenizer_of_the_folder_it_came_from(folder, phantom):
    loaded = load_model(LlamaForCausalLM.from_pretrained(folder))
    assert tokenizer_digest(loaded.tokenizer) == tokenizer_digest(phantom.tokenizer)
    with pytest.raises(MissingFileError, match=r"no tokenizer is known for this LlamaForCausalLM"):
        load_model(phantom_model().module)


def test_load_model__a_folder_without_tokenizer_is_refused_before_the_weights_are_read(folder):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    (folder / "model.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(
        MissingFileError, match=r"no tokenizer in .*: none of tokenizer.json, .*Give \(module,"
    ):
        load_model(folder)


def test_load_model__a_revision_of_a_folder_is_refused(folder):
    with pytest.raises(InputError, match="is a folder; leave it out"):
        load_model(folder, revision="main")


# nothing foreign runs


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


# the hub: one that is on this machine


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


# encoders


@pytest.mark.parametrize("name", ENCODERS)
def test_load_model__an_encoder_comes_without_its_head(name, tmp_path, capfd):
    whole = _encoder_folder(tmp_path, name)
    capfd.readouterr()
    loaded = load_model(tmp_path)
    assert capfd.readouterr() == ("", "")  # that the head was left out is no news
    assert type(loaded.module) is type(whole.base_model)
    assert not loaded.is_causal
    assert loaded.backbone is loaded.module
    assert getattr(loaded.module, "pooler", None) is None
    with torch.no_grad():
        out = loaded.module.eval()(input_ids=IDS)[0]
        assert torch.equal(out, whole.base_model(input_ids=IDS)[0])


def test_load_model__an_encoder_that_lacks_weights_is_refused(tmp_path):
    _encoder_folder(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights = {k: v for k, v in weights.items() if "layer.1.output.dense.weight" not in k}
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"lack 1 weights, such as 'encoder.layer.1.output.dense.weight'"):
        load_model(tmp_path)


def test_load_model__an_encoder_with_a_pooler_or_loaded_already_is_taken(tmp_path):
    small = BertConfig(**COMMON, intermediate_size=24)
    module = BertModel(small)
    module.save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    assert load_model(tmp_path).module.pooler is None
    for given in (module, BertForMaskedLM(small)):
        loaded = load_model((given, tokenizer()))
        assert loaded.module is given
        assert not loaded.is_causal


def test_loaded_model__a_decoder_of_the_bert_family_is_causal(tmp_path):
    module = BertLMHeadModel(BertConfig(**COMMON, intermediate_size=24, is_decoder=True))
    module.save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    loaded = load_model(tmp_path)
    assert loaded.is_causal
    assert type(loaded.module) is BertLMHeadModel


@pytest.mark.parametrize("architecture", [*ARCHITECTURES, *ROUTED], ids=lambda a: a.name)
def test_loaded_model__the_backbone_is_the_model_without_its_head(architecture):
    module = architecture.build()
    loaded = LoadedModel(module, tokenizer(), "m", None)
    assert loaded.is_causal == (architecture.name not in ENCODERS)
    assert loaded.backbone is not module
    with torch.no_grad():
        whole = module(input_ids=IDS, output_hidden_states=True)
        bare = loaded.backbone(input_ids=IDS)
    assert "logits" not in bare
    assert torch.equal(bare.last_hidden_state, whole.hidden_states[-1])


def test_loaded_model__without_a_head_is_its_own_backbone(phantom):
    loaded = LoadedModel(phantom.module.model, phantom.tokenizer, "m", None)
    assert isinstance(loaded.module, LlamaModel)
    assert loaded.backbone is loaded.module
    assert not loaded.is_causal


def test_loaded_model__context_leaves_out_positions_that_no_token_can_have():
    contexts = {
        a.name: LoadedModel(a.build(), tokenizer(), "m", None).context
        for a in ARCHITECTURES
        if a.name in ("llama", "bert", "roberta", "bloom")
    }
    assert contexts == {"llama": 64, "bert": 64, "roberta": 62, "bloom": None}


# several devices


def test_load_model__spread_over_devices_it_is_the_same_model(folder):
    pytest.importorskip("accelerate")
    alone, spread = load_model(folder, device="cpu"), load_model(folder, device="auto")
    assert alone.identity() == spread.identity()
    with torch.no_grad():
        assert torch.equal(alone.module(input_ids=IDS).logits, spread.module(input_ids=IDS).logits)


def test_load_model__a_map_over_parts_gives_the_same_numbers(folder, phantom):
    pytest.importorskip("accelerate")
    parts = ["model.embed_tokens", "model.layers", "model.norm", "model.rotary_emb", "lm_head"]
    module = LlamaForCausalLM.from_pretrained(folder, device_map=dict.fromkeys(parts, "cpu"))
    loaded = load_model((module, phantom.tokenizer))
    assert weights_digest(module) == weights_digest(phantom.module)
    with torch.no_grad():
        assert torch.equal(loaded.module(input_ids=IDS).logits, phantom.module(input_ids=IDS).logits)


def test_load_model__a_model_that_is_spread_is_not_moved(phantom):
    module = phantom_model().module
    module.hf_device_map = {"model": 0, "lm_head": 1}
    with pytest.raises(InputError, match="spread over 2 devices already"):
        load_model((module, phantom.tokenizer), device="cpu")
    with pytest.raises(InputError, match="device='auto' is for a model that is loaded here"):
        load_model((module, phantom.tokenizer), device="auto")


def test_load_model__spreading_needs_accelerate(folder, monkeypatch):
    monkeypatch.setattr(pretrained, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"accelerate.*pip install 'actome\[multi-gpu\]'"):
        load_model(folder, device="auto")


# identity


def test_weights_digest__takes_buffers_of_no_dimension_of_any_type():
    module = torch.nn.Linear(2, 2)
    module.register_buffer("scale", torch.tensor(2.0, dtype=torch.bfloat16))
    before = weights_digest(module)
    module.scale.fill_(3.0)
    assert weights_digest(module) != before


def test_weights_digest__leaves_out_buffers_that_are_not_stored():
    module = torch.nn.Sequential(torch.nn.Linear(2, 2))
    before = weights_digest(module)
    module.register_buffer("table", torch.ones(2), persistent=False)
    module[0].register_buffer("table", torch.ones(2), persistent=False)
    assert weights_digest(module) == before
    module[0].register_buffer("kept", torch.ones(2))
    assert weights_digest(module) != before


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m[1].weight.data.__setitem__((0, 0), 9.0),
        lambda m: m[1].weight.data.__setitem__((0, 0), -m[1].weight.data[0, 0]),
        lambda m: m.double(),
        lambda m: setattr(m[1], "weight", torch.nn.Parameter(m[1].weight.detach().reshape(2, 8))),
        lambda m: m.append(torch.nn.Linear(1, 1)),
    ],
)
def test_weights_digest__any_change_shows(change):
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4))
    before = weights_digest(module)
    change(module)
    assert weights_digest(module) != before


def test_weights_digest__is_of_the_values_however_they_lie(monkeypatch):
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(7, 5), torch.nn.Linear(5, 3, bias=False))
    before = weights_digest(module)
    module[0].weight.data = module[0].weight.data.T.contiguous().T
    assert weights_digest(module) == before
    monkeypatch.setattr(identity, "_PIECE", 8)
    assert weights_digest(module) == before


def test_weights_digest__tied_weights_count_once(monkeypatch):
    counted = []
    monkeypatch.setattr(identity, "_tensor_digest", lambda tensor: (counted.append(tensor.shape), b"")[1])
    linear = torch.nn.Linear(5, 5)
    weights_digest(torch.nn.Sequential(linear, linear))
    assert len(counted) == 2  # its weight and its bias


def test_tokenizer_digest__a_chat_template_is_part_of_it(phantom, folder):
    before = tokenizer_digest(phantom.tokenizer)
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    assert tokenizer_digest(load_model(folder).tokenizer) != before
