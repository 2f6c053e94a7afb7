"""Loading: what is no model, and what lacks a part, is refused in one clear line."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from actome.ingest.models import load_model, weights_digest
from actome.ingest.phantom import phantom_model
from actome.store.errors import InputError, InputTypeError, MissingFileError


@pytest.fixture
def folder(phantom, tmp_path):
    phantom.module.save_pretrained(tmp_path / "m")
    phantom.tokenizer.save_pretrained(tmp_path / "m")
    return tmp_path / "m"


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
    with pytest.raises(InputTypeError, match="causal language model of transformers, got Linear"):
        load_model((torch.nn.Linear(2, 2), phantom.tokenizer))


def test_weights_digest__takes_buffers_of_no_dimension_of_any_type():
    module = torch.nn.Linear(2, 2)
    module.register_buffer("scale", torch.tensor(2.0, dtype=torch.bfloat16))
    before = weights_digest(module)
    module.scale.fill_(3.0)
    assert weights_digest(module) != before
