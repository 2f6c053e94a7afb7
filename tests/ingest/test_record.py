"""Recording: values against a plain hook, resume, refusal."""

import json
import shutil

import numpy as np
import pytest
import torch
import xarray as xr
import zarr

import actome
from actome.ingest import recorder
from actome.ingest.phantom import phantom_model
from actome.store.archive import open_so_far
from actome.store.errors import InputError, InputTypeError, MissingFileError
from actome.store.writer import RecordingWriter


@pytest.fixture
def recording(model, phantom, tmp_path):
    return actome.record(model, phantom.paradigm, tmp_path / "r.zarr", dtype="float32")


def one_prompt(phantom, text):
    """Hidden activations (token, layer, neuron) and log probabilities of one text, by hand."""
    ids = torch.tensor([phantom.tokenizer(text)["input_ids"]])
    kept = []
    layers = phantom.module.model.layers
    handles = [x.mlp.down_proj.register_forward_pre_hook(lambda m, a: kept.append(a[0][0])) for x in layers]
    with torch.no_grad():
        logits = phantom.module(ids).logits[0]
    for handle in handles:
        handle.remove()
    logprob = torch.log_softmax(logits[:-1], -1)[torch.arange(ids.shape[1] - 1), ids[0, 1:]]
    return torch.stack(kept, dim=1).numpy(), logprob.numpy()


def test_record__values_are_those_of_a_plain_hook_on_one_prompt_at_a_time(recording, phantom):
    for p in range(0, recording.sizes["prompt"], 5):
        one = recording.isel(prompt=p)
        n = int(one.n_tokens)
        expected, logprob = one_prompt(phantom, str(one.text.values))
        np.testing.assert_allclose(one.activation[:n], expected, atol=1e-5)
        np.testing.assert_allclose(one.logprob[1:n], logprob, atol=1e-5)
        assert (
            one.activation[n:].isnull().all() and one.logprob[n:].isnull().all() and one.logprob[0].isnull()
        )


def test_record__holds_the_variables_of_the_contract(recording, tmp_path):
    tree = xr.open_datatree(tmp_path / "r.zarr", engine="zarr")
    root = {
        "text",
        "condition",
        "block",
        "run",
        "n_tokens",
        "token_id",
        "char_start",
        "char_end",
        "generated",
        "logprob",
        "recorded",
    }
    assert root <= set(tree.variables) and "prompt" in tree.coords
    assert {"activation", "layer", "neuron", "hook_name"} <= set(tree["mlp"].variables)
    assert {"count", "mean", "m2", "mean_abs"} == set(tree["mlp/summary"].data_vars)
    assert actome.validate(tmp_path / "r.zarr") == [] and actome.verify(tmp_path / "r.zarr") == []
    tree.close()


def test_record__spans_lead_back_to_the_text(recording):
    one = recording.isel(prompt=3)
    words = [
        str(one.text.values)[a:b]
        for a, b, t in zip(one.char_start.values, one.char_end.values, one.token_id.values, strict=True)
        if t != -1
    ]
    assert words == str(one.text.values).split()


@pytest.mark.parametrize("batch_size", [1, 5])
def test_record__does_not_depend_on_the_batch(model, phantom, recording, tmp_path, batch_size):
    other = actome.record(
        model, phantom.paradigm, tmp_path / "b.zarr", dtype="float32", batch_size=batch_size
    )
    np.testing.assert_allclose(other.activation, recording.activation, atol=1e-5)


def test_record__sites_layers_and_neurons_are_chosen(model, phantom, recording, tmp_path):
    ds = actome.record(
        model,
        phantom.paradigm,
        tmp_path / "s.zarr",
        sites=("mlp", "residual"),
        layers=[2, 0],
        neurons=[5, 3],
        dtype="float32",
    )
    np.testing.assert_array_equal(ds.activation, recording.activation.sel(layer=[2, 0], neuron=[5, 3]))
    assert actome.open(tmp_path / "s.zarr", site="residual").sizes["neuron"] == 2
    with pytest.raises(InputError, match="several sites"):
        actome.open(tmp_path / "s.zarr")


def files(folder):
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in folder.rglob("*")
        if p.is_file() and p.name not in ("zarr.json", "manifest.json")
    }


@pytest.mark.parametrize("step", range(7))
def test_record__interrupted_anywhere_and_resumed_gives_the_same_bytes(
    model, phantom, recording, tmp_path, monkeypatch, step
):
    path = tmp_path / "broken.zarr"
    write, calls = RecordingWriter.write_unit, []

    def fail(self, i, *args, **options):
        calls.append(i)
        if len(calls) > step:
            raise OSError("the disk is full")
        write(self, i, *args, **options)

    monkeypatch.setattr(RecordingWriter, "write_unit", fail)
    with pytest.raises(OSError, match="the disk is full"):
        actome.record(model, phantom.paradigm, path, dtype="float32")
    monkeypatch.undo()
    done = step
    if done:
        assert (
            open_so_far(path).sizes["prompt"]
            == done * RecordingWriter(recorder.Location.of(path)).units[0].stop
        )
    actome.record(model, phantom.paradigm, path, dtype="float32")
    assert files(path) == files(tmp_path / "r.zarr")


def test_record__a_finished_recording_is_opened_not_made_again(
    model, phantom, recording, tmp_path, monkeypatch
):
    monkeypatch.setattr(recorder, "run_unit", None)
    again = actome.record(model, phantom.paradigm, tmp_path / "r.zarr", dtype="float32")
    xr.testing.assert_identical(again.compute(), recording.compute())


def test_record__another_model_paradigm_or_setting_is_refused_by_name(model, phantom, recording, tmp_path):
    path = tmp_path / "r.zarr"
    before = files(path)
    other = phantom_model(seed=1)
    with pytest.raises(InputError, match="weights_digest"):
        actome.record((other.module, other.tokenizer), phantom.paradigm, path, dtype="float32")
    with pytest.raises(InputError, match="paradigm_digest"):
        actome.record(model, phantom.paradigm.select(run=1), path, dtype="float32")
    with pytest.raises(InputError, match="sites"):
        actome.record(model, phantom.paradigm, path, dtype="float32", layers=[0])
    with pytest.raises(InputError, match="already"):
        actome.record(model, phantom.paradigm, path, resume=False)
    assert files(path) == before


def test_record__float16_unless_values_come_near_its_limit(phantom, tmp_path):
    small = actome.record((phantom.module, phantom.tokenizer), phantom.paradigm, tmp_path / "a.zarr")
    assert small.activation.dtype == np.float16
    other = phantom_model()
    with torch.no_grad():
        for layer in other.module.model.layers:
            layer.mlp.up_proj.weight *= 1000.0
    large = actome.record((other.module, other.tokenizer), other.paradigm, tmp_path / "b.zarr")
    assert large.activation.dtype == np.float32 and float(abs(large.activation).max()) > 20_000


def test_record__clipped_values_are_counted(phantom, tmp_path):
    other = phantom_model()
    with torch.no_grad():
        for layer in other.module.model.layers:
            layer.mlp.up_proj.weight *= 1e5
    with pytest.warns(UserWarning, match="beyond what float16 holds"):
        ds = actome.record(
            (other.module, other.tokenizer), other.paradigm, tmp_path / "c.zarr", dtype="float16"
        )
    n = sum(
        json.loads(f.read_text())["counts"]["clipped"] for f in (tmp_path / "c.zarr/actome/units").iterdir()
    )
    assert n == int((abs(ds.activation) == 65504).sum()) > 0
    assert np.isfinite(ds.activation.values).sum() == int(ds.n_tokens.sum()) * 3 * 64


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "bfloat16"}, "dtype must be one of"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"sites": ()}, "at least one"),
        ({"sites": ("hidden",)}, "site must be one of"),
        ({"sites": "mlp"}, "sites must be a sequence"),
        ({"layers": [7]}, "layers must be some of 0 to 2"),
        ({"layers": [1, 1]}, "layers must be some of 0 to 2, each once"),
        ({"neurons": [64]}, "neurons must be some of 0 to 63"),
        ({"neurons": [3, 3]}, "neurons must be some of 0 to 63 at site 'mlp', each once"),
    ],
)
def test_record__a_wrong_option_is_refused_before_anything_is_written(
    model, phantom, tmp_path, options, message
):
    with pytest.raises((InputError, InputTypeError), match=message):
        actome.record(model, phantom.paradigm, tmp_path / "x.zarr", **options)
    assert not (tmp_path / "x.zarr").exists()


def test_record__an_unknown_model_or_paradigm_is_one_clear_error(phantom, tmp_path):
    with pytest.raises(MissingFileError, match="no model at"):
        actome.record(str(tmp_path / "nowhere"), phantom.paradigm, tmp_path / "x.zarr")
    with pytest.raises(MissingFileError, match="no paradigm file"):
        actome.record("demo", tmp_path / "nowhere.yaml", tmp_path / "x.zarr")
    assert not (tmp_path / "x.zarr").exists()


def test_record__a_prompt_longer_than_the_context_is_named(model, tmp_path):
    long = actome.Paradigm([{"text": "a1 " * 65, "prompt": "the-long-one"}])
    with pytest.raises(InputError, match=r"context of 64 tokens.*the-long-one"):
        actome.record(model, long, tmp_path / "x.zarr")


def test_record__a_model_saved_to_a_folder_gives_the_same_numbers(phantom, recording, tmp_path):
    phantom.module.save_pretrained(tmp_path / "m")
    phantom.tokenizer.save_pretrained(tmp_path / "m")
    ds = actome.record(str(tmp_path / "m"), phantom.paradigm, tmp_path / "f.zarr", dtype="float32")
    np.testing.assert_allclose(ds.activation, recording.activation, atol=1e-6)
    digests = [d.attrs["provenance"]["inputs"]["weights_digest"] for d in (ds, recording)]
    assert digests[0] == digests[1]
    shutil.rmtree(tmp_path / "m")


@pytest.mark.parametrize("array", ["recorded", "mlp/activation", "mlp/summary/mean_abs"])
def test_record__an_interrupted_allocation_is_begun_again(
    model, phantom, recording, tmp_path, monkeypatch, array
):
    path, create = tmp_path / "broken.zarr", zarr.Group.create_array

    def fail(self, name, **kwargs):
        if f"{self.path}/{name}".lstrip("/") == array:
            raise OSError("the disk is full")
        return create(self, name, **kwargs)

    monkeypatch.setattr(zarr.Group, "create_array", fail)
    with pytest.raises(OSError, match="the disk is full"):
        actome.record(model, phantom.paradigm, path, dtype="float32")
    monkeypatch.undo()
    with pytest.raises(InputError, match="has no recorded prompts yet"):
        actome.open(path)
    actome.record(model, phantom.paradigm, path, dtype="float32")
    assert files(path) == files(tmp_path / "r.zarr")


def test_record__values_that_are_not_finite_are_counted_and_told(tmp_path):
    other = phantom_model()
    with torch.no_grad():
        other.module.model.layers[2].mlp.up_proj.weight[3] = torch.nan
    with pytest.warns(UserWarning, match="not finite"):
        ds = actome.record((other.module, other.tokenizer), other.paradigm, tmp_path / "n.zarr")
    n = int(ds.activation.isnull().sum() - ds.activation.isel(neuron=0).isnull().sum() * 64)
    assert RecordingWriter(recorder.Location.of(tmp_path / "n.zarr")).counts()["nonfinite"] == n > 0


def test_record__a_folder_with_other_files_is_refused_and_kept(model, phantom, tmp_path):
    kept = tmp_path / "thesis" / "chapter" / "one.txt"
    kept.parent.mkdir(parents=True)
    kept.write_text("years of work")
    with pytest.raises(InputError, match=r"a folder with other files, such as chapter/one\.txt"):
        actome.record(model, phantom.paradigm, tmp_path / "thesis")
    assert kept.read_text() == "years of work" and len(list((tmp_path / "thesis").rglob("*"))) == 2


def test_record__a_path_that_cannot_be_written_is_refused_before_the_model_is_loaded(phantom, tmp_path):
    (tmp_path / "file").write_text("x")
    for out in ("file", "file/x.zarr"):
        with pytest.raises(InputError, match="file is a file"):
            actome.record("no-such-model", phantom.paradigm, tmp_path / out)


def test_record__a_result_is_no_recording_to_go_on_with(model, phantom, recording, tmp_path):
    out = actome.save_result(recording[["logprob"]].reset_coords(drop=True), tmp_path / "result.zarr")
    with pytest.raises(InputError, match="something else than a recording"):
        actome.record(model, phantom.paradigm, out)


def test_record__the_training_mode_of_a_loaded_module_is_put_back(recording, phantom, tmp_path):
    other = phantom_model()
    other.module.train()
    other.module.model.layers[1].eval()
    modes = [m.training for m in other.module.modules()]
    seen = []
    handle = other.module.register_forward_pre_hook(lambda m, args: seen.append(m.training))
    actome.record((other.module, other.tokenizer), other.paradigm, tmp_path / "t.zarr", dtype="float32")
    handle.remove()
    assert seen and not any(seen)
    assert [m.training for m in other.module.modules()] == modes


def test_record__another_configuration_with_the_same_weights_is_refused(model, phantom, recording, tmp_path):
    other = phantom_model()
    other.module.config.hidden_act = "gelu"
    with pytest.raises(InputError, match=r"recorded differently \(config_digest"):
        actome.record((other.module, other.tokenizer), phantom.paradigm, tmp_path / "r.zarr", dtype="float32")


def test_record__a_bfloat16_module_is_recorded_as_float16(recording, tmp_path):
    other = phantom_model()
    other.module.to(torch.bfloat16)
    ds = actome.record((other.module, other.tokenizer), other.paradigm, tmp_path / "b.zarr")
    assert ds.activation.dtype == np.float16
    np.testing.assert_allclose(ds.activation, recording.activation, rtol=0.02, atol=0.02)
