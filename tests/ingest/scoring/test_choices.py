"""Multiple choice: what the columns say, which tokens are a choice's, what an answer names."""

import json
import re
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

import actome
from actome.ingest.scoring.choices import Choices, Continuations, parse_answer
from actome.store.errors import InputError
from actome.store.sharing import export


@pytest.fixture
def questions(phantom):
    """The next word of each language's cycle, among two wrong ones; the last prompt is no question."""
    follows = {}
    for text in phantom.paradigm.table["text"]:
        words = text.split()
        for a, b in pairwise(words):
            follows.setdefault(a, []).append(b)
    rows = []
    for language in "ab":
        for i in range(6):
            word = f"{language}{i}"
            right = max(set(follows[word]), key=follows[word].count)
            wrong = [f"{language}{j}" for j in range(12) if f"{language}{j}" != right][:2]
            listed = [*wrong[:1], right, *wrong[1:]]
            rows.append({"text": word, "condition": language, "choices": " | ".join(listed), "answer": right})
    return actome.Paradigm([*rows, {"text": "a1 a2", "condition": "a", "choices": "", "answer": ""}])


def test_score__choices_are_scored_behind_their_texts(model, phantom, questions, masks, tmp_path):
    scores = actome.score(model, questions, tmp_path / "s.zarr", masks, controls=1).load()
    ids = {w: i for w, i in phantom.tokenizer.get_vocab().items()}
    for lesion in ("baseline", "a/target"):
        one = scores.sel(lesion=lesion)
        for i, row in questions.table.iloc[:3].iterrows():
            with actome.lesion(model, one["network"].to_numpy()), torch.no_grad():
                logits = phantom.module(torch.tensor([[ids[row.text]]])).logits[0, -1]
            expected = logits.log_softmax(-1)[[ids[c.strip()] for c in row.choices.split("|")]].numpy()
            np.testing.assert_allclose(one["choice_logprob"][i], expected, atol=1e-4)
    question = scores.isel(prompt=slice(0, -1))
    accuracy = (
        question["correct"].groupby("condition").mean().sel(lesion=["baseline", "a/target", "b/target"])
    )
    assert accuracy.sel(lesion="baseline").min() == 1
    assert (
        accuracy.sel(lesion="a/target", condition="b") == 1 > accuracy.sel(lesion="a/target", condition="a")
    )
    last = scores.isel(prompt=-1)
    assert (
        last["choice_logprob"].isnull().all() and (last["correct"] == -1).all() and last["answer_index"] == -1
    )
    assert scores["choice_n_tokens"].values.tolist() == [[1, 1, 1]] * 12 + [[0, 0, 0]]
    actome.lesion_effects(scores)


def test_score__a_choice_as_likely_as_another_is_not_right(model, phantom, questions, masks, tmp_path):
    weight = phantom.module.lm_head.weight
    kept = weight.detach().clone()
    with torch.no_grad():
        weight.zero_()
    try:
        scores = actome.score(model, questions, tmp_path / "s.zarr", masks, controls=0).load()
    finally:
        with torch.no_grad():
            weight.copy_(kept)
    assert (scores["correct"].isel(prompt=slice(0, -1)) == 0).all()


def test_score__texts_choices_answers_and_samples_are_hidden_on_export(model, questions, masks, tmp_path):
    few = questions.select(condition="b")
    scores = actome.score(model, few, tmp_path / "s.zarr", masks, controls=0, max_new_tokens=2).load()
    export(tmp_path / "s.zarr", tmp_path / "p", text="digest")
    shared = actome.open(tmp_path / "p" / "s.zarr").load()
    hidden = ("text", "choices", "answer", "completion")
    secrets = {word for v in hidden for text in scores[v].values.ravel() for word in text.split()} - {"|"}
    assert secrets
    for name, values in shared.variables.items():
        if values.dtype.kind in "OUT":
            said = {str(v) for v in values.values.ravel()}
            assert name not in hidden or all(v.startswith("sha256:") for v in said)
            assert not said & secrets
    assert not secrets & set(re.findall(r"\w+", json.dumps(shared.attrs)))
    numbers = [v for v in scores.data_vars if scores[v].dtype.kind in "if"]
    xr.testing.assert_equal(shared[numbers].reset_coords(drop=True), scores[numbers].reset_coords(drop=True))


def test_score__samples_are_those_of_the_lesioned_model_and_are_parsed(
    model, phantom, questions, masks, tmp_path
):
    scores = actome.score(model, questions, tmp_path / "s.zarr", masks, controls=1, max_new_tokens=3).load()
    for lesion in ("baseline", "a/target"):
        with actome.lesion(model, scores.sel(lesion=lesion)["network"].to_numpy()):
            told = actome.record(
                model,
                questions,
                tmp_path / f"{lesion[0]}.zarr",
                tokens="generated",
                max_new_tokens=3,
                index=False,
            )
        assert scores["completion"].sel(lesion=lesion).values.tolist() == told["completion"].values.tolist()
    baseline = scores.sel(lesion="baseline").isel(prompt=slice(0, -1))
    assert (baseline["parsed"] == baseline["answer_index"]).all()
    assert (scores["parsed"].isel(prompt=-1) == -2).all()


def test_continuations__a_token_that_spans_both_belongs_to_the_choice(loaded):
    table = pd.DataFrame({"prompt": ["p", "q"], "text": ["a1 a2", "b1 "]})
    choices = Choices((("a3", "a4 a5"), ("b2", "b3")), np.array([0, 1]))
    rows = Continuations.of(loaded, table, choices)
    assert rows.prompt.tolist() == [0, 0, 1, 1] and rows.choice.tolist() == [0, 1, 0, 1]
    assert rows.is_choice.astype(int).tolist() == [[0, 0, 1, 0], [0, 0, 1, 1], [0, 1, 0, 0], [0, 1, 0, 0]]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"choices": ["x|y"]}, "none named 'answer'"),
        ({"choices": ["x"], "answer": ["x"]}, "two or more that differ"),
        ({"choices": ["x|x"], "answer": ["x"]}, "two or more that differ"),
        ({"choices": ["x|y"], "answer": ["z"]}, "must be one of its choices"),
        ({"choices": ["x|y"], "answer": [2]}, "must be one of its choices"),
    ],
)
def test_choices__what_is_no_question_is_refused(columns, message):
    with pytest.raises(InputError, match=message):
        Choices.of(pd.DataFrame({"prompt": ["p"], "text": ["t"], **columns}))


def test_choices__an_answer_is_a_text_or_a_place():
    table = pd.DataFrame({"prompt": list("abc"), "choices": ["x|y", "1|0", ""], "answer": ["1", "0", ""]})
    choices = Choices.of(table)
    assert choices.answer.tolist() == [1, 1, -1] and choices.texts[2] == ()
    assert Choices.of(table[["prompt"]]) is None and Choices.of(table.iloc[2:]) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" paris.", 1),
        ("The answer is Rome", 0),
        ("Rome or Paris", 0),
        ("It is Rome or Paris", -1),
        ("Parisian", -1),
        ("", -1),
        ("new york city", 3),
    ],
)
def test_parse_answer__names_one_choice_or_none(text, expected):
    assert parse_answer(text, ["Rome", "Paris", "New", "New York"]) == expected
