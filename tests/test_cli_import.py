"""`actome import`: what it prints, one clear line for a wrong input, and the commands of docs/import.md."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from actome.store.archive import open as open_recording

from .store.imports.sources import IDS, check_found, cube, table, token_ids, write_saelens, write_vllm

DOCUMENT = Path(__file__).parents[1] / "docs" / "import.md"
HOOKS = {"3": "blocks.3.hook_resid_post", "7": "blocks.7.hook_resid_post"}


@pytest.fixture
def sources(tmp_path, monkeypatch):
    """One source of each format, under the names that the document uses."""
    monkeypatch.chdir(tmp_path)
    np.save("activations.npy", cube())
    table().to_csv("contexts.csv", index=False)
    table(prompt=IDS).to_csv("requests.csv", index=False)
    for k, hook in enumerate(HOOKS):
        write_saelens(tmp_path / f"cache-{hook}", {HOOKS[hook]: cube(full=True)[:, :, k]}, ids=token_ids())
    write_vllm(tmp_path / "hidden_states", cube(), names=IDS)
    return tmp_path


@pytest.mark.parametrize(
    ("command", "site", "layers"),
    [
        (
            "activations.npy --format numpy --labels contexts.csv --site mlp --layer 4 --layer 2",
            "mlp",
            [4, 2],
        ),
        ("cache-7 cache-3 --format saelens --labels contexts.csv", "residual", [3, 7]),
        ("hidden_states --format vllm --layer-id 8 --layer-id 16 --labels requests.csv", "residual", [7, 15]),
    ],
)
def test_import__makes_a_recording_of_each_format(call, sources, command, site, layers):
    status, out, err = call("import", *shlex.split(command), "-o", "r.zarr")
    assert (status, out, err) == (0, f"r.zarr: 12 prompts, {site}: 2 layers of 6 neurons\n", "")
    assert check_found("r.zarr")["layer"].to_numpy().tolist() == layers
    status, out, err = call("import", *shlex.split(command), "-o", "r.zarr")
    assert status == 2 and "holds a recording already" in err


def test_import__options_reach_the_format(call, sources):
    command = "hidden_states --format vllm --layer-id 1 --layer-id 2 --dtype float32 --site mlp_out -o r.zarr"
    call("import", *shlex.split(command))
    ds = open_recording("r.zarr")
    assert (ds["activation"].dtype, ds.attrs["site"]) == (np.float32, "mlp_out")


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("a.npy --format npz", "--format must be one of ['numpy', 'saelens', 'vllm'], got 'npz'"),
        ("a.npy --format numpy --site mlp", "--format numpy needs --labels"),
        ("activations.npy --format numpy --labels contexts.csv", "--format numpy needs --site"),
        ("hidden_states --format vllm", "--format vllm needs --layer-id"),
        ("hidden_states --format vllm --layer-id 1 --layer 1", "--format vllm has no use for --layer"),
        ("cache-3 --format saelens --layer-id 1", "--format saelens has no use for --layer-id"),
        ("a b --format vllm --layer-id 1", "--format vllm takes one source, got 2"),
        (
            "nowhere.npy --format numpy --labels contexts.csv --site mlp",
            "there is no array file at nowhere.npy",
        ),
        (
            "activations.npy --format numpy --labels no.csv --site mlp",
            "there is no table of labels at no.csv",
        ),
        ("activations.npy --format numpy --labels contexts.csv --site brain", "site must be one of"),
        ("hidden_states --format saelens", "hidden_states is no data set that `datasets` saved"),
        ("cache-3 --format vllm --layer-id 1", "cache-3 holds no .safetensors file"),
    ],
)
def test_import__wrong_input_is_one_line_status_2_and_writes_nothing(call, sources, command, message):
    status, out, err = call("import", *shlex.split(command), "-o", "r.zarr")
    assert (status, out) == (2, "")
    assert message in err and err.startswith("actome: ") and err.count("\n") == 1
    assert not Path("r.zarr").exists()


@pytest.mark.slow
def test_document__examples_run(sources):
    text = DOCUMENT.read_text(encoding="utf-8")
    lines = [
        line for block in re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL) for line in block.splitlines()
    ]
    code = "\n".join(re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL))
    commands = [["-W", "error", "-c", code], *(["-m", *shlex.split(line)] for line in lines)]
    assert len(commands) == 5
    for command in commands:
        out = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
        assert out.returncode == 0, out.stderr
    assert {"array.zarr", "contrast.zarr", "from-python.zarr", "saelens.zarr", "vllm.zarr"} <= {
        p.name for p in sources.iterdir()
    }
