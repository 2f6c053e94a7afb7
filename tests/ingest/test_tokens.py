"""From text to tokens: spans, special tokens, templates, truncation; and which tokens are kept."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

import actome
from actome import Paradigm
from actome.ingest.identity import tokenizer_digest
from actome.ingest.models import LoadedModel
from actome.ingest.phantom import phantom_model
from actome.ingest.tokens import Prompting, Prompts, Selection, tokenize
from actome.store.errors import InputError, InputTypeError

from .architectures import ARCHITECTURES, tokenizer
from .memory import one_unit

CHAT = "{% for m in messages %}w1 {{ m.content }} w2{% endfor %}{% if add_generation_prompt %} w3{% endif %}"


@pytest.fixture(scope="module")
def module():
    return ARCHITECTURES[0].build()


@pytest.fixture
def words(module):
    """Words w0 to w39; the begin-of-sequence token is w1, and the tokenizer does not add it."""
    kind = tokenizer()
    kind.bos_token = "w1"
    return LoadedModel(module, kind, "words", None)


@pytest.fixture
def with_ends(words):
    """The same, but the tokenizer puts w1 before and w2 behind each text."""
    pair = [("w1", 1), ("w2", 2)]
    words.tokenizer.backend_tokenizer.post_processor = TemplateProcessing("w1 $A w2", special_tokens=pair)
    return words


def table(*texts):
    return pd.DataFrame({"prompt": [f"p{i}" for i in range(len(texts))], "text": texts})


def ids_of(model, *texts, **prompting):
    tokens = tokenize(model, table(*texts), Prompting(**prompting))
    return [row[row != -1].tolist() for row in tokens.token_id]


def spans_of(tokens, i):
    n = tokens.n_tokens[i]
    return list(zip(tokens.char_start[i, :n].tolist(), tokens.char_end[i, :n].tolist(), strict=True))


def test_tokenize__a_tokenizer_of_another_model_is_refused(phantom):
    larger = phantom_model(n_words=20).tokenizer
    mixed = LoadedModel(phantom.module, larger, "mixed", None)
    with pytest.raises(InputError, match=r"gives token 40, the model has 25; the two do not belong"):
        tokenize(mixed, pd.DataFrame({"prompt": ["x"], "text": ["a1 b19"]}))


def test_tokenize__a_prompt_without_a_token_is_named(phantom):
    table = pd.DataFrame({"prompt": ["x", "blank"], "text": ["a1", "  "]})
    with pytest.raises(InputError, match="1 prompts are without a token, the first is 'blank'"):
        tokenize(LoadedModel(phantom.module, phantom.tokenizer, "phantom", None), table)


def test_tokenize__one_token_emoji_and_right_to_left_text_keep_their_spans():
    alphabet = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    raw = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    texts = ["a", "is \N{SLIGHTLY SMILING FACE}!", "\N{HEBREW LETTER SHIN}\N{HEBREW LETTER LAMED}"]
    table = pd.DataFrame({"prompt": ["one", "emoji", "rtl"], "text": texts})
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw)
    wide = phantom_model(n_words=130, n_neurons=200).module
    tokens = tokenize(LoadedModel(wide, tokenizer, "bytes", None), table)
    assert tokens.n_tokens.tolist() == [1, 8, 4]
    for i, text in enumerate(texts):
        assert "".join(dict.fromkeys(text[a:b] for a, b in spans_of(tokens, i))) == text


def test_tokenize__bos_is_there_exactly_once(words):
    assert ids_of(words, "w5 w6", "w1 w7") == [[5, 6], [1, 7]]
    assert ids_of(words, "w5 w6", "w1 w7", special_tokens="bos") == [[1, 5, 6], [1, 7]]
    assert ids_of(words, "w5 w6", special_tokens="none") == [[5, 6]]


def test_tokenize__special_tokens_of_the_tokenizer_are_kept_or_left_out(with_ends):
    assert ids_of(with_ends, "w5 w6") == [[1, 5, 6, 2]]
    assert ids_of(with_ends, "w5 w6", special_tokens="bos") == [[1, 5, 6, 2]]
    assert ids_of(with_ends, "w5 w6", special_tokens="none") == [[5, 6]]
    tokens = tokenize(with_ends, table("w5 w6"))
    assert spans_of(tokens, 0) == [(0, 0), (0, 2), (3, 5), (0, 0)]


def test_tokenize__truncation_keeps_so_many_tokens_from_the_tokenizers_side(words, with_ends):
    texts = ("w5 w6 w7 w8 w9", "w5")
    assert ids_of(with_ends, *texts, truncate=4) == [[1, 5, 6, 2], [1, 5, 2]]
    assert ids_of(words, *texts, special_tokens="none", truncate=3) == [[5, 6, 7], [5]]
    words.tokenizer.backend_tokenizer.post_processor = TemplateProcessing("$A")
    assert ids_of(words, *texts, special_tokens="bos", truncate=3) == [[1, 5, 6], [1, 5]]
    words.tokenizer.truncation_side = "left"
    assert ids_of(words, *texts, truncate=3) == [[7, 8, 9], [5]]
    assert ids_of(words, *texts, special_tokens="bos", truncate=3) == [[1, 8, 9], [1, 5]]
    tokens = tokenize(words, table(*texts), Prompting(special_tokens="bos", truncate=3))
    assert spans_of(tokens, 0) == [(0, 0), (9, 11), (12, 14)]


def test_prompting__truncation_to_less_than_the_special_tokens_is_refused(with_ends):
    Prompting(truncate=2).check(with_ends)
    Prompting(truncate=1, special_tokens="none").check(with_ends)
    with pytest.raises(InputError, match="truncate must be at least 2, the tokenizer's own, got 1"):
        Prompting(truncate=1).check(with_ends)


def test_tokenize__a_text_beyond_the_context_is_refused_or_truncated(words):
    long = " ".join(["w5"] * 65)
    with pytest.raises(InputError, match=r"context of 64 tokens, the first is 'p1'; .*truncate"):
        ids_of(words, "w5", long)
    assert len(ids_of(words, long, truncate=64)[0]) == 64
    with pytest.raises(InputError, match="context of 64 tokens, the first is 'p0'"):
        ids_of(words, long, truncate=65)


@pytest.mark.parametrize("text", ["w5 w6", "  w5 w6 ", "w1", "w2 w3", "w", "w3 w1 w3"])
@pytest.mark.parametrize("trims", [False, True])
def test_tokenize__spans_under_a_template_are_those_in_the_text(words, text, trims):
    """Also where the words of the text are in the template too."""
    words.tokenizer.chat_template = CHAT.replace("m.content", "m.content | trim" if trims else "m.content")
    tokens = tokenize(words, table(text), Prompting(chat=True))
    pieces = [text[a:b] if a >= 0 else None for a, b in spans_of(tokens, 0)]
    assert pieces == [None, *text.split(), None, None]
    ids = tokens.token_id[0]
    assert (ids[0], ids[-2], ids[-1]) == (1, 2, 3)


def test_tokenize__bos_is_added_to_a_template_without_one(words):
    words.tokenizer.chat_template = CHAT.replace("w1 ", "w9 ")
    assert ids_of(words, "w5", chat=True) == [[9, 5, 2, 3]]
    assert ids_of(words, "w5", chat=True, special_tokens="bos") == [[1, 9, 5, 2, 3]]
    words.tokenizer.chat_template = CHAT
    assert ids_of(words, "w5", chat=True, special_tokens="bos") == [[1, 5, 2, 3]]


def test_tokenize__a_template_puts_no_special_tokens_around_itself(with_ends):
    with_ends.tokenizer.chat_template = CHAT
    assert ids_of(with_ends, "w5", chat=True) == [[1, 5, 2, 3]]


def test_tokenize__a_template_that_changes_the_text_is_refused(words):
    words.tokenizer.chat_template = CHAT.replace("m.content", "m.content | upper")
    with pytest.raises(InputError, match="the chat template of 'words' changes the text 'w5 w6'"):
        ids_of(words, "w5 w6", chat=True)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"special_tokens": "all"},
            InputError,
            "special_tokens must be 'tokenizer', 'bos' or 'none', got 'all'",
        ),
        ({"truncate": 0}, InputError, "truncate must be at least 1, got 0"),
        ({"truncate": 2.5}, InputTypeError, "truncate must be a whole number, got 2.5"),
        ({"chat": True}, InputError, "the tokenizer of 'words' has no chat template; leave chat out"),
    ],
)
def test_prompting__what_cannot_be_is_refused(words, options, error, message):
    with pytest.raises(error, match=message):
        Prompting(**options).check(words)
    words.tokenizer.bos_token = None
    with pytest.raises(InputError, match="'words' has no begin-of-sequence token"):
        Prompting(special_tokens="bos").check(words)


def test_prompts__are_the_same_in_parts_and_together(words, monkeypatch):
    texts = table(*(" ".join(f"w{(i * k) % 40}" for k in range(1 + i % 7)) for i in range(20)))
    whole = Prompts(words, texts, Prompting())
    monkeypatch.setattr("actome.ingest.tokens._AT_A_TIME", 3)
    parts = Prompts(words, texts, Prompting())
    assert parts.digest == whole.digest
    assert parts.n_tokens.tolist() == whole.n_tokens.tolist() == [1 + i % 7 for i in range(20)]
    rows = np.array([7, 2])
    np.testing.assert_array_equal(whole[rows].token_id[0, :1], whole[slice(7, 8)].token_id[0])
    assert (
        Prompts(words, texts.assign(text=["w5 w6", *texts["text"][1:]]), Prompting()).digest != whole.digest
    )
    assert Prompts(words, texts, Prompting(special_tokens="bos")).digest != whole.digest


def test_prompts__where_one_ends_is_part_of_the_digest(words):
    a, b = table("w5 w6", "w7"), table("w5", "w6 w7")
    assert Prompts(words, a, Prompting()).digest != Prompts(words, b, Prompting()).digest


def test_tokenizer_digest__does_not_depend_on_the_last_call(words):
    before = tokenizer_digest(words.tokenizer)
    ids_of(words, "w5 w6 w7", truncate=2)
    assert tokenizer_digest(words.tokenizer) == before
    words.tokenizer(["w5", "w6 w7"], padding=True)
    assert tokenizer_digest(words.tokenizer) == before


SLICES = st.builds(
    lambda a, b, c: f"{a}:{b}{c}",
    st.sampled_from(["", "0", "1", "2", "-3", "-1"]),
    st.sampled_from(["", "1", "4", "10", "-1"]),
    st.sampled_from(["", ":1", ":4"]),
)


@given(SLICES, st.integers(1, 20))
def test_selection__is_a_slice_as_python_takes_it(text, n):
    kept = Selection.of(text).positions(n).tolist()
    assert kept == list(range(n))[slice(*(int(x) if x else None for x in text.split(":")))]


def test_selection__names_are_slices_too():
    assert Selection.of("prompt").positions(4).tolist() == [0, 1, 2, 3]
    assert Selection.of("last").positions(4).tolist() == [3]
    assert Selection.of("generated").is_generated and not Selection.of("last").is_generated


@pytest.mark.parametrize(
    "text", ["", "all", "1", "::", "::0", "::-1", "1:2:3:4", "a:b", "1.5:", " 1:", "1:\n", "[1:]", "Last"]
)
def test_selection__anything_else_is_refused(text):
    with pytest.raises(InputError, match="tokens must be 'prompt', 'generated', 'last', or a slice such as"):
        Selection.of(text)


def test_selection__no_text_is_refused():
    with pytest.raises(InputTypeError, match=r"tokens must be a text such as 'prompt' or '1:', got \[1\]"):
        Selection.of([1])


def test_selection__a_prompt_too_short_is_named():
    assert Selection.of("2:").check(np.array([3, 9]), ["a", "b"]).tolist() == [1, 7]
    with pytest.raises(InputError, match="2 prompts have no token in '2:', the first is 'b'"):
        Selection.of("2:").check(np.array([3, 1, 2]), ["a", "b", "c"])


@pytest.mark.parametrize("text", ["last", "1:", "::4", "2:10", "-3:", ":5", "1:-1:2"])
def test_run_unit__selected_tokens_are_those_of_the_whole_recording(module, text):
    rng = np.random.default_rng(1)
    prompts = [" ".join(f"w{t}" for t in rng.integers(3, 40, n)) for n in (3, 12, 7, 4, 9)]
    paradigm = Paradigm([{"text": t} for t in prompts])
    sites = ("mlp", "residual")
    whole = one_unit((module, tokenizer()), paradigm, sites=sites)
    labels, activations, moments = one_unit((module, tokenizer()), paradigm, sites=sites, tokens=text)
    selection = Selection.of(text)
    for i, prompt in enumerate(prompts):
        places = selection.positions(len(prompt.split()))
        n = len(places)
        assert labels["n_tokens"][i] == n and labels["position"][i, :n].tolist() == places.tolist()
        for name in ("token_id", "char_start", "char_end"):
            assert labels[name][i, :n].tolist() == whole[0][name][i, places].tolist()
            assert (labels[name][i, n:] == -1).all()
        np.testing.assert_array_equal(labels["logprob"][i, :n], whole[0]["logprob"][i, places])
        assert np.isnan(labels["logprob"][i, n:]).all() and not labels["generated"].any()
        for site in sites:
            expected = whole[1][site][i, places]
            np.testing.assert_array_equal(activations[site][i, :n], expected)
            assert np.isnan(activations[site][i, n:]).all()
            np.testing.assert_allclose(moments[site]["mean"][i], expected.mean(axis=0), rtol=1e-4, atol=1e-6)
            np.testing.assert_allclose(
                moments[site]["mean_abs"][i], abs(expected).mean(axis=0), rtol=1e-5, atol=1e-6
            )


def test_record__the_policy_of_prompts_is_recorded_and_another_refused(module, words, tmp_path):
    words.tokenizer.chat_template = CHAT
    paradigm = Paradigm([{"text": "w5 w6 w7 w8"}, {"text": "w9 w1"}])
    path, model = tmp_path / "r.zarr", (module, words.tokenizer)
    policy = {"chat": True, "special_tokens": "none", "truncate": 4}
    ds = actome.record(model, paradigm, path, tokens="1:", **policy)
    inputs = ds.attrs["provenance"]["inputs"]
    assert {name: inputs[name] for name in policy} == policy
    assert inputs["tokens"] == "1:" and inputs["padding_side"] == "right"
    assert ds.token_id[0].values.tolist() == [5, 6, 7] and ds.char_start[0].values.tolist() == [0, 3, 6]
    for other in ({"chat": False}, {"special_tokens": "tokenizer"}, {"truncate": 5}):
        (name,) = other
        with pytest.raises(InputError, match=rf"r\.zarr was recorded differently \(.*{name}: "):
            actome.record(model, paradigm, path, tokens="1:", **(policy | other))
    with pytest.raises(InputError, match=r"differently \(tokens: '1:' there, 'last' now\)"):
        actome.record(model, paradigm, path, tokens="last", **policy)
