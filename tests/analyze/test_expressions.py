"""Contrast expressions: what is read, and what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actome.analyze.expressions import parse_contrast
from actome.store.errors import ActomeError

NAMES = ["fr", "en", "de", "run[0]"]
CONDITIONS = ["fr", "en", "de"]


@pytest.mark.parametrize(
    ("expression", "weights"),
    [
        ("fr - en", [1, -1, 0, 0]),
        ("fr - mean(rest)", [1, -0.5, -0.5, 0]),
        ("fr - mean(de, en)", [1, -0.5, -0.5, 0]),
        ("mean(fr, en) - de", [0.5, 0.5, -1, 0]),
        ("2 * (fr - en) / 4", [0.5, -0.5, 0, 0]),
        ("-fr + +en * 1e1", [-1, 10, 0, 0]),
        ("`run[0]`", [0, 0, 0, 1]),
        ("fr - mean(rest) + `run[0]`", [1, -0.5, -0.5, 1]),
        ("mean(rest)", [1 / 3, 1 / 3, 1 / 3, 0]),
        (" \n fr ", [1, 0, 0, 0]),
    ],
)
def test_parse_contrast__reads(expression, weights):
    np.testing.assert_allclose(parse_contrast(expression, NAMES, CONDITIONS), weights)


@pytest.mark.parametrize(
    ("expression", "names", "weights"),
    [
        ("a - mean(rest)", ["a", "b", "rest"], [1, 0, -1]),
        ("a - mean(b, rest)", ["a", "b", "rest"], [1, -0.5, -0.5]),
        ("`is` - `not ours`", ["is", "not ours"], [1, -1]),
        ("`1` - `0`", ["0", "1"], [-1, 1]),
        ("True - False", ["False", "True"], [-1, 1]),
        ("True - mean(rest)", ["False", "None", "True"], [-0.5, -0.5, 1]),
        ("mean(rest) - x", ["x", "mean", "y[1]"], [-1, 0.5, 0.5]),
    ],
)
def test_parse_contrast__reads_awkward_names(expression, names, weights):
    np.testing.assert_allclose(parse_contrast(expression, names), weights)


@given(st.lists(st.floats(-5, 5).map(lambda w: round(w, 3)), min_size=3, max_size=3))
def test_parse_contrast__reads_back_any_weights(weights):
    text = " + ".join(f"{w:f} * {n}" for w, n in zip(weights, CONDITIONS, strict=True))
    np.testing.assert_allclose(parse_contrast(text, CONDITIONS), weights, atol=1e-12)


REFUSED = [
    "", "fr -", "fr fr", "fr.real", "fr[0]", "fr > en", "fr and en", "fr ** 2", "fr * en", "1 + fr",
    "fr / 0", "2 / fr", "lambda: fr", "[fr]", "fr if en else de", "'fr'", "__import__('os')",
    "__import__('os').getpid()", "open('f')", "max(fr, en)", "mean(fr, key=en)", "mean(1)", "mean(*fr)",
    "mean", "fr := en", "fr; en", "rest", "mean()", "1e999 * fr", "1" * 400 + " * fr", "1j * fr", "~fr",
    "fr = en", "3", "it - fr", "`fr", "`` - fr", "fr\0", "f'{fr}'", "(yield fr)",
]  # fmt: skip


@pytest.mark.parametrize("expression", REFUSED)
def test_parse_contrast__refuses(expression):
    with pytest.raises(
        ValueError, match=r"^contrast .*(cannot be read|unknown regressor|names no regressor|mean\(\) of)"
    ):
        parse_contrast(expression, NAMES, CONDITIONS)
    with pytest.raises(ActomeError):
        parse_contrast(expression, NAMES, CONDITIONS)


@given(st.text(max_size=12) | st.text("fren()*/-+ .,`[]1", max_size=12))
def test_parse_contrast__gives_weights_or_refuses_any_text(expression):
    try:
        weights = parse_contrast(expression, NAMES, CONDITIONS)
    except ActomeError:
        return
    assert weights.shape == (4,) and np.isfinite(weights).all()


def test_parse_contrast__refuses_bottomless_nesting():
    with pytest.raises(ValueError, match=r"cannot be read|nested too deeply"):
        parse_contrast("(" * 5000 + "fr" + ")" * 5000, NAMES)
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_contrast(" + ".join(["fr"] * 5000), NAMES)
