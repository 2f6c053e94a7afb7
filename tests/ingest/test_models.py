"""Loading models: what is taken, what is refused, and on which devices."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForMaskedLM, BertLMHeadModel, BertModel, LlamaForCausalLM, LlamaModel

from actome.ingest import pretrained
from actome.ingest.identity import tokenizer_digest, weights_digest
from actome.ingest.models import LoadedModel, load_model
from actome.ingest.phantom import phantom_model
from actome.store.errors import InputError, InputTypeError, MissingDependencyError, MissingFileError

from .architectures import ARCHITECTURES, COMMON, ROUTED, tokenizer

ENCODERS = [a.name for a in ARCHITECTURES if a.encodes]


IDS = torch.arange(3, 17).reshape(2, 7)


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
