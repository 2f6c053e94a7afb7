"""What is kept: moments alone, other sites, generated tokens; and no value that float16 cannot hold."""

import json
import warnings

import numpy as np
import pytest
import torch
import xarray as xr

import actome
from actome import Paradigm
from actome.ingest.phantom import phantom_model
from actome.store.errors import InputError, InputTypeError
from actome.store.location import Location
from actome.store.moments import masked_moments
from actome.store.writer import RecordingWriter

SITES = ("mlp", "residual")
MOMENTS = ("mean", "m2", "mean_abs")


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """The same recorded with its cube and as moments alone: model, two paths."""
    torch.set_num_threads(1)
    phantom, folder = phantom_model(), tmp_path_factory.mktemp("keep")
    model = (phantom.module, phantom.tokenizer)
    for keep in ("full", "summary"):
        actome.record(
            model, phantom.paradigm, folder / f"{keep}.zarr", sites=SITES, keep=keep, dtype="float32"
        )
    return model, phantom.paradigm, folder / "full.zarr", folder / "summary.zarr"


@pytest.mark.parametrize("site", SITES)
def test_record__moments_alone_are_those_of_the_cube(recordings, site):
    _, _, full, summary = recordings
    cube = actome.open(full, site=site).activation.to_numpy()
    alone = actome.open(summary, site=site)
    beside = actome.open(full, site=site, level="prompt")
    expected = masked_moments(cube, ~np.isnan(cube[:, :, 0, 0]))
    scale = np.nanmax(abs(cube), axis=(1, 2, 3))[:, None, None]
    for ds in (alone, beside):
        assert ds["count"].to_numpy().tolist() == expected["count"].tolist()
        for name, power in (("mean", 1), ("m2", 2), ("mean_abs", 1)):
            assert (abs(ds[name].to_numpy() - expected[name]) <= 1e-6 * scale**power).all()
    xr.testing.assert_identical(*(ds.coords.to_dataset().drop_attrs() for ds in (alone, beside)))


def test_record__moments_alone_are_a_sound_recording_without_a_cube(recordings):
    _, _, full, summary = recordings
    assert actome.validate(summary) == actome.verify(summary) == []
    assert not (summary / "mlp" / "activation").exists() and (full / "mlp" / "activation").exists()
    ds = actome.open(summary, site="mlp")
    assert set(MOMENTS) <= set(ds.data_vars) and "activation" not in ds
    assert {"text", "condition", "run", "n_tokens"} <= set(ds.coords)
    assert ds["hook_name"].to_numpy().tolist() == [f"model.layers.{i}.mlp.down_proj" for i in range(3)]
    assert ds.attrs["provenance"]["inputs"]["keep"] == "summary"
    with pytest.raises(
        InputError, match=r"holds the moments of each prompt, not the cube; open it with level='p"
    ):
        actome.open(summary, site="mlp", level="token")


def test_record__every_analysis_of_prompts_runs_on_moments_alone(recordings, tmp_path):
    model, paradigm, full, summary = recordings
    both = [actome.open(summary, site="mlp"), actome.open(full, site="mlp", level="prompt")]

    def alike(analysis):
        a, b = (analysis(ds, i) for i, ds in enumerate(both))
        xr.testing.assert_allclose(a.compute(), b.compute(), rtol=1e-4)
        return a

    for options in ({}, {"noise": "cr2"}, {"noise": "ols"}, {"unit": "prompt"}, {"measure": "signed"}):
        alike(lambda ds, _, o=options: actome.fit_glm(ds, **o).drop_attrs())
    stat = alike(lambda ds, _: actome.compute_contrast(actome.fit_glm(ds), "a - b"))
    alike(lambda ds, _: actome.identify(ds))
    mask = actome.threshold(stat, control=actome.Top(0.05))
    masks = mask.expand_dims(network=["a"]).assign_attrs(selected_on=[])
    scores = alike(
        lambda ds, i: actome.score(
            model, paradigm, tmp_path / f"{i}.zarr", masks, kind="mean", reference=ds, controls=2
        )
    )
    assert actome.lesion_effects(scores, n_bootstrap=20).sizes
    with pytest.raises(InputError, match="group_ica needs the activations of tokens"):
        actome.group_ica(both[0], n_components=2)


def test_record__moments_alone_of_chosen_and_generated_tokens(recordings, tmp_path):
    model, paradigm, _, _ = recordings
    paradigm = paradigm.select(run=0)
    for i, options in enumerate(
        ({"tokens": "::4"}, {"tokens": "last"}, {"tokens": "generated", "max_new_tokens": 5})
    ):
        ds = {
            keep: actome.record(
                model,
                paradigm,
                tmp_path / f"{keep}{i}.zarr",
                keep=keep,
                dtype="float32",
                neurons=[9, 4],
                **options,
            )
            for keep in ("full", "summary")
        }
        cube = ds["full"].activation.to_numpy()
        expected = masked_moments(cube, ~np.isnan(cube[:, :, 0, 0]))
        assert ds["summary"]["neuron"].to_numpy().tolist() == [9, 4]
        for name in MOMENTS:
            np.testing.assert_allclose(ds["summary"][name], expected[name], rtol=1e-5, atol=1e-6)


def test_record__generated_tokens_are_a_sound_recording(recordings, phantom, tmp_path):
    model, paradigm, _, _ = recordings
    path = tmp_path / "g.zarr"
    options = {"tokens": "generated", "max_new_tokens": 4, "temperature": 1.0, "top_p": 0.9, "seed": 3}
    ds = actome.record(model, paradigm, path, **options)
    assert actome.validate(path) == actome.verify(path) == []
    assert ds.sizes["token"] == 4 and bool(ds.generated.all()) and (ds.n_tokens == 4).all()
    read = [len(text.split()) for text in ds["text"].to_numpy()]
    assert ds["position"][:, 0].values.tolist() == read
    assert bool((ds["char_start"] == -1).all()) and np.isfinite(ds["logprob"]).all()
    completions = [
        " ".join(phantom.tokenizer.convert_ids_to_tokens(row)) for row in ds["token_id"].to_numpy()
    ]
    assert ds["completion"].to_numpy().tolist() == completions
    inputs = ds.attrs["provenance"]["inputs"]
    assert inputs["sampling"] == {"max_new_tokens": 4, "temperature": 1.0, "top_p": 0.9, "seed": 3}
    assert (inputs["padding_side"], inputs["end_tokens"]) == ("left", [])
    again = actome.record(model, paradigm, tmp_path / "h.zarr", batch_size=2, **options)
    np.testing.assert_array_equal(again["token_id"], ds["token_id"])
    with pytest.raises(InputError, match=r"differently \(sampling\['temperature'\]: "):
        actome.record(model, paradigm, path, **(options | {"temperature": 0.5}))


def test_record__generation_beyond_the_context_or_of_an_encoder_is_refused(model, tmp_path):
    from .architectures import ARCHITECTURES, tokenizer

    near = Paradigm([{"text": "a1 " * 60, "prompt": "the-long-one"}])
    with pytest.raises(
        InputError, match=r"1 prompts with 5 new tokens are longer .* of 64 tokens.*the-long-one"
    ):
        actome.record(model, near, tmp_path / "x.zarr", tokens="generated", max_new_tokens=5)
    ds = actome.record(model, near, tmp_path / "y.zarr", tokens="generated", max_new_tokens=4)
    assert ds["position"].to_numpy().tolist() == [[60, 61, 62, 63]]
    bert = next(a for a in ARCHITECTURES if a.name == "bert").build()
    with pytest.raises(InputError, match="gives no next token, so it cannot generate; use tokens='prompt'"):
        actome.record((bert, tokenizer()), near, tmp_path / "x.zarr", tokens="generated")
    assert not (tmp_path / "x.zarr").exists()


def test_record__sites_can_be_modules_named_by_hand(recordings, tmp_path):
    model, paradigm, full, _ = recordings
    sites = {
        "mlp_out": "model.layers.{}.mlp",
        "residual": None,
        "mlp": [f"model.layers.{i}.mlp.up_proj" for i in range(3)],
    }
    path = tmp_path / "h.zarr"
    ds = actome.record(
        model, paradigm, path, sites=sites, layers=np.array([2, 1], dtype=np.int32), neurons=range(3, 9, 2),
        dtype="float32", batch_size=np.int64(5), seed=np.int64(0), logprob=False,
    )  # fmt: skip
    assert ds.attrs["site"] == "mlp_out" and "logprob" not in ds
    assert ds["hook_name"].to_numpy().tolist() == ["model.layers.2.mlp", "model.layers.1.mlp"]
    residual = actome.open(path, site="residual")
    expected = actome.open(full, site="residual").sel(layer=[2, 1], neuron=[3, 5, 7])
    np.testing.assert_allclose(residual.activation, expected.activation, atol=1e-5)
    assert actome.open(path, site="mlp")["hook_name"][0] == "model.layers.2.mlp.up_proj"
    assert residual.attrs["provenance"]["inputs"]["batch_size"] == 5
    before = actome.open(full, site="residual").sel(layer=[1, 0], neuron=[3, 5, 7]).activation
    added = actome.open(path, site="mlp_out").activation  # the phantom's attention gives nothing
    np.testing.assert_allclose(residual.activation - added, before, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"layers": 1}, InputTypeError, "layers must be a sequence of whole numbers, got 1"),
        ({"layers": [0.5]}, InputTypeError, r"layers must be a sequence of whole numbers, got \[0.5\]"),
        ({"layers": []}, InputTypeError, r"layers must be a sequence of whole numbers, got \[\]"),
        ({"neurons": "ab"}, InputTypeError, "neurons must be a sequence of whole numbers, got 'ab'"),
        ({"neurons": [-1]}, InputError, "neurons must be some of 0 to 63 at site 'mlp'"),
        ({"tokens": 3}, InputTypeError, "tokens must be a text such as 'prompt' or '1:', got 3"),
        ({"tokens": "all"}, InputError, "tokens must be 'prompt', 'generated', 'last', or a slice"),
        ({"tokens": "30:"}, InputError, "24 prompts have no token in '30:', the first is 'a-0000'"),
        ({"part": (2, 2)}, InputError, r"part must be \(k, n\) with k from 0 to n - 1, got \(2, 2\)"),
        ({"part": 3}, InputTypeError, r"part must be two whole numbers \(k, n\), got 3"),
        ({"part": (0, 2, 3)}, InputTypeError, r"part must be two whole numbers \(k, n\), got \(0, 2, 3\)"),
        ({"keep": "half"}, InputError, "keep must be 'full' or 'summary', got 'half'"),
        ({"batch_size": "3"}, InputTypeError, "batch_size must be a whole number, got '3'"),
        ({"seed": -1}, InputError, "seed must be at least 0, got -1"),
        ({"truncate": 1.5}, InputTypeError, "truncate must be a whole number, got 1.5"),
        ({"temperature": "hot"}, InputTypeError, "temperature must be a number, got 'hot'"),
        ({"special_tokens": "eos"}, InputError, "special_tokens must be 'tokenizer', 'bos' or 'none'"),
        ({"special_tokens": "bos"}, InputError, "has no begin-of-sequence token"),
        ({"chat": True}, InputError, "has no chat template; leave chat out"),
        ({"sites": {"mlp": "model.layers.{}.mlp.down"}}, InputError, "no module is named .*did you mean"),
        ({"sites": {"mlp": []}}, InputError, "modules of site 'mlp' must be a pattern or names"),
    ],
)
def test_record__what_cannot_be_is_refused_and_nothing_written(
    model, phantom, tmp_path, options, error, message
):
    with pytest.raises(error, match=message):
        actome.record(model, phantom.paradigm, tmp_path / "x.zarr", **options)
    assert list(tmp_path.iterdir()) == []


def planted(value):
    """A model in which one neuron has a value at one word, which only the last, short prompt holds."""
    phantom = phantom_model()
    token = phantom.tokenizer.convert_tokens_to_ids("b3")
    mlp = phantom.module.model.layers[0].mlp  # sees the word alone
    x = one_input(phantom, mlp, token)
    with torch.no_grad():
        for projection in (mlp.gate_proj, mlp.up_proj):
            projection.weight[7] = 0.0
        mlp.gate_proj.weight[7, token] = 30.0 / float(x[token])  # silu(30) = 30
        mlp.up_proj.weight[7, token] = value / 30.0 / float(x[token])
        mlp.down_proj.weight[:, 7] = 0.0
    texts = [f"a{i % 12} a{(i + 1) % 12} a{(i + 2) % 12}" for i in range(15)] + ["b3"]
    return (phantom.module, phantom.tokenizer), Paradigm([{"text": t, "condition": t[0]} for t in texts])


def one_input(phantom, mlp, token):
    seen = []
    handle = mlp.register_forward_pre_hook(lambda m, args: seen.append(args[0][0, 0]))
    with torch.no_grad():
        phantom.module(torch.tensor([[token]]))
    handle.remove()
    return seen[0]


def counts_of(path):
    return RecordingWriter(Location.of(path)).counts()


@pytest.mark.parametrize("value", [70000.0, -3e9])
def test_record__a_value_beyond_float16_in_the_last_unit_begins_it_again_in_float32(tmp_path, value):
    model, paradigm = planted(value)
    path = tmp_path / "r.zarr"
    with pytest.warns(UserWarning, match=r"larger than float16 holds: .*r\.zarr is begun again in float32"):
        ds = actome.record(model, paradigm, path, batch_size=4)
    assert ds.activation.dtype == np.float32
    assert float(ds.activation[-1, 0, 0, 7]) == pytest.approx(value, rel=1e-5)
    assert not np.isinf(ds.activation).any()
    assert {name: counts_of(path)[name] for name in ("clipped", "nonfinite")} == {
        "clipped": 0,
        "nonfinite": 0,
    }
    assert actome.validate(path) == actome.verify(path) == []
    assert ds.attrs["provenance"]["storage_dtype"] == "float32"
    assert float(actome.open(path, level="prompt")["mean"][-1, 0, 7]) == pytest.approx(value, rel=1e-5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = actome.record(model, paradigm, path, batch_size=4)
    xr.testing.assert_identical(again.compute(), ds.compute())


@pytest.mark.parametrize(("value", "kept"), [(70000.0, 65504.0), (-3e9, -65504.0)])
def test_record__float16_that_was_asked_for_clips_counts_and_warns(tmp_path, value, kept):
    model, paradigm = planted(value)
    with pytest.warns(
        UserWarning, match=r"1 activations of .* kept as 65504, the largest; record with dtype='fl"
    ):
        ds = actome.record(model, paradigm, tmp_path / "r.zarr", dtype="float16")
    assert ds.activation.dtype == np.float16 and float(ds.activation[-1, 0, 0, 7]) == kept
    assert not np.isinf(ds.activation).any() and counts_of(tmp_path / "r.zarr")["clipped"] == 1
    summary = actome.open(tmp_path / "r.zarr", level="prompt")
    assert float(summary["mean"][-1, 0, 7]) == kept and np.isfinite(summary["m2"]).all()


def test_record__with_parts_a_value_beyond_float16_says_what_to_do(tmp_path):
    model, paradigm = planted(70000.0)
    with pytest.raises(
        InputError, match=r"larger than float16 holds; remove .*r\.zarr and record again with dtype"
    ):
        actome.record(model, paradigm, tmp_path / "r.zarr", batch_size=4, part=(0, 1))


def test_record__float16_holds_its_largest_value(tmp_path):
    model, paradigm = planted(65500.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ds = actome.record(model, paradigm, tmp_path / "r.zarr", batch_size=4)
    assert ds.activation.dtype == np.float16 and float(ds.activation[-1, 0, 0, 7]) == 65504


@pytest.mark.parametrize("keep", ["full", "summary"])
@pytest.mark.parametrize("dtype", [None, "float32"])
def test_record__what_is_infinite_in_the_model_is_counted_and_told(tmp_path, keep, dtype):
    model, paradigm = planted(9e39)
    path = tmp_path / "r.zarr"
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        ds = actome.record(model, paradigm, path, keep=keep, dtype=dtype, batch_size=4)
    messages = [str(w.message) for w in told]
    n = counts_of(path)["nonfinite"]
    assert n > 0 and any(m.startswith(f"{n} activations of") and "not finite" in m for m in messages)
    assert any("begun again in float32" in m for m in messages) == (keep == "full" and dtype is None)
    assert all(issubclass(w.category, UserWarning) for w in told), messages
    if keep == "full":
        assert n == int((~np.isfinite(ds.activation[-1, 0])).sum())
        assert np.isfinite(ds.activation[:-1, :3]).all()
    assert json.loads((path / "actome/units/000007.json").read_text())["counts"]["nonfinite"] == n
