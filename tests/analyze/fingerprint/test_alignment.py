"""Two tokenizers over one text: the stretches between ends that both share."""

import numpy as np
import pytest
import xarray as xr

from actome.analyze.fingerprint.alignment import align, shared_prompts
from actome.store.errors import InputError


def course(tokens, values, prompt="p", text="some text"):
    """A signature of one prompt: (start, end) of each token, and its value."""
    spans = np.array(tokens).reshape(1, -1, 2)
    return xr.Dataset(
        {
            "course": (("prompt", "token", "network"), np.array(values, dtype=float).reshape(1, -1, 1)),
            "char_start": (("prompt", "token"), spans[..., 0]),
            "char_end": (("prompt", "token"), spans[..., 1]),
        },
        coords={"prompt": [prompt], "text": ("prompt", [text])},
    )


def aligned(a, b):
    pair = align(a, b, ["p"])
    return pair.first[0][:, 0].tolist(), pair.second[0][:, 0].tolist()


def test_align__averages_over_shared_stretches_by_characters():
    whole = course([(0, 4), (4, 10), (10, 12)], [1, 2, 3])
    parts = course([(0, 1), (1, 4), (4, 10), (10, 11), (11, 12)], [8, 0, 5, 1, 3])
    assert aligned(whole, parts) == ([1, 2, 3], [2, 5, 2])


def test_align__joins_tokens_whose_ends_never_meet_in_between():
    a, b = course([(0, 3), (3, 8), (8, 9)], [1, 9, 5]), course([(0, 4), (4, 8), (8, 9)], [2, 4, 7])
    assert aligned(a, b) == ([6, 5], [3, 7])


def test_align__does_not_mind_whose_token_the_space_belongs_to():
    with_space, without = course([(0, 3), (3, 7)], [1, 2]), course([(0, 3), (4, 7)], [3, 4])
    assert aligned(with_space, without) == ([1, 2], [3, 4])


def test_align__tokens_that_share_a_character_become_one():
    letters, bytes_ = course([(0, 1), (1, 2)], [1, 2]), course([(0, 1), (0, 1), (0, 1), (1, 2)], [3, 6, 9, 0])
    assert aligned(letters, bytes_) == ([1, 2], [6, 0])


def test_align__leaves_out_what_only_one_was_shown():
    cut = course([(0, 2), (2, 4)], [1, 2])
    long = course([(0, 0), (0, 2), (2, 4), (4, 6), (-1, -1)], [99, 3, 4, 99, 99])
    assert aligned(cut, long) == ([1, 2], [3, 4])


def test_align__leaves_out_texts_without_a_shared_end():
    a = xr.concat([course([(0, 3)], [1]), course([(0, 3)], [2], "q", "other")], "prompt")
    b = xr.concat([course([(0, 2)], [1]), course([(0, 3)], [5], "q", "other")], "prompt")
    pair = align(a, b, ["p", "q"])
    assert pair.kept.tolist() == [1] and pair.second[0].tolist() == [[5.0]] and pair.n_stretches == 1
    with pytest.raises(InputError, match="no token of one recording ends where one of the other does"):
        align(a, b, ["p"])


def test_shared_prompts__are_those_that_all_have_with_the_same_text():
    def named(*names, text="x"):
        return xr.Dataset(coords={"prompt": list(names), "text": ("prompt", [text] * len(names))})

    assert shared_prompts([named(*"abcd"), named(*"dcbx"), named(*"bdz")]) == ["b", "d"]
    with pytest.raises(InputError, match="have 1 prompts in common; show the models the same paradigm"):
        shared_prompts([named("a", "b"), named("b", "c")])
    with pytest.raises(InputError, match="the prompt 'a' has different texts in two recordings"):
        shared_prompts([named("a", "b"), named("a", "b", text="y")])
