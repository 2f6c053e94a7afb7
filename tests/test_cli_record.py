"""The command `record`: what it says before it starts, and how its options reach the recording."""

import json
import sys

import pytest

from actome import cli
from actome.ingest import recorder
from actome.ingest.phantom import phantom_model
from actome.store.archive import open as open_recording


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model and a paradigm on disk."""
    phantom, path = phantom_model(), tmp_path_factory.mktemp("model")
    phantom.module.save_pretrained(path / "m")
    phantom.tokenizer.save_pretrained(path / "m")
    phantom.paradigm.table[["text", "condition", "run"]].to_csv(path / "p.csv", index=False)
    (path / "p.yaml").write_text("name: phantom\nprompts: {file: p.csv}\n")
    return path


@pytest.fixture
def record(monkeypatch, capsys, folder, tmp_path):
    """Run `actome record` on them in this process: exit status, standard output, standard error."""

    def inner(*args):
        line = ["actome", "record", folder / "m", folder / "p.yaml", "-o", tmp_path / "r.zarr", *args]
        monkeypatch.setattr(sys, "argv", list(map(str, line)))
        with pytest.raises(SystemExit) as stop:
            cli.main()
        return stop.value.code or 0, *capsys.readouterr()

    return inner


def test_record__says_before_what_it_will_take(record, tmp_path):
    status, out, _ = record("--dry-run")
    assert status == 0 and not (tmp_path / "r.zarr").exists()
    assert [line.split()[0] for line in out.splitlines()] == [
        "prompts",
        "tokens",
        "mlp",
        "kept",
        "on",
        "index",
        "time",
    ]
    assert "24" in out and "3 layers x 64 neurons" in out and "free:" in out
    status, again, _ = record()
    assert status == 0 and again.splitlines()[:3] == out.splitlines()[:3]
    assert again.splitlines()[-1].endswith("24 prompts, 3 layers of 64 neurons")
    status, third, _ = record()
    assert (status, len(third.splitlines())) == (0, 1)  # complete: nothing to forecast


def test_record__options_reach_the_recording(record, tmp_path):
    status, *_ = record(
        "--site", "mlp=model.layers.{}.mlp.down_proj", "--site", "residual", "--layer", "1:3",
        "--neuron", "5", "--neuron", "7:9", "--tokens", "1:", "--no-logprob",
        "--dtype", "float32", "--truncate", "6",
    )  # fmt: skip
    assert status == 0
    ds = open_recording(tmp_path / "r.zarr", site="mlp")
    assert ds.layer.values.tolist() == [1, 2] and ds.neuron.values.tolist() == [5, 7, 8]
    assert ds.sizes["token"] == 5 and ds.position.values[0].tolist() == [1, 2, 3, 4, 5]
    assert "logprob" not in ds and ds.activation.dtype == "float32"
    inputs = ds.attrs["provenance"]["inputs"]
    assert (inputs["truncate"], inputs["tokens"], inputs["special_tokens"]) == (6, "1:", "tokenizer")


def test_record__generates(record, tmp_path):
    status, *_ = record(
        "--tokens", "generated", "--max-new-tokens", "3", "--temperature", "0.7", "--keep", "summary"
    )
    ds = open_recording(tmp_path / "r.zarr")
    assert status == 0 and ds.sizes["prompt"] == 24 and set(ds["count"].values) == {3}
    assert all(text.split() for text in ds.completion.values)


def test_record__parts_make_one_recording(record, tmp_path, monkeypatch):
    assert record("--part", "0/2")[0] == 0  # without a warning of what the others record
    with pytest.warns(UserWarning, match="only 12 of 24 prompts of r are recorded"):
        assert open_recording(tmp_path / "r.zarr").sizes["prompt"] == 12
    for name, value in {
        "TORCHELASTIC_RUN_ID": "x",
        "RANK": "1",
        "WORLD_SIZE": "2",
        "LOCAL_RANK": "1",
    }.items():
        monkeypatch.setenv(name, value)
    assert record()[0] == 0
    ds = open_recording(tmp_path / "r.zarr")
    assert ds.sizes["prompt"] == 24 and "manifest_digest" in ds.attrs


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--layer", "x"), "--layer must be a number or a range such as 4:8, got 'x'"),
        (("--layer", "3"), "layers must be some of 0 to 2, each once, got [3]"),
        (("--neuron", "2:"), "--neuron must be a number or a range"),
        (("--part", "2"), "--part must be K/N, such as 0/4, got '2'"),
        (("--part", "2/2"), "part must be (k, n) with k from 0 to n - 1"),
        (("--tokens", "first"), "tokens must be 'prompt', 'generated', 'last', or a slice"),
        (("--keep", "some"), "keep must be 'full' or 'summary'"),
        (("--site", "mlp=model.layers.{}.mlp.down"), "down_proj"),
        (("--chat",), "has no chat template"),
        (("--special-tokens", "all"), "special_tokens must be 'tokenizer', 'bos' or 'none'"),
        (("--special-tokens", "bos"), "has no begin-of-sequence token"),
        (("--temperature", "-1"), "temperature must be 0 or more"),
        (("--device", "cuda:99"), "cannot be used here"),
    ],
)
def test_record__a_wrong_option_is_one_line_and_writes_nothing(record, tmp_path, args, message):
    status, out, err = record(*args)
    assert (status, out) == (2, "")
    assert message in err and err.count("\n") == 1
    assert not (tmp_path / "r.zarr").exists()


def test_record__after_ctrl_c_it_says_how_to_go_on(record, tmp_path, monkeypatch):
    run_unit, units = recorder.run_unit, []

    def interrupted(*args):
        units.append(1)
        if len(units) == 3:
            raise KeyboardInterrupt
        return run_unit(*args)

    monkeypatch.setattr(recorder, "run_unit", interrupted)
    status, _, err = record()
    assert status == 130 and err == "actome: stopped; the same command goes on from here\n"
    with pytest.warns(UserWarning, match="only 6 of 24 prompts of r are recorded; give the same"):
        assert open_recording(tmp_path / "r.zarr").sizes["prompt"] == 6
    monkeypatch.setattr(recorder, "run_unit", run_unit)
    status, out, _ = record()
    assert status == 0 and "6 of them recorded already" in out
    content = json.loads((tmp_path / "r.zarr/zarr.json").read_text())
    assert content["attributes"]["manifest_digest"]
