"""Batches: a pure function of the lengths, within a bound, and halved where memory is short."""

import weakref
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from actome.ingest import batches as batches_module
from actome.ingest.batches import batches, fitting_batch_tokens, run_fitting
from actome.ingest.models import load_model
from actome.store.errors import InputError

from .architectures import ARCHITECTURES, tokenizer
from .memory import one_unit, paradigm_of

CPU = torch.device("cpu")
LENGTHS = st.lists(st.integers(1, 500), min_size=1, max_size=60)


@given(LENGTHS, st.integers(1, 5000), st.one_of(st.none(), st.integers(1, 9)))
def test_batches__take_every_prompt_once_and_bound_the_size(lengths, batch_tokens, size):
    n_tokens = np.array(lengths)
    groups = batches(n_tokens, batch_tokens, size)
    assert sorted(np.concatenate(groups).tolist()) == list(range(len(lengths)))
    for group in groups:
        if size is None:
            assert len(group) == 1 or len(group) * n_tokens[group].max() <= batch_tokens
        else:
            assert len(group) <= size
    again = batches(n_tokens.copy(), batch_tokens, size)
    assert [g.tolist() for g in groups] == [g.tolist() for g in again]


@given(LENGTHS, st.integers(1, 5000))
def test_batches__prompts_of_similar_length_are_together(lengths, batch_tokens):
    groups = [np.array(lengths)[g] for g in batches(np.array(lengths), batch_tokens)]
    assert all(a.max() <= b.min() for a, b in pairwise(groups))
    for longer in groups[1:]:
        assert (len(longer) + 1) * longer.max() > batch_tokens  # no room for one more


@pytest.fixture
def llama():
    return load_model(({a.name: a for a in ARCHITECTURES}["llama"].build(), tokenizer()))


@pytest.mark.parametrize("name", [a.name for a in ARCHITECTURES])
def test_fitting_batch_tokens__knows_every_architecture(name):
    model = load_model(({a.name: a for a in ARCHITECTURES}[name].build(), tokenizer()))
    assert fitting_batch_tokens(model, 64, logits=True) == 4096


def test_fitting_batch_tokens__follows_the_memory(llama, monkeypatch):
    def fitting(megabytes, longest=64, *, logits=True):
        monkeypatch.setattr(batches_module, "_memory", lambda device: megabytes * 2**20)
        return fitting_batch_tokens(llama, longest, logits=logits)

    assert 1 < fitting(1) < fitting(2) < 4096
    assert fitting(1, longest=640) < fitting(1) < fitting(1, logits=False)
    assert fitting(0) == 1
    assert fitting(10**6) == 4096


def short_of_memory(most):
    """A run that fails on more prompts than `most`, as a GPU does, and notes those that went through."""
    done = []

    def run(rows):
        if len(rows) > most:
            raise torch.OutOfMemoryError("no room\nfor a table of allocations")
        done.append(rows.tolist())

    return run, done


@pytest.mark.parametrize(("most", "n_split"), [(8, 0), (4, 1), (3, 2), (1, 3)])
def test_run_fitting__halves_what_does_not_fit_and_all_after_it(most, n_split):
    run, done = short_of_memory(most)
    groups = [np.arange(8), np.arange(8, 16), np.arange(16, 18)]
    assert run_fitting(groups, run, CPU) == n_split
    assert np.concatenate(done).tolist() == list(range(18))
    assert max(map(len, done)) <= most


def test_run_fitting__one_prompt_that_does_not_fit_is_a_clear_error():
    run, _ = short_of_memory(0)
    with pytest.raises(
        InputError, match="one prompt alone does not fit into the memory of cpu: no room; shor"
    ):
        run_fitting([np.arange(3)], run, CPU)


def test_run_fitting__knows_what_the_cpu_says_of_memory_and_passes_other_errors_on():
    def fail(message):
        def run(rows):
            if len(rows) > 1:
                raise RuntimeError(message)

        return run

    assert (
        run_fitting([np.arange(2)], fail("DefaultCPUAllocator: can't allocate memory: you tried"), CPU) == 1
    )
    with pytest.raises(RuntimeError, match="shapes do not match"):
        run_fitting([np.arange(2)], fail("shapes do not match"), CPU)


def test_run_fitting__holds_no_tensor_of_the_run_that_failed():
    class Held:
        pass

    alive, seen = [], []

    def run(rows):
        seen.append([ref() for ref in alive if ref() is not None])
        held = Held()
        alive.append(weakref.ref(held))
        if len(rows) > 1:
            raise torch.OutOfMemoryError("no room")

    run_fitting([np.arange(4)], run, CPU)
    assert len(seen) == 6 and not any(seen)


def test_run_unit__a_batch_that_is_halved_gives_the_same_numbers(llama, monkeypatch, rng):
    paradigm = paradigm_of([rng.integers(3, 40, rng.integers(1, 9)).tolist() for _ in range(8)])
    for tokens in ("prompt", "generated"):
        whole = one_unit(llama, paradigm, tokens=tokens)
        forward = type(llama.module.model).forward

        def short(self, input_ids, *args, forward=forward, **options):
            out = forward(self, input_ids, *args, **options)
            if len(input_ids) > 3:  # after the hooks have seen it
                raise torch.OutOfMemoryError("no room")
            return out

        with monkeypatch.context() as patch:
            patch.setattr(type(llama.module.model), "forward", short)
            halved = one_unit(llama, paradigm, tokens=tokens)
        np.testing.assert_array_equal(halved[0]["token_id"], whole[0]["token_id"])
        np.testing.assert_allclose(halved[0]["logprob"], whole[0]["logprob"], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(halved[1]["mlp"], whole[1]["mlp"], rtol=1e-5, atol=1e-5)
