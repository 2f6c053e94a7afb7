"""Computing recordings again: what holds, what does not, and which reason is named."""

import json

import numpy as np
import pytest
import torch
import zarr
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerFast

import actome
from actome import Paradigm
from actome.ingest import recompute as recompute_module
from actome.ingest.models import load_model
from actome.ingest.recompute import recompute
from actome.ingest.recorded import Recorded
from actome.store.errors import DamagedError, InputError, InputTypeError, MissingFileError

from .architectures import ARCHITECTURES, VOCABULARY, text_of, tokenizer

LLAMA = next(a for a in ARCHITECTURES if a.name == "llama")
SITES = ("mlp", "mlp_out", "attention_out", "residual")
DRAWN = {"tokens": "generated", "max_new_tokens": 6, "temperature": 1.0, "top_p": 0.9, "seed": 3}


@pytest.fixture
def llama():
    return LLAMA.build(), tokenizer()


@pytest.fixture(scope="module")
def paradigm():
    rng = np.random.default_rng(0)
    texts = [text_of(rng.integers(3, VOCABULARY, n).tolist()) for n in rng.integers(3, 12, 17)]
    return Paradigm([{"text": t, "condition": "ab"[i % 2], "level": i / 2} for i, t in enumerate(texts)])


@pytest.fixture
def path(llama, paradigm, tmp_path):
    actome.record(llama, paradigm, tmp_path / "r.zarr", dtype="float32")
    return tmp_path / "r.zarr"


def found(result):
    return {(a.site, a.variable): a for a in result.agreements}


def moved(llama, amount=0.5):
    """The same model with one parameter, of the second block's MLP, changed."""
    module = LLAMA.build()
    with torch.no_grad():
        module.model.layers[1].mlp.up_proj.weight[4, 7] += amount
    return module, llama[1]


OPTIONS = [
    {"sites": SITES, "dtype": "float32"},
    {"sites": {"residual": "model.layers.{}", "mlp_out": None}, "layers": [2, 1], "neurons": [5, 3]},
    {"keep": "summary", "sites": ("mlp", "residual"), "neurons": [9, 4]},
    {"tokens": "1::3", "logprob": False},
    {"truncate": 4, "special_tokens": "none", "dtype": "float16"},
    {**DRAWN, "batch_size": 2},
]
MORE = [
    {"sites": SITES, "layers": [2, 0], "neurons": [5, 3]},
    {"sites": {"mlp": ["model.layers.0.mlp.down_proj", "model.layers.1.mlp.down_proj"]}, "layers": [1]},
    {"tokens": "last", "batch_size": 1},
    {"tokens": "generated", "max_new_tokens": 5},
    {**DRAWN, "keep": "summary", "sites": ("attention_out",)},
]


@pytest.mark.parametrize(
    "options", [*OPTIONS, *(pytest.param(more, marks=pytest.mark.slow) for more in MORE)], ids=str
)
def test_recompute__numbers_of_the_same_model_hold(llama, paradigm, tmp_path, options):
    ds = actome.record(llama, paradigm, tmp_path / "r.zarr", **options)
    result = recompute(tmp_path / "r.zarr", model=llama, n_prompts=9, seed=1)
    assert result.holds and (result.cause, result.changes, result.other_tokens) == ("", {}, {})
    assert len(set(result.prompts)) == 9 and set(result.prompts) <= set(ds["prompt"].to_numpy())
    n_tokens = int(ds["n_tokens"].sel(prompt=list(result.prompts)).sum())
    places = ds.sizes["layer"] * ds.sizes["neuron"]
    agreements = found(result)
    most = 0.2 if options.get("dtype") == "float32" else 1  # beside the rounding of the store
    assert all(a.n_beyond == 0 < a.n_values and a.excess < most for a in result.agreements)
    assert ("", "logprob") not in agreements or agreements["", "logprob"].n_values == n_tokens
    assert (("", "logprob") in agreements) == options.get("logprob", True)
    for site in options.get("sites", ("mlp",)):
        assert agreements[site, "mean"].n_values == agreements[site, "deviation"].n_values
        if options.get("keep") == "summary":
            assert (site, "activation") not in agreements
    if options.get("keep") != "summary":
        assert agreements[ds.attrs["site"], "activation"].n_values == n_tokens * places
    assert agreements[ds.attrs["site"], "mean_abs"].n_values == 9 * places


def test_recompute__other_weights_are_found_measured_and_named(llama, path, paradigm, tmp_path):
    other = moved(llama)
    result = recompute(path, model=other, n_prompts=100)
    assert not result.holds and result.cause.startswith("the weights")
    assert list(result.changes) == ["weights_digest"] and len(result.prompts) == 17
    a, b = (
        actome.open(path),
        actome.record(other, paradigm, tmp_path / "other.zarr", dtype="float32"),
    )
    difference = abs(a["activation"] - b["activation"]).to_numpy()
    agreement = found(result)["mlp", "activation"]
    assert agreement.largest == pytest.approx(np.nanmax(difference), rel=1e-4)
    failing = a["prompt"].to_numpy()[np.nanmax(difference, axis=(1, 2, 3)) > 0.01]
    assert set(failing) <= set(result.failing)
    worst = agreement.worst
    place = {"prompt": worst["prompt"], "layer": worst["layer"], "neuron": worst["neuron"]}
    values = [float(ds["activation"].sel(place)[worst["token"]]) for ds in (a, b)]
    assert [worst["recorded"], worst["computed"]] == pytest.approx(values, rel=1e-4)
    assert found(result)["", "logprob"].n_beyond > 0
    assert "weights_digest: sha256:" in str(result) and "the weights" in str(result)


def test_recompute__other_weights_without_an_effect_hold_and_are_told(path, llama):
    module = LLAMA.build()
    with torch.no_grad():
        module.model.embed_tokens.weight[1] += 1.0  # of a word that is in no prompt
    result = recompute(path, model=(module, llama[1]), n_prompts=4)
    assert result.holds and list(result.changes) == ["weights_digest"] and result.cause == ""


def test_recompute__moments_alone_show_other_weights(llama, paradigm, tmp_path):
    actome.record(llama, paradigm, tmp_path / "s.zarr", keep="summary")
    result = recompute(tmp_path / "s.zarr", model=moved(llama), n_prompts=5)
    assert not result.holds and result.cause.startswith("the weights")
    assert all(found(result)["mlp", name].n_beyond for name in ("mean", "deviation", "mean_abs"))


@pytest.mark.parametrize(
    "options",
    [pytest.param({"tokens": "generated", "max_new_tokens": 8}, marks=pytest.mark.slow), DRAWN],
    ids=["greedy", "drawn"],
)
def test_recompute__generated_tokens_that_part_are_compared_up_to_there(llama, paradigm, tmp_path, options):
    ds = actome.record(llama, paradigm, tmp_path / "g.zarr", **options)
    other = actome.record(moved(llama, 8.0), paradigm, tmp_path / "o.zarr", **options)
    result = recompute(tmp_path / "g.zarr", model=moved(llama, 8.0), n_prompts=17)
    differs = ds["token_id"].to_numpy() != other["token_id"].to_numpy()
    expected = {p: int(d.argmax()) for p, d in zip(ds["prompt"].to_numpy(), differs, strict=True) if d.any()}
    assert expected and result.other_tokens == expected and "weights" in result.cause
    alike = [expected.get(p, int(n)) for p, n in zip(ds["prompt"].to_numpy(), ds["n_tokens"], strict=True)]
    assert found(result)["", "logprob"].n_values == sum(alike)


def test_recompute__another_tokenizer_is_named(path, llama):
    words = {f"w{i}": (i + 1) % VOCABULARY for i in range(VOCABULARY)}
    changed = Tokenizer(WordLevel(words, unk_token="w0"))
    changed.pre_tokenizer = WhitespaceSplit()
    other = PreTrainedTokenizerFast(tokenizer_object=changed, pad_token="w0")
    result = recompute(path, model=(llama[0], other), n_prompts=3)
    assert not result.holds and "the tokenizer" in result.cause and "weights" not in result.cause
    assert list(result.changes) == ["tokenizer_digest"]
    assert result.other_tokens == dict.fromkeys(result.prompts, 0) and result.agreements == ()
    both = recompute(path, model=(moved(llama)[0], other), n_prompts=3)
    assert both.cause.startswith("the weights") and "the tokenizer" in both.cause


def test_recompute__another_dtype_is_named(path, llama):
    result = recompute(path, model=(LLAMA.build().to(torch.bfloat16), llama[1]), n_prompts=3)
    assert not result.holds and result.cause == "the dtype: the model ran in float32, and now in bfloat16"
    assert result.changes["compute_dtype"] == ("float32", "bfloat16")


@pytest.mark.parametrize("dtype", ["bfloat16", pytest.param("float16", marks=pytest.mark.slow)])
def test_recompute__a_model_named_in_the_recording_is_loaded_in_its_dtype(llama, paradigm, tmp_path, dtype):
    for part in llama:
        part.save_pretrained(tmp_path / "m")
    model = load_model(str(tmp_path / "m"), dtype=dtype, device="cpu")
    actome.record(model, paradigm, tmp_path / "r.zarr", batch_size=1)
    result = recompute(tmp_path / "r.zarr", device="cpu")
    assert result.holds and result.changes == {} and result.tolerance.relative > 0.01


def test_recompute__another_kernel_or_library_is_told_and_holds(path, llama, monkeypatch):
    module = LLAMA.build()
    module.set_attn_implementation("eager")
    monkeypatch.setattr(recompute_module, "library_versions", lambda: {"torch": "0.4", "numpy": "1"})
    result = recompute(path, model=(module, llama[1]))
    assert result.holds and result.cause == ""
    assert result.changes["attention_kernel"] == ("sdpa", "eager") and result.changes["torch"][1] == "0.4"
    assert {"transformers", "tokenizers", "actome", "python"} < set(result.changes)


@pytest.mark.parametrize(
    "array", ["mlp/activation", "mlp/summary/m2", pytest.param("logprob", marks=pytest.mark.slow)]
)
def test_recompute__a_stored_value_that_was_changed_is_found_and_placed(path, llama, array):
    place = {"mlp/activation": (6, 2, 1, 3), "mlp/summary/m2": (6, 1, 3), "logprob": (6, 2)}[array]
    stored = zarr.open_group(path, mode="r+")[array]
    stored[place] = -0.25 - stored[place]
    assert any(line.startswith("damaged") for line in actome.verify(path))
    result = recompute(path, model=llama, n_prompts=17)
    prompt = actome.open(path)["prompt"].to_numpy()[6]
    assert result.failing == (prompt,) and result.cause.startswith("the recording: only some prompts")
    (agreement,) = (a for a in result.agreements if a.n_beyond)
    assert agreement.n_beyond == 1 and agreement.worst["prompt"] == prompt
    names = {"mlp/activation": ("token", "layer", "neuron"), "logprob": ("token",)}
    dims = names.get(array, ("layer", "neuron"))
    assert tuple(agreement.worst[d] for d in dims) == place[1:]


def test_recompute__a_text_that_was_changed_is_named(path, llama):
    text = zarr.open_group(path, mode="r+")["text"]
    text[4] = text_of([9, 9, 9])
    result = recompute(path, model=llama, n_prompts=17)
    assert not result.holds and "paradigm_digest" in result.changes
    assert len(result.other_tokens) == 1 and result.cause.startswith("the recording: the texts")


def test_recompute__prompts_of_an_unfinished_recording_keep_their_draws(llama, paradigm, tmp_path):
    out = tmp_path / "p.zarr"
    n = actome.record(llama, paradigm, out, part=(0, 3), **DRAWN).sizes["prompt"]
    assert 3 < n < len(paradigm)
    result = recompute(out, model=llama, n_prompts=100)
    assert result.holds and len(result.prompts) == n and result.changes == {}


def test_recompute__pieces_give_the_same_and_nothing_is_written(path, llama, monkeypatch):
    before = {p: p.read_bytes() for p in path.rglob("*") if p.is_file()}
    whole = recompute(path, model=llama, n_prompts=12)
    monkeypatch.setattr(recompute_module, "_PIECE_BYTES", 1)  # prompt by prompt
    pieces = recompute(path, model=llama, n_prompts=12)
    assert pieces.holds and [a.n_values for a in pieces.agreements] == [a.n_values for a in whole.agreements]
    assert {p: p.read_bytes() for p in path.rglob("*") if p.is_file()} == before


def test_recompute__no_more_than_one_layer_is_read_at_a_time(path, llama, monkeypatch):
    read, shapes = Recorded._read, []

    def counted(self, array):
        shapes.append(array.shape if array.name == "activation" else ())
        return read(self, array)

    monkeypatch.setattr(Recorded, "_read", counted)
    assert recompute(path, model=llama, n_prompts=2).holds
    assert [shape[1] for shape in shapes if shape] == [1] * (2 * LLAMA.config["num_hidden_layers"])


def test_recompute__what_cannot_be_computed_again_is_refused(llama, path, tmp_path):
    ds = actome.open(path)
    saved = actome.save(ds.load(), tmp_path / "saved.zarr")
    foreign = actome.save(ds.load().drop_attrs(), tmp_path / "foreign.zarr")
    result = actome.save_result(ds[["logprob"]].reset_coords(drop=True), tmp_path / "result.zarr")
    for out, message in ((saved, "saved from a Dataset"), (foreign, "which model"), (result, "is a result")):
        with pytest.raises(InputError, match=message):
            recompute(out, model=llama)
    zarr.open_group(saved, mode="r+").attrs["provenance"] = {"inputs": {"model": "demo"}}
    with pytest.raises(InputError, match="does not tell revision, architecture"):
        recompute(saved, model=llama)
    with pytest.raises(MissingFileError, match="no recording"):
        recompute(tmp_path / "nowhere.zarr", model=llama)
    with pytest.raises(InputError, match="a loaded LlamaForCausalLM that had no name; give it with model="):
        recompute(path)
    gpt2 = next(a for a in ARCHITECTURES if a.name == "gpt2").build()
    with pytest.raises(InputError, match=r"'model\.layers\.0\.mlp\.down_proj' was recorded, and GPT2LMHead"):
        recompute(path, model=(gpt2, llama[1]))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"n_prompts": 0}, InputError, "n_prompts must be at least 1, got 0"),
        ({"n_prompts": 2.5}, InputTypeError, "n_prompts must be a whole number"),
        ({"seed": -1}, InputError, "seed must be at least 0"),
        ({"tolerance": -1}, InputError, "tolerance must be a number of at least 0, got -1"),
        ({"tolerance": float("nan")}, InputError, "tolerance must be a number"),
    ],
)
def test_recompute__a_wrong_argument_is_refused(tmp_path, options, error, message):
    with pytest.raises(error, match=message):
        recompute(tmp_path / "nowhere.zarr", **options)


def test_recompute__bytes_that_cannot_be_read_are_one_clear_error(path, llama):
    shard = next(p for p in sorted((path / "mlp" / "activation" / "c").rglob("*")) if p.is_file())
    content = bytearray(shard.read_bytes())
    content[20] ^= 255
    shard.write_bytes(bytes(content))
    with pytest.raises(DamagedError, match="`actome verify` names"):
        recompute(path, model=llama, n_prompts=17)


def test_verify__recompute_prints_the_verdict(call, llama, paradigm, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name, parts in (("m", llama), ("moved", moved(llama))):
        for part in parts:
            part.save_pretrained(tmp_path / name)
    path = tmp_path / "r.zarr"
    actome.record(str(tmp_path / "m"), paradigm, path, device="cpu")
    capsys.readouterr()
    status, out, _ = call("verify", path, "--recompute", 3)
    assert status == 0, out
    assert out.startswith("every byte is as it was written\n") and "the numbers hold\n" in out
    status, out, _ = call("verify", path, "--recompute", 3, "--model", tmp_path / "moved", "--json")
    content = json.loads(out)
    assert status == 1 and content["breaches"] == [] and not content["recomputed"]["holds"]
    assert content["recomputed"]["cause"].startswith("the weights")
    assert set(content["recomputed"]["changes"]["weights_digest"]) == {"then", "now"}
    (tmp_path / "m").rename(tmp_path / "elsewhere")
    status, _, err = call("verify", path, "--recompute", 3)
    assert status == 2 and "--model" in err and err.count("\n") == 1
    assert call("verify", path, "--recompute", 3, "--model", tmp_path / "elsewhere")[0] == 0
    assert "give both or neither" in call("verify", path, "--model", "demo")[2]
    assert call("verify", path, "--recompute", 0)[0] == 2
