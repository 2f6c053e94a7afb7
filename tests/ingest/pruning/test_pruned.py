"""Pruned models against the zero and the mean lesion, for every kind of model that can be pruned."""

import json

import numpy as np
import pytest
import torch
import transformers
import xarray as xr

import actome
from actome.ingest.identity import config_digest, weights_digest
from actome.ingest.models import load_model
from actome.ingest.pruning.cutting import WIDTH
from actome.ingest.pruning.pruned import PrunedModel, prune
from actome.store.errors import InputError, InputTypeError, MissingFileError

from ..architectures import ARCHITECTURES, N_LAYERS, VOCABULARY, text_of, tokenizer

MOMENTS = ("mean", "m2", "mean_abs")
NAMED = ("llama", "mistral", "qwen2", "gpt2", "opt", "gpt_neox")
KINDS = {a.name: a for a in ARCHITECTURES if a.name in {*WIDTH, "gemma3", "square"}}
BIASED = ("llama", "square", "phi", "gpt2", "gpt_bigcode", "gptj", "gpt_neo", "gpt_neox", "opt")
EVERY = [n if n in NAMED else pytest.param(n, marks=pytest.mark.slow) for n in KINDS]


@pytest.fixture
def build():
    """A small model with random weights and biases, as something that can be given as a model."""
    return lambda name: (KINDS[name].build(), tokenizer())


def logits(module):
    ids = torch.arange(3, VOCABULARY, 2)[None]
    with torch.no_grad():
        return module(ids).logits


def even_mask(width, n_removed=7, seed=0):
    """As many neurons of each layer, never the same ones."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((N_LAYERS, width), dtype=bool)
    for layer in mask:
        layer[rng.choice(width, n_removed, replace=False)] = True
    return mask


def moments(width, seed=0):
    """A reference, as opened with level="prompt"."""
    rng = np.random.default_rng(seed)
    values = {v: (("prompt", "layer", "neuron"), rng.random((4, N_LAYERS, width))) for v in MOMENTS}
    return xr.Dataset(
        {**values, "count": ("prompt", [3, 1, 4, 2])},
        coords={"prompt": list("abcd"), "layer": range(N_LAYERS), "neuron": range(width)},
        attrs={"kind": "recording", "site": "mlp", "manifest_digest": "sha256:0"},
    )


def record_of(model, tmp_path):
    texts = [{"text": text_of(list(range(3 + i, 20 + i))), "condition": "ab"[i % 2]} for i in range(6)]
    return actome.record(model, actome.Paradigm(texts), tmp_path / "r.zarr", dtype="float32", progress=False)


def test_prune__every_kind_is_tested():
    assert {getattr(transformers, a.kind).config_class.model_type for a in KINDS.values()} == set(WIDTH)


@pytest.mark.parametrize("name", EVERY)
def test_prune__has_the_logits_of_the_zero_lesion_also_when_loaded_again(build, name, tmp_path):
    model, mask = build(name), even_mask(KINDS[name].width)
    with actome.lesion(model, mask):
        lesioned = logits(model[0])
    pruned = prune(model, mask, tmp_path / "p")
    assert (logits(model[0]) - lesioned).abs().max() > 1e-3
    torch.testing.assert_close(logits(pruned.module), lesioned, rtol=1e-4, atol=1e-4)
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "p")
    assert torch.equal(logits(again.eval()), logits(pruned.module))
    assert {k: v.shape for k, v in again.state_dict().items()} == {
        k: v.shape for k, v in pruned.module.state_dict().items()
    }


@pytest.mark.parametrize("name", EVERY)
def test_prune__removes_the_parameters_of_the_neurons_and_no_other(build, name):
    model = build(name)
    before = {k: v.shape for k, v in model[0].state_dict().items()}
    after = prune(model, even_mask(KINDS[name].width)).module.state_dict()
    differing = {k: (before[k], after[k].shape) for k in before if before[k] != after[k].shape}
    assert before.keys() == after.keys()
    for old, new in differing.values():
        smaller = [(a, b) for a, b in zip(old, new, strict=True) if a != b]
        assert smaller == [(KINDS[name].width, KINDS[name].width - 7)]
    maps = {k.rpartition(".")[0] for k in differing}
    assert len(maps) in (2 * N_LAYERS, 3 * N_LAYERS)
    unchanged = [k for k in before if k not in differing]
    assert all(torch.equal(after[k], model[0].state_dict()[k]) for k in unchanged)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_prune__fills_up_layers_that_keep_fewer(build, name, tmp_path):
    model, width = build(name), KINDS[name].width
    mask = even_mask(width)
    mask[0] = True  # a layer that keeps none
    mask[1, ::2] = True
    with pytest.raises(InputError, match=f"leaves 0 to {width - 7} neurons a layer"):
        prune(model, mask)
    pruned = prune(model, mask, tmp_path / "p", fill=True)
    with actome.lesion(model, mask):
        torch.testing.assert_close(logits(pruned.module), logits(model[0]), rtol=1e-4, atol=1e-4)
    record = PrunedModel.read(tmp_path / "p").record
    assert record == pruned.record == json.loads((tmp_path / "p" / "pruning.json").read_text())
    assert record["width"] == width - 7 and record["removed"] == mask.sum(axis=1).tolist()
    assert record["filled"] == [width - 7, int(mask[1].sum()) - 7, 0]
    assert record["kept"][2] == np.flatnonzero(~mask[2]).tolist()


@pytest.mark.parametrize("name", EVERY)
def test_prune__compensated_has_the_logits_of_the_mean_lesion_or_is_refused(build, name, tmp_path):
    model, mask = build(name), even_mask(KINDS[name].width)
    reference = moments(KINDS[name].width)
    if name not in BIASED:
        with pytest.raises(InputError, match=r"has no biases.* Leave compensate out"):
            prune(model, mask, tmp_path / "p", compensate=True, reference=reference)
        assert not (tmp_path / "p").exists()
        return
    with actome.lesion(model, mask, kind="mean", reference=reference):
        lesioned = logits(model[0])
    pruned = prune(model, mask, tmp_path / "p", compensate=True, reference=reference)
    assert (logits(prune(model, mask).module) - lesioned).abs().max() > 1e-3
    torch.testing.assert_close(logits(pruned.module), lesioned, rtol=1e-4, atol=1e-4)
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "p")
    assert torch.equal(logits(again.eval()), logits(pruned.module))
    assert pruned.record["reference"] == reference.attrs["manifest_digest"]


def test_prune__leaves_the_given_model_whole(build):
    model = build("llama")
    before = weights_digest(model[0]), config_digest(model[0])
    pruned = prune(model, even_mask(24))
    with torch.no_grad():
        for parameter in pruned.module.parameters():
            parameter.zero_()
    assert (weights_digest(model[0]), config_digest(model[0])) == before
    assert model[0].config.intermediate_size == 24 and pruned.module.config.intermediate_size == 17


def test_prune__gives_a_model_that_is_one_everywhere(build, tmp_path):
    """A pruned model is recorded, lesioned and pruned again as any other."""
    model = build("llama")
    pruned = prune(model, even_mask(24), tmp_path / "p")
    from_folder = record_of(str(tmp_path / "p"), tmp_path / "folder")
    ds = record_of(pruned, tmp_path)
    assert ds.sizes["neuron"] == 17
    xr.testing.assert_equal(ds["activation"].load(), from_folder["activation"].load())
    again = prune(pruned, even_mask(17, 3, seed=1))
    with actome.lesion(pruned, even_mask(17, 3, seed=1)):
        torch.testing.assert_close(logits(again.module), logits(pruned.module), rtol=1e-4, atol=1e-4)


def test_prune__keeps_what_selected_the_mask(build):
    mask = xr.DataArray(even_mask(24), dims=("layer", "neuron"), attrs={"selected_on": ["p1", "p2"]})
    mask = mask.assign_coords(layer=range(3), neuron=range(24))
    assert prune(build("llama"), mask).record["selected_on"] == ["p1", "p2"]
    assert prune(build("llama"), even_mask(24)).record["selected_on"] is None


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda m: m, {"site": "residual"}, "only the site 'mlp' can be pruned"),
        (lambda m: m, {"compensate": True}, "needs `reference`"),
        (lambda m: m, {"reference": xr.Dataset()}, "compensate=True needs `reference`"),
        (lambda m: m[:2], {}, "mask must have shape"),
        (lambda m: m & False, {}, "removes no neuron"),
        (lambda m: m | True, {}, "removes every neuron"),
        (lambda m: m & (np.arange(3)[:, None] > 0), {"fill": True}, "layer 0 keeps all its 24 neurons"),
    ],
)
def test_prune__refuses(build, change, options, message, tmp_path):
    with pytest.raises(InputError, match=message):
        prune(build("llama"), change(even_mask(24)), tmp_path / "p", **options)
    assert not (tmp_path / "p").exists()


def test_prune__refuses_models_that_it_does_not_know_how_to_cut(build):
    phi3 = next(a for a in ARCHITECTURES if a.name == "phi3")
    with pytest.raises(InputError, match="'phi3' cannot be pruned; known are llama, "):
        prune((phi3.build(), tokenizer()), even_mask(24))
    module = build("llama")[0]
    mlp = module.model.layers[1].mlp
    mlp.up_proj = torch.ao.nn.qat.Linear(16, 24, qconfig=torch.ao.quantization.default_qat_qconfig)
    with pytest.raises(
        InputError, match=r"up_proj of model\.layers\.1\.mlp is a Linear, which cannot be cut"
    ):
        prune((module, tokenizer()), even_mask(24))


def test_prune__refuses_a_folder_that_is_taken_and_leaves_none_half_written(build, tmp_path, monkeypatch):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "notes.txt").write_text("kept")
    with pytest.raises(InputError, match="is taken"):
        prune(build("llama"), even_mask(24), tmp_path / "taken")
    with pytest.raises(MissingFileError, match="holds no pruned model"):
        PrunedModel.read(tmp_path / "taken")
    model = load_model(build("llama"))

    def fail(folder):
        raise OSError("no space left")

    monkeypatch.setattr(model.tokenizer, "save_pretrained", fail)
    with pytest.raises(OSError, match="no space left"):
        prune(model, even_mask(24), tmp_path / "p")
    assert [p.name for p in tmp_path.iterdir()] == ["taken"]


def test_prune__wants_a_mask_of_bools(build):
    with pytest.raises(InputTypeError, match="mask must be bool"):
        prune(build("llama"), np.zeros((3, 24)))
