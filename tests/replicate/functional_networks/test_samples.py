"""Samples: two disjoint halves of a data set."""

import pytest

from actome.replicate.functional_networks.samples import draw
from actome.store.errors import InputError
from actome.store.paradigm import Paradigm
from actome.store.paradigm.design import Design


def paradigm(n, **options):
    return Paradigm(
        [{"text": f"text {i}", "condition": "ab"[i % 2]} for i in range(n)], name="words", **options
    )


def test_draw__takes_no_prompt_twice():
    samples = draw(paradigm(30), 8, seed=0)
    assert len(samples.group) == len(samples.single) == 8 and samples.name == "words"
    assert not set(samples.group) & set(samples.single)
    assert samples.paradigm.table["prompt"].tolist() == [
        p for p in paradigm(30).table["prompt"] if p in {*samples.group, *samples.single}
    ]


def test_draw__repeats_with_its_seed():
    assert draw(paradigm(30), 8, seed=1).group == draw(paradigm(30), 8, seed=1).group
    assert draw(paradigm(30), 8, seed=1).group != draw(paradigm(30), 8, seed=2).group


def test_draw__of_few_prompts_takes_half():
    samples = draw(paradigm(9), 100, seed=0)
    assert len(samples.group) == len(samples.single) == 4
    with pytest.raises(InputError, match="the data set 'words' has 3 samples, fewer than 4"):
        draw(paradigm(3), 100, seed=0)


def test_draw__leaves_out_a_designs_rests():
    design = Design(pattern=("rest", "task", "rest"), per_block=3, rest_per_block=1, runs=2, rest="b")
    shown = draw(paradigm(16, design=design), 100, seed=0)
    assert set(shown.paradigm.table["condition"]) == {"a"}
