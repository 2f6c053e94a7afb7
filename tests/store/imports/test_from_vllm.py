import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from actome.store.archive import open as open_recording
from actome.store.errors import InputError, MissingFileError
from actome.store.imports import import_vllm

from .sources import IDS, LENGTHS, as_bfloat16, check_found, cube, table, token_ids, write_vllm


def test_import_vllm__a_planted_difference_is_found_and_values_are_exact(tmp_path):
    folder = write_vllm(tmp_path / "v", cube(), names=IDS)
    labels = table(prompt=IDS).iloc[::-1]
    ds = check_found(import_vllm(folder, tmp_path / "r.zarr", layer_ids=[3, 18], labels=labels))
    assert ds["prompt"].to_numpy().tolist() == IDS[::-1]
    assert ds["activation"].dtype == np.float16
    np.testing.assert_array_equal(ds["activation"].to_numpy(), as_bfloat16(cube())[::-1])
    valid = np.arange(4) < np.array(LENGTHS)[:, None]
    np.testing.assert_array_equal(ds["token_id"].to_numpy(), np.where(valid, token_ids(), -1)[::-1])
    assert ds["layer"].to_numpy().tolist() == [2, 17]
    assert ds.attrs["site"] == "residual"


def test_import_vllm__without_labels_prompts_come_by_their_number(tmp_path):
    ds = open_recording(
        import_vllm(write_vllm(tmp_path / "v", cube()), tmp_path / "r.zarr", layer_ids=[1, 2])
    )
    assert ds["prompt"].to_numpy().tolist() == [str(i) for i in range(12)]
    np.testing.assert_array_equal(ds["activation"].to_numpy(), as_bfloat16(cube()))
    assert "condition" not in ds.variables


def test_import_vllm__the_embedding_is_left_out(tmp_path):
    ds = open_recording(
        import_vllm(write_vllm(tmp_path / "v", cube()), tmp_path / "r.zarr", layer_ids=[0, 4])
    )
    assert ds["layer"].to_numpy().tolist() == [3]
    np.testing.assert_array_equal(ds["activation"].to_numpy()[:, :, 0], as_bfloat16(cube())[:, :, 1])


@pytest.mark.parametrize(
    ("dtype", "scale", "asked", "stored"),
    [
        (torch.bfloat16, 1, None, "float16"),
        (torch.bfloat16, 1e5, None, "float32"),
        (torch.bfloat16, 1, "float32", "float32"),
        (torch.float16, 1, None, "float16"),
        (torch.float32, 1, None, "float32"),
    ],
)
def test_import_vllm__every_type_comes_back_exactly(tmp_path, dtype, scale, asked, stored):
    values = cube(scale=scale)
    path = import_vllm(
        write_vllm(tmp_path / "v", values, dtype=dtype), tmp_path / "r.zarr", layer_ids=[1, 2], dtype=asked
    )
    back = open_recording(path)["activation"]
    assert back.dtype == stored
    np.testing.assert_array_equal(back.to_numpy(), torch.from_numpy(values).to(dtype).float().numpy())


def test_import_vllm__bfloat16_at_the_limit_of_float16(tmp_path):
    values = cube(full=True)
    values[0, 0, 0] = 65280, -65280, np.inf, -np.inf, np.nan, 2.0**-17
    with pytest.warns(UserWarning, match="3 activations of .* are not finite, as in the source"):
        path = import_vllm(write_vllm(tmp_path / "v", values), tmp_path / "r.zarr", layer_ids=[1, 2])
    back = open_recording(path)["activation"]
    assert back.dtype == np.float16
    np.testing.assert_array_equal(back.to_numpy()[0, 0, 0], values[0, 0, 0])


def test_import_vllm__names_its_source(tmp_path):
    path = import_vllm(
        write_vllm(tmp_path / "v", cube()), tmp_path / "r.zarr", layer_ids=[1, 2], site="mlp_out"
    )
    ds = open_recording(path)
    assert ds.attrs["site"] == "mlp_out"
    assert ds.attrs["provenance"]["source"] == {"name": "v", "dtype": "BF16", "metadata": {}}
    assert ds.attrs["provenance"]["inputs"]["layer_ids"] == [1, 2]
    assert len(json.loads((tmp_path / "r.zarr/actome/sources.json").read_text())) == 12


def _rewrite(change):
    """Change the tensors of one request."""

    def inner(folder):
        tensors = {
            "hidden_states": torch.zeros(3, 2, 6, dtype=torch.bfloat16),
            "token_ids": torch.zeros(3, dtype=torch.int64),
        }
        save_file(change(tensors), folder / "7.safetensors")

    return inner


def _cut(n):
    return lambda f: (f / "7.safetensors").write_bytes((f / "7.safetensors").read_bytes()[:n])


def _write(content):
    return lambda f: (f / "7.safetensors").write_bytes(content)


def _header(text):
    return _write(len(text).to_bytes(8, "little") + text.encode())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            _rewrite(lambda t: {"hidden_states": t["hidden_states"]}),
            r"7\.safetensors has no tensor 'token_ids'",
        ),
        (
            _rewrite(lambda t: t | {"hidden_states": t["hidden_states"][:, :1].clone()}),
            "holds 1 layers, layer_ids",
        ),
        (
            _rewrite(lambda t: t | {"hidden_states": t["hidden_states"][..., :5].clone()}),
            "has 5 neurons, .* 6",
        ),
        (
            _rewrite(lambda t: t | {"hidden_states": t["hidden_states"][:2].clone()}),
            r"must be \(token, layer, neur",
        ),
        (
            _rewrite(lambda t: t | {"hidden_states": t["hidden_states"].half()}),
            "the same in all files, got F16",
        ),
        (
            _rewrite(lambda t: t | {"token_ids": t["token_ids"].float()}),
            "token_ids must be I32 or I64, got F32",
        ),
        (
            _rewrite(lambda t: t | {"token_ids": t["token_ids"] - 5}),
            "token_ids must be numbers of tokens, got -5",
        ),
        (
            _rewrite(lambda t: {k: v[:0].clone() for k, v in t.items()}),
            "holds no tokens, as of a prompt given as",
        ),
        (
            _rewrite(lambda t: t | {"hidden_states": t["hidden_states"] * float("nan")}),
            "prompt '7', site 'residual': token 0 of 3 is NaN in every neuron",
        ),
        (_cut(-1), r"7\.safetensors is cut off: .* ends at byte"),
        (_cut(60), r"7\.safetensors is cut off or no safetensors file"),
        (_cut(5), "is cut off or no safetensors file: its 5 bytes hold no header"),
        (_write(b"\xff" * 100), "is cut off or no safetensors file"),
        (_header("{]"), "is no safetensors file: its header is not JSON"),
        (_header("[]"), "is no safetensors file: its header is no mapping"),
        (
            _header('{"a": {"dtype": "F32", "shape": [1]}}'),
            "is no safetensors file: a.data_offsets: field required",
        ),
        (
            _header('{"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 0]}}'),
            "no safetensors file: a.shape",
        ),
        (
            _header('{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 0]}}'),
            r"is damaged: the 0 bytes of 'a' are not those of \[2\]",
        ),
    ],
)
def test_import_vllm__damaged_files_write_nothing(tmp_path, change, message):
    folder = write_vllm(tmp_path / "v", cube())
    change(folder)
    with pytest.raises(InputError, match=message):
        import_vllm(folder, tmp_path / "r.zarr", layer_ids=[1, 2])
    assert not (tmp_path / "r.zarr").exists()


def test_import_vllm__a_type_that_is_not_read(tmp_path):
    (tmp_path / "v").mkdir()
    states = torch.zeros(3, 2, 6).to(torch.float8_e4m3fn)
    save_file({"hidden_states": states, "token_ids": torch.zeros(3).long()}, tmp_path / "v/a.safetensors")
    with pytest.raises(InputError, match=r"hidden_states must be F16, F32, F64 or BF16 .*got F8_E4M3"):
        import_vllm(tmp_path / "v", tmp_path / "r.zarr", layer_ids=[1, 2])


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"layer_ids": [2, 1]}, r"in rising order, the order of the layers in the files; got \[2, 1\]"),
        ({"layer_ids": []}, "layer_ids must be the eagle_aux_hidden_state_layer_ids of the run"),
        ({"layer_ids": [0]}, "layer_ids has only id 0, the embedding"),
        ({"layer_ids": [1, 2, 3]}, "holds 2 layers, layer_ids names 3; give those of the run"),
        ({"labels": table()}, r"labels need a column 'prompt' \(or 'id'\) with the file's name"),
        ({"labels": table(id=[f"r{i}" for i in range(12)])}, r"12 prompts, such as \['r0', .* have no file"),
        ({"labels": table(id=[str(i) for i in range(12)])[:11]}, r"1 prompts, such as \['11'\], have no row"),
        (
            {"labels": table(id=[str(i) for i in range(12)], n_tokens=1)},
            "column 'n_tokens', which the files give",
        ),
    ],
)
def test_import_vllm__bad_input(tmp_path, kwargs, message):
    folder = write_vllm(tmp_path / "v", cube())
    with pytest.raises(InputError, match=message):
        import_vllm(folder, tmp_path / "r.zarr", **{"layer_ids": [1, 2], **kwargs})
    assert not (tmp_path / "r.zarr").exists()


def test_import_vllm__no_folder_or_an_empty_one(tmp_path):
    with pytest.raises(MissingFileError, match="there is no folder of safetensors files at"):
        import_vllm(tmp_path / "none", tmp_path / "r.zarr", layer_ids=[1])
    with pytest.raises(MissingFileError, match=r"holds no \.safetensors file; vLLM writes one a request"):
        import_vllm(tmp_path, tmp_path / "r.zarr", layer_ids=[1])
