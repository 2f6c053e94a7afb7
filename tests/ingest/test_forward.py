"""Forward passes: log probabilities, the head that is left out, and how tokens are drawn."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2

from actome.ingest.forward import Generation, Sampling, _choose, end_tokens, next_token_logprob, read
from actome.ingest.models import LoadedModel, load_model
from actome.store.errors import InputError, InputTypeError

from .architectures import ARCHITECTURES, VOCABULARY, text_of, tokenizer
from .memory import one_unit, paradigm_of

BY_NAME = {a.name: a for a in ARCHITECTURES}


@pytest.fixture(scope="module")
def llama() -> LoadedModel:
    return load_model((BY_NAME["llama"].build(), tokenizer()))


def test_next_token_logprob__is_nan_on_the_first_token_and_on_padding():
    torch.manual_seed(0)
    logits = torch.randn(2, 4, 7)
    inputs = {
        "input_ids": torch.tensor([[1, 2, 3, 0], [4, 5, 6, 1]]),
        "attention_mask": torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]]),
    }
    out = next_token_logprob(logits, inputs)
    assert out.isnan().tolist() == [[True, False, False, True], [True, False, False, False]]
    expected = torch.distributions.Categorical(logits=logits[1, 2]).log_prob(torch.tensor(1))
    torch.testing.assert_close(out[1, 3], expected)


def test_next_token_logprob__of_half_precision_logits_is_taken_in_float32():
    torch.manual_seed(0)
    logits = (20 * torch.randn(1, 50, 3000)).bfloat16()
    ids = torch.randint(0, 3000, (1, 50))
    out = next_token_logprob(logits, {"input_ids": ids, "attention_mask": torch.ones_like(ids)})
    expected = logits[0, :-1].double().log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
    assert out.dtype == torch.float32
    torch.testing.assert_close(out[0, 1:].double(), expected, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("name", ["llama", "gpt2", "opt", "gpt_neox", "bert"])
@pytest.mark.parametrize("logprob", [True, False])
def test_read__the_head_runs_only_for_the_log_probability(name, logprob):
    model = load_model((BY_NAME[name].build(), tokenizer()))
    head, runs = model.module.get_output_embeddings(), []
    handle = head.register_forward_hook(lambda *_: runs.append(1))
    wanted = logprob and model.is_causal
    out = read(model, np.array([[3, 4, 5, 6], [7, 8, -1, -1]], dtype=np.int32), logprob=wanted)
    handle.remove()
    assert len(runs) == wanted
    assert tuple(out.shape) == ((2, 4) if wanted else (0,))


def test_record__without_logprob_the_rest_is_the_same(llama):
    paradigm = paradigm_of([[3, 9, 4], [5, 6, 7, 8], [11]])
    with_logprob = one_unit(llama, paradigm)
    without = one_unit(llama, paradigm, logprob=False)
    assert "logprob" in with_logprob[0] and "logprob" not in without[0]
    np.testing.assert_array_equal(with_logprob[1]["mlp"], without[1]["mlp"])


def first_tokens(model, n, sampling):
    """Draw the first token after one prompt, again and again: (draw,), and the logits it is drawn from."""
    ids = np.array([[3, 9, 4]], dtype=np.int32)
    with torch.no_grad():
        logits = model.module(input_ids=torch.from_numpy(ids).long()).logits[0, -1].double()
    generation = Generation(model, np.repeat(ids, n, axis=0), range(n), sampling)
    generation.step()
    return generation.result(), logits.numpy()


def nucleus(logits, temperature, top_p):
    """Probabilities of the fewest likeliest tokens that have `top_p` together, by hand."""
    p = np.exp(logits / temperature - np.max(logits / temperature))
    p /= p.sum()
    kept, total = np.zeros_like(p), 0.0
    for token in np.argsort(-p):
        if total >= top_p:
            break
        kept[token], total = p[token], total + p[token]
    return kept / total


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (2.0, 1.0), (1.5, 0.8), (0.5, 0.3)])
def test_generation__tokens_are_drawn_with_the_probabilities_asked_for(llama, temperature, top_p):
    n = 6000
    written, logits = first_tokens(llama, n, Sampling(1, temperature, top_p, seed=5))
    p = nucleus(logits, temperature, top_p)
    counts = np.bincount(written.token_id[:, 0], minlength=VOCABULARY)
    assert counts[p == 0].sum() == 0
    often = n * p >= 5
    observed = [*counts[often], counts[~often].sum()]
    expected = [*n * p[often], n * p[~often].sum()]
    pairs = [(o, e) for o, e in zip(observed, expected, strict=True) if e > 0]
    assert len(pairs) > 2
    statistic = sum((o - e) ** 2 / e for o, e in pairs)
    assert chi2.sf(statistic, len(pairs) - 1) > 1e-3


def test_generation__logprob_is_of_the_model_itself_whatever_the_temperature(llama):
    written, logits = first_tokens(llama, 50, Sampling(1, 1.7, 0.9, seed=1))
    scores = torch.from_numpy(logits).log_softmax(-1).numpy()
    np.testing.assert_allclose(written.logprob[:, 0], scores[written.token_id[:, 0]], atol=1e-5)
    assert len(np.unique(written.token_id)) > 2


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.01, 0.3, 0.9, 1.0]))
def test_choose__a_draw_at_either_end_stays_among_the_likeliest(seed, top_p):
    torch.manual_seed(seed)
    scores = (3 * torch.randn(1, 30)).log_softmax(-1)
    allowed = nucleus(scores[0].double().numpy(), 1.0, top_p) > 0
    for uniform in (0.0, 1.0 - 2**-24, 1.0):  # float32 rounds the largest draws to 1
        token = int(_choose(scores, torch.tensor([uniform]), Sampling(1, 1.0, top_p))[0])
        assert allowed[token]
    assert int(_choose(scores, torch.zeros(1), Sampling(1, 1.0, top_p))[0]) == int(scores.argmax())


def test_generation__temperature_zero_takes_the_likeliest_whatever_the_seed(llama):
    tokens = [first_tokens(llama, 3, Sampling(1, 0.0, 0.5, seed=s)) for s in (0, 1)]
    for written, logits in tokens:
        assert (written.token_id == logits.argmax()).all()


def test_generation__the_seed_decides_the_tokens_whatever_the_batch(llama, rng):
    paradigm = paradigm_of([rng.integers(3, 40, rng.integers(1, 9)).tolist() for _ in range(8)])

    def tokens(seed, **options):
        sampling = Sampling(6, temperature=1.0, top_p=0.95, seed=seed)
        return one_unit(llama, paradigm, tokens="generated", sampling=sampling, **options)[0]["token_id"]

    np.testing.assert_array_equal(tokens(0, batch_size=1), tokens(0, batch_size=7))
    np.testing.assert_array_equal(tokens(0), tokens(0, batch_size=3))
    assert (tokens(0) != tokens(1)).any()
    greedy = one_unit(llama, paradigm, tokens="generated", sampling=Sampling(6))[0]["token_id"]
    assert (tokens(0) != greedy).any()


def test_uniforms__belong_to_the_prompt_and_the_token_alone():
    longer = Sampling(9, seed=4).uniforms([5, 2, 7])
    np.testing.assert_array_equal(Sampling(3, seed=4).uniforms([2]), longer[1:2, :3])
    assert len(np.unique(longer)) == longer.size
    assert (Sampling(9, seed=5).uniforms([5, 2, 7]) != longer).all()


@pytest.mark.parametrize("name", ["llama", "mistral", "gpt2", "opt", "bloom"])
def test_generation__is_that_of_transformers(name):
    config = BY_NAME[name].config | ({"sliding_window": 4} if name == "mistral" else {})
    module = type(BY_NAME[name])(**{**vars(BY_NAME[name]), "config": config}).build()
    prompts, ends = [[3, 9, 4, 20, 31, 11, 6], [5, 6]], [2]
    labels, _, _ = one_unit(
        (module, tokenizer()), paradigm_of(prompts), tokens="generated", sampling=Sampling(8)
    )
    for i, ids in enumerate(prompts):
        prompt = torch.tensor([ids])
        out = module.generate(
            prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=8,
            eos_token_id=ends, pad_token_id=0,
        )  # fmt: skip
        expected = out[0, len(ids) :].tolist()
        assert labels["token_id"][i, : labels["n_tokens"][i]].tolist() == expected


def test_generation__a_text_that_ends_is_cut_behind_its_end_token(llama):
    prompts = [[3, 9, 4, 20], [5, 6], [8, 30, 17]]
    whole = one_unit(llama, paradigm_of(prompts), tokens="generated", sampling=Sampling(8))
    end = int(whole[0]["token_id"][0, 2])
    other = load_model((BY_NAME["llama"].build(), tokenizer()))
    other.module.generation_config.eos_token_id = [end, VOCABULARY - 1]
    assert end_tokens(other) == [end, VOCABULARY - 1]
    labels, activations, moments = one_unit(
        other, paradigm_of(prompts), tokens="generated", sampling=Sampling(8)
    )
    assert labels["n_tokens"][0] <= 3 and len(set(labels["n_tokens"].tolist())) > 1
    for i in range(3):
        tokens = whole[0]["token_id"][i].tolist()
        ended = [k for k, t in enumerate(tokens) if t in (end, VOCABULARY - 1)]
        n = ended[0] + 1 if ended else 8
        assert labels["n_tokens"][i] == moments["mlp"]["count"][i] == n
        assert labels["token_id"][i].tolist() == tokens[:n] + [-1] * (8 - n)
        assert labels["completion"][i] == text_of(tokens[:n])
        np.testing.assert_allclose(activations["mlp"][i, :n], whole[1]["mlp"][i, :n], rtol=1e-5, atol=1e-5)
        assert np.isnan(activations["mlp"][i, n:]).all() and np.isnan(labels["logprob"][i, n:]).all()
        assert (labels["position"][i, n:] == -1).all() and not labels["generated"][i, n:].any()


def test_generation__stops_when_every_text_has_ended(llama):
    other = load_model((BY_NAME["llama"].build(), tokenizer()))
    other.module.generation_config.eos_token_id = list(range(VOCABULARY))
    generation = Generation(other, np.array([[3, 4]], dtype=np.int32), [0], Sampling(8))
    steps = 0
    while not generation.is_over:
        generation.step()
        steps += 1
    assert steps == 1 and generation.result().token_id.shape == (1, 1)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"max_new_tokens": 0}, InputError, "max_new_tokens must be at least 1, got 0"),
        ({"max_new_tokens": 2.5}, InputTypeError, "max_new_tokens must be a whole number, got 2.5"),
        ({"seed": -1}, InputError, "seed must be at least 0, got -1"),
        ({"temperature": -0.1}, InputError, "temperature must be 0 or more, got -0.1"),
        ({"temperature": float("nan")}, InputError, "temperature must be 0 or more, got nan"),
        ({"temperature": float("inf")}, InputError, "temperature must be 0 or more, got inf"),
        ({"temperature": "hot"}, InputTypeError, "temperature must be a number, got 'hot'"),
        ({"top_p": 0}, InputError, "top_p must be above 0 and at most 1, got 0"),
        ({"top_p": 1.1}, InputError, "top_p must be above 0 and at most 1, got 1.1"),
        ({"top_p": None}, InputTypeError, "top_p must be a number, got None"),
    ],
)
def test_sampling__what_is_not_allowed_is_refused(options, error, message):
    with pytest.raises(error, match=message):
        Sampling(**options)
