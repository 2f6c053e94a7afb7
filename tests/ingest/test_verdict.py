"""What is said of numbers that do not hold."""

import json

import numpy as np
import pytest

from actome.ingest.agreement import Agreement, Tolerance
from actome.ingest.verdict import Recomputed, changes, likely_cause

PROMPTS = ("a", "b", "c")


def agreement(*prompts, excess=100.0):
    return Agreement("mlp", "activation", 10**6, len(prompts), 1.0, 0.1, excess, {}, list(prompts))


@pytest.mark.parametrize(
    ("changed", "other_tokens", "found", "generated", "cause"),
    [
        (["weights_digest"], {}, [agreement()], False, ""),
        (["weights_digest", "torch"], {}, [agreement(*PROMPTS)], False, "the weights: they are not"),
        (
            ["weights_digest", "compute_dtype"],
            {},
            [agreement(*PROMPTS)],
            False,
            "the dtype: the model ran in x",
        ),
        (["tokenizer_digest"], {"a": 0}, [agreement()], False, "the tokenizer, or its chat template"),
        (["tokenizer_digest"], {"a": 0}, [agreement()], True, "the tokenizer, or its chat template"),
        (["tokenizer_digest", "device"], {}, [agreement(*PROMPTS)], False, "the device: x then, y now"),
        (["config_digest"], {}, [agreement(*PROMPTS)], False, "the settings of the architecture"),
        (["end_tokens"], {"a": 2}, [agreement()], True, "the tokens that end a text"),
        (["torch"], {}, [agreement("b")], False, "the recording: only some prompts differ"),
        (["torch"], {}, [agreement("b", excess=1.5)], False, "rounding: a few values"),
        (["torch", "python"], {}, [agreement(*PROMPTS)], False, "the version of a library: torch, python"),
        (["attention_kernel", "torch"], {}, [agreement(*PROMPTS)], False, "the attention kernel"),
        (["torch"], {"a": 3}, [agreement()], True, "rounding, where two tokens are about as likely"),
        (["torch"], {"a": 3}, [agreement("a", "b")], True, "the version of a library: torch"),
        (["torch"], {"a": 3}, [], False, "the version of a library: torch"),
        ([], {}, [agreement(*PROMPTS)], False, "nothing that was noted differs"),
        (["paradigm_digest"], {"a": 0}, [agreement()], False, "the recording: the texts or labels"),
    ],
)
def test_likely_cause__is_the_strongest_that_explains_what_was_found(
    changed, other_tokens, found, generated, cause
):
    changed = dict.fromkeys(changed, ("x", "y"))
    said = likely_cause(changed, PROMPTS, other_tokens, found, generated=generated)
    assert said.startswith(cause) and bool(said) == bool(cause)


def test_likely_cause__a_layer_that_is_beyond_as_a_whole_is_not_a_few_values():
    found = agreement("b", excess=0.9)
    found.n_beyond, found.n_sets_beyond, found.set_excess = 0, 1, 2.5
    said = likely_cause({}, PROMPTS, {}, [found], generated=False)
    assert said.startswith("the recording: only some prompts differ")
    assert "rounding, where two" not in likely_cause({}, PROMPTS, {"a": 3}, [found], generated=True)
    assert "layers of prompts are up to 2.5 times as far apart as is allowed" in str(found)


def test_changes__lists_what_decides_the_numbers_and_nothing_else():
    then = {
        "inputs": {"weights_digest": "sha256:1", "device": "cpu", "model": "here", "batch_size": 3},
        "environment": {"torch": "2.0", "dask": "1"},
    }
    now = {"inputs": {**then["inputs"], "device": "cuda", "model": "there"}, "environment": {"torch": "2.1"}}
    assert changes(then, now) == {"device": ("cpu", "cuda"), "torch": ("2.0", "2.1")}


def test_recomputed__prints_and_serialises():
    worst = {"prompt": "b", "token": 1, "layer": 0, "neuron": 2, "recorded": np.nan, "computed": 1.5}
    found = Agreement("mlp", "activation", 8, 1, np.inf, np.inf, np.inf, worst, ["b"])
    result = Recomputed(
        recording="r.zarr",
        model="demo",
        device="cpu",
        prompts=PROMPTS,
        tolerance=Tolerance.of("float32", "float16"),
        other_tokens={"c": 4},
        agreements=(found,),
        changes={"weights_digest": ("sha256:" + "0" * 64, "sha256:" + "1" * 64)},
        cause="the weights",
    )
    assert not result.holds and result.failing == ("b", "c")
    text = str(result)
    assert "3 prompts run again with demo on cpu: the numbers do not hold in 2 of them\n" in text
    assert "other tokens in 1 of 3 prompts, the first 'c' from token 4 on\n" in text
    assert "the worst at prompt b, token 1, layer 0, neuron 2: nan recorded, 1.5 now\n" in text
    assert "weights_digest: sha256:000000000000... then, sha256:111111111111... now\n" in text
    content = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert content["failing"] == ["b", "c"] and content["agreements"][0]["worst"]["recorded"] == "nan"
    assert content["agreements"][0]["share_beyond"] == 0.125 and content["other_tokens"] == {"c": 4}
