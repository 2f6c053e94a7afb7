"""What stops a recording from inside, and going on with something else than before."""

import numpy as np
import pytest
import torch
from tokenizers.pre_tokenizers import Whitespace

import actome
from actome.ingest import recorder
from actome.ingest.phantom import phantom_model
from actome.store.errors import InputError
from actome.store.location import Location
from actome.store.writer import RecordingWriter

from .resuming import TINY, assert_finished, assert_sound, whole


def n_hooks(module):
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in module.modules())


@pytest.mark.parametrize(
    ("error", "generated"),
    [
        (KeyboardInterrupt(), False),
        (RuntimeError("CUDA error: device lost"), True),
        pytest.param(KeyboardInterrupt(), True, marks=pytest.mark.slow),
        pytest.param(ValueError("in a hook"), False, marks=pytest.mark.slow),
    ],
)
def test_record__an_error_in_the_model_leaves_no_hook_and_no_half_a_unit(
    loaded, few, tmp_path, monkeypatch, error, generated
):
    options = {**TINY, **({"tokens": "generated", "max_new_tokens": 3} if generated else {})}
    reference = whole(loaded, few, tmp_path / "whole.zarr", **options)
    layer = loaded.module.model.layers[1]
    forward, calls, before = layer.forward, [], n_hooks(loaded.module)

    def fail(*args, **kwargs):
        calls.append(1)
        if len(calls) == (9 if generated else 4):
            raise error
        return forward(*args, **kwargs)

    monkeypatch.setattr(layer, "forward", fail)
    with pytest.raises(type(error)):
        actome.record(loaded, few, tmp_path / "r.zarr", **options)
    assert n_hooks(loaded.module) == before
    assert 0 < assert_sound(tmp_path / "r.zarr", reference) < 4
    actome.record(loaded, few, tmp_path / "r.zarr", **options)
    assert_finished(tmp_path / "r.zarr", reference)


def out_of_memory_above(module, size):
    def refuse(module, args, kwargs):
        if len(kwargs["input_ids"]) > size:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nand much more")

    return module.register_forward_pre_hook(refuse, with_kwargs=True)


def test_record__a_batch_that_does_not_fit_is_halved(loaded, phantom, tmp_path):
    options = {"dtype": "float32", "batch_size": 3}
    reference = actome.record(loaded, phantom.paradigm, tmp_path / "whole.zarr", **options).load()
    handle = out_of_memory_above(loaded.module, 1)
    ds = actome.record(loaded, phantom.paradigm, tmp_path / "r.zarr", **options)
    handle.remove()
    np.testing.assert_allclose(ds.activation, reference.activation, atol=1e-5)
    np.testing.assert_allclose(ds.logprob, reference.logprob, atol=1e-5)
    writer = RecordingWriter(Location.of(tmp_path / "r.zarr"))
    assert writer.counts()["split_batches"] == len(writer.units)
    assert RecordingWriter(Location.of(tmp_path / "whole.zarr")).counts()["split_batches"] == 0


def test_record__a_prompt_that_does_not_fit_alone_is_one_clear_error(loaded, few, tmp_path):
    handle, before = out_of_memory_above(loaded.module, 0), n_hooks(loaded.module)
    message = r"one prompt alone does not fit into the memory of cpu: CUDA out of memory.*2 GiB; shorten it"
    with pytest.raises(InputError, match=message):
        actome.record(loaded, few, tmp_path / "r.zarr", **TINY)
    assert n_hooks(loaded.module) == before
    handle.remove()


@pytest.mark.parametrize("done", [0, 1])
@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ("weights", "weights_digest"),
        ("tokenizer", "tokenizer_digest"),
        ("paradigm", "paradigm_digest"),
        ("setting", "layers|sites"),
        ("special_tokens", "special_tokens"),
        ("dtype", "dtype: 'float32' there, 'float16' now"),
    ],
)
def test_record__going_on_with_something_else_is_refused_by_name(
    loaded, few, phantom, tmp_path, monkeypatch, changed, named, done
):
    path, run_unit, calls = tmp_path / "r.zarr", recorder.run_unit, []

    def stop(*args):
        calls.append(1)
        if len(calls) > done:
            raise KeyboardInterrupt
        return run_unit(*args)

    monkeypatch.setattr(recorder, "run_unit", stop)
    with pytest.raises(KeyboardInterrupt):
        actome.record(loaded, few, path, **TINY)
    monkeypatch.undo()
    before = {p: (p.stat().st_mtime_ns, p.is_file() and p.read_bytes()) for p in path.rglob("*")}

    other, paradigm, options = phantom_model(seed=int(changed == "weights")), few, dict(TINY)
    if changed == "tokenizer":
        other.tokenizer.backend_tokenizer.pre_tokenizer = Whitespace()
    elif changed == "paradigm":
        paradigm = phantom.paradigm.select(run=0).select(condition="b")
    elif changed == "setting":
        options["layers"] = [0, 1]
    elif changed == "special_tokens":
        options["special_tokens"] = "none"
    elif changed == "dtype":
        options["dtype"] = "float16"
    with pytest.raises(InputError, match=rf"recorded differently \(.*({named})"):
        actome.record((other.module, other.tokenizer), paradigm, path, device="cpu", **options)
    after = {p: (p.stat().st_mtime_ns, p.is_file() and p.read_bytes()) for p in path.rglob("*")}
    assert after == before


def test_record__what_another_process_made_meanwhile_is_not_taken_for_this_one(loaded, few, tmp_path):
    settings = recorder.Settings(sites={"mlp": None}, dtype="float32")
    late = recorder.prepare(loaded, few, tmp_path / "r.zarr", settings)
    actome.record(loaded, few, tmp_path / "r.zarr", **TINY)
    with pytest.raises(InputError, match="recorded differently"):
        late.run()
