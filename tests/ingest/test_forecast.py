"""The forecast: what a recording will take, said before anything is written."""

import itertools
import shutil
from collections import namedtuple
from types import SimpleNamespace

import pytest
import torch

import actome
from actome.ingest import forecast as forecast_module
from actome.ingest.batches import batches
from actome.ingest.forecast import Probe
from actome.ingest.forward import Sampling
from actome.ingest.phantom import phantom_model
from actome.ingest.plan import Settings
from actome.ingest.recorder import prepare
from actome.ingest.tokens import Selection
from actome.store.archive import open_so_far
from actome.store.errors import InputError
from actome.store.location import Location
from actome.store.writer import RecordingWriter

from .memory import plan_of

Usage = namedtuple("Usage", "total used free")
LINES = """\
prompts    24
tokens     336 to keep
mlp        3 layers x 64 neurons
kept       float32, with moments
on disk    at most 376 kB; free: 123 MB
index      at most 164 kB"""


def settings_of(sites=("mlp",), tokens="prompt", **options):
    return Settings(sites=dict.fromkeys(sites), selection=Selection.of(tokens), **options)


def free(monkeypatch, n_bytes):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**15, 0, n_bytes))


@pytest.mark.parametrize(
    "options",
    [
        {"dtype": "float32"},
        {"dtype": "float16", "sites": ("mlp", "residual"), "layers": (0, 2)},
        {"dtype": "float32", "keep": "summary"},
        {"dtype": "float32", "tokens": "::4", "neurons": tuple(range(40))},
        {"dtype": "float32", "tokens": "generated", "sampling": Sampling(6)},
    ],
)
def test_forecast__says_how_many_bytes_there_will_be(model, phantom, tmp_path, options):
    path = tmp_path / "r.zarr"
    prepared = prepare(model, phantom.paradigm, path, settings_of(**options))
    forecast = prepared.forecast(timed=False)
    prepared.run()
    n_bytes = 0
    for site, (n_layers, n_neurons) in forecast.sites.items():
        summary = actome.open(path, site=site, level="prompt")
        assert (summary.sizes["layer"], summary.sizes["neuron"]) == (n_layers, n_neurons)
        n_bytes += sum(summary[name].nbytes for name in ("mean", "m2", "mean_abs"))
        if forecast.keep == "full":
            cube = actome.open(path, site=site).activation
            n_bytes += int(cube.notnull().sum()) * cube.dtype.itemsize
    n_tokens = int(summary.n_tokens.sum())
    assert (forecast.n_prompts, forecast.n_recorded, forecast.n_tokens) == (24, 0, n_tokens)
    assert 0.95 * forecast.n_bytes <= n_bytes + 21 * n_tokens <= 1.05 * forecast.n_bytes
    files = {p.relative_to(path).as_posix(): p.stat().st_size for p in path.rglob("*") if p.is_file()}
    chunks = sum(n for name, n in files.items() if "/c/" in name and "index" not in name)
    assert chunks <= 1.2 * forecast.n_bytes  # the labels of so small a recording are a part of it
    assert sum(n for name, n in files.items() if "index/" in name and "/c/" in name) <= forecast.index_bytes
    assert set(forecast.sites) == set(options.get("sites", ("mlp",)))


def test_forecast__is_readable(model, phantom, tmp_path, monkeypatch):
    free(monkeypatch, 123_000_000)
    prepared = prepare(model, phantom.paradigm, tmp_path / "r.zarr", settings_of(dtype="float32"))
    assert str(prepared.forecast(timed=False)) == LINES
    timed = prepared.forecast()
    head, _, last = str(timed).rpartition("\n")
    assert head == LINES and last.startswith("time       about ") and last.endswith("of the model alone")
    assert 0 < timed.seconds < 60


def test_forecast__a_summary_is_said_to_be_one(model, phantom, tmp_path):
    settings = settings_of(keep="summary", dtype="float32")
    assert "moments of each prompt alone" in str(
        prepare(model, phantom.paradigm, tmp_path / "r.zarr", settings).forecast(timed=False)
    )


def test_forecast__of_a_recording_that_goes_on_is_of_what_is_left(model, phantom, tmp_path, monkeypatch):
    path, settings = tmp_path / "r.zarr", settings_of(dtype="float32")
    whole = prepare(model, phantom.paradigm, path, settings).forecast(timed=False)
    write = RecordingWriter.write_unit
    monkeypatch.setattr(
        RecordingWriter, "write_unit", lambda self, i, *a, **o: i < 3 and write(self, i, *a, **o)
    )
    prepare(model, phantom.paradigm, path, settings).run()
    monkeypatch.undo()
    prepared = prepare(model, phantom.paradigm, path, settings)
    left = prepared.forecast(timed=False)
    n_done = int(open_so_far(path).n_tokens.sum())
    assert (left.n_recorded, left.n_tokens) == (9, whole.n_tokens - n_done) and not prepared.is_complete
    assert "24, 9 of them recorded already" in str(left)
    assert left.n_bytes < whole.n_bytes
    prepared.run()
    assert prepared.is_complete and prepared.forecast(timed=False).n_bytes == 0


def test_forecast__writes_nothing(model, phantom, tmp_path):
    prepared = prepare(model, phantom.paradigm, tmp_path / "deep" / "r.zarr", settings_of())
    forecast = prepared.forecast()
    assert forecast.dtype == "float16" and forecast.free_bytes > 0 and forecast.fits
    assert list(tmp_path.iterdir()) == []


def test_record__is_refused_where_the_disk_cannot_hold_it(model, phantom, tmp_path, monkeypatch):
    free(monkeypatch, 300_000)
    with pytest.raises(
        InputError, match=r"needs up to 376 kB, and the disk of .*r\.zarr has 300 kB free; choose"
    ):
        actome.record(model, phantom.paradigm, tmp_path / "r.zarr", dtype="float32")
    assert not list(tmp_path.rglob("*.json"))
    ds = actome.record(model, phantom.paradigm, tmp_path / "r.zarr", dtype="float32", keep="summary")
    assert ds.sizes["prompt"] == 24
    free(monkeypatch, 0)
    again = actome.record(model, phantom.paradigm, tmp_path / "r.zarr", dtype="float32", keep="summary")
    assert again.sizes == ds.sizes  # nothing is left to write


def test_record__shows_the_forecast_before_it_begins(model, phantom, tmp_path, capsys, monkeypatch):
    free(monkeypatch, 123_000_000)
    actome.record(model, phantom.paradigm, tmp_path / "r.zarr", dtype="float32", progress=True)
    shown = capsys.readouterr().err
    assert shown.startswith(LINES) and "24/24" in shown
    actome.record(model, phantom.paradigm, tmp_path / "r.zarr", dtype="float32", progress=True)
    assert "prompts" not in capsys.readouterr().err
    actome.record(model, phantom.paradigm, tmp_path / "s.zarr", dtype="float32", progress=False)
    assert capsys.readouterr().err == ""


def test_free_bytes__of_a_place_that_is_not_local_are_unknown():
    assert forecast_module._free_bytes(Location.of("memory://r.zarr")) is None


def scaled(factor):
    other = phantom_model()
    with torch.no_grad():
        other.module.model.layers[1].mlp.up_proj.weight *= factor
    return (other.module, other.tokenizer), other.paradigm


def test_probe__chooses_the_type_that_holds_the_values(model, phantom, tmp_path):
    ds = actome.record(model, phantom.paradigm, tmp_path / "r.zarr", dtype="float32")
    probe = Probe.run(plan_of(model, phantom.paradigm))
    assert 0 < probe.largest <= float(abs(ds.activation).max()) * (1 + 1e-5) and probe.tokens_per_second > 0
    largest = probe.largest
    for ratio, dtype in ((0.2, "float16"), (0.3, "float32"), (3.0, "float32")):
        other, paradigm = scaled(ratio * 65504 / largest)
        assert Probe.run(plan_of(other, paradigm)).dtype == dtype


def test_probe__looks_at_the_longest_prompts_once(model, phantom, monkeypatch):
    seen = []
    handle = phantom.module.model.layers[0].mlp.down_proj.register_forward_pre_hook(
        lambda m, args: seen.append(tuple(args[0].shape[:2]))
    )
    for tokens, steps in (("prompt", 1), ("generated", 3)):
        seen.clear()
        plan = plan_of(model, phantom.paradigm, tokens=tokens)
        Probe.run(plan)
        lengths = plan.prompts.n_tokens
        group = batches(lengths, plan.batch_tokens)[-1]
        assert seen[0][0] == 1 and seen[-1][0] == len(group) and seen[steps][1] == lengths.max()
        assert len(seen) == 2 * steps
    handle.remove()


@pytest.mark.parametrize(
    ("options", "n"),
    [
        ({"tokens": "generated", "sampling": Sampling(1)}, 24),
        ({"tokens": "generated", "sampling": Sampling(6)}, 48),
        ({"tokens": "last"}, 336),
    ],
)
def test_probe__counts_the_tokens_that_are_read_or_generated(model, phantom, monkeypatch, options, n):
    ticks = itertools.count()
    monkeypatch.setattr(forecast_module, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    assert Probe.run(plan_of(model, phantom.paradigm, **options)).tokens_per_second == n
