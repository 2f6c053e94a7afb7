"""The sections on regions of parameters: what is shown of results of every kind."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from statsmodels.stats.proportion import proportion_confint

import actome
from actome.analyze.report.forgetting import _mean, _wilson
from actome.store.errors import InputError

from .test_report import page

LANGUAGES = ["a", "b"]


def effects(names, roles, effect, draws=2):
    effect = np.asarray(effect, dtype=float)
    n, dims = len(names), ("region", "condition")
    control = np.full((n, draws, 2), 0.1)
    return xr.Dataset(
        {
            "effect": (dims, effect),
            "low": (dims, effect - 0.1),
            "high": (dims, effect + 0.1),
            "perplexity": (dims, 10 * np.exp(effect)),
            "perplexity_baseline": ("condition", [10.0, 10.0]),
            "control": (("region", "draw", "condition"), control),
            "p_value": (dims, np.full((n, 2), 0.25 if draws else np.nan)),
            "n_controls": ("region", [draws] * n),
            "size": ("region", [1234] * n),
        },
        coords={
            "region": names, "role": ("region", roles), "top": ("region", [0.01] * n), "condition": LANGUAGES,
        },
        attrs={"kind": "region_effects", "by": "condition", "lesion": "zero"},
    )  # fmt: skip


@pytest.fixture
def out(tmp_path):
    return tmp_path / "report.html"


def test_regions__shows_the_table_of_what_the_regions_are(out):
    core = effects(["top 1%", "bottom 1%"], ["top", "bottom"], [[1, 2], [0, 0]])
    own = effects(LANGUAGES, ["monolingual"] * 2, np.eye(2) * 0.5)
    parts = effects(["top 1%/q", "top 1%/k"], ["top"] * 2, [[1, 2], [0, 0]])
    some = effects(["mine"], [""], [[0.7, 0.8]], draws=0)
    shown = page(core, own, parts, some, out=out)
    assert shown.sections == ["summary", "regions", "provenance"]
    assert "27.2" in shown.text and "73.9" in shown.text  # 10 e, 10 e^2
    assert f"{10 * np.exp(1.5):.1f}" in shown.text  # geometric mean
    assert "1.65" in shown.text and "that one condition alone rests on" in shown.text
    assert "the region “top 1%” in one type of matrix" in shown.text
    assert "There are no random regions beside them" in shown.text and "0.700" in shown.text
    assert "1.00 nats per token above the base, 0.900 to 1.10; p 0.25" in out.read_text(encoding="utf-8")


def test_regions__what_the_model_wrote_without_each_region_is_shown(out):
    written = [["ein Haus", "une maison"], ["Haus Haus", "maison"], ["hier", "ici"]]
    scores = xr.Dataset(
        {"completion": (("lesion", "prompt"), np.array(written, dtype=object))},
        coords={
            "prompt": ["p0", "p1"], "condition": ("prompt", ["de", "fr"]),
            "role": ("lesion", ["baseline", "target", "control"]), "target": ("lesion", ["", "core", "core"]),
        },
        attrs={"kind": "region_scores"},
    )  # fmt: skip
    shown = page(scores, out=out)
    assert "regions" in shown.sections and "Haus Haus" in shown.text and "none (baseline)" in shown.text
    assert "ici" not in shown.text
    with pytest.raises(InputError, match=r"of kind 'region_scores' but lacks \['completion'\]"):
        actome.report(scores.drop_vars("completion"), out=out)


def test_regions__overlap_stands_beside_chance(out):
    dims = ("region", "region_other")
    ds = xr.Dataset(
        {"jaccard": (dims, [[1, 0.25], [0.25, 1]]), "intersection": (dims, [[10, 4], [4, 10]]),
         "expected": (dims, [[1.0, 2.0], [2.0, 1.0]])},
        coords={"region": LANGUAGES, "region_other": LANGUAGES},
        attrs={"kind": "region_overlap", "title": "two of mine"},
    )  # fmt: skip
    text = page(ds, out=out).text
    assert "0.25" in text and "2.00 \u00d7" in text and "Jaccard index of two of mine" in text


def test_dimensions__say_where_no_probability_is_left(out):
    effect = np.array([[0.5, np.nan], [0.0, 0.1]])[:, :, None] * np.ones(2)
    labels = {"role": ["top", "random"], "tensor": ["x.weight"] * 2, "row": [3, 4], "column": [-1, -1]}
    ds = xr.Dataset(
        {"effect": (("place", "factor", "condition"), effect),
         "low": (("place", "factor", "condition"), effect - 0.1),
         "high": (("place", "factor", "condition"), effect + 0.1),
         "perplexity": (("place", "factor", "condition"), 10 * np.exp(effect)),
         "perplexity_baseline": ("condition", [10.0, 10.0])},
        coords={"factor": [0.0, 4.0], "condition": LANGUAGES} | {k: ("place", v) for k, v in labels.items()},
        attrs={"kind": "sweep_effects", "by": "condition", "along": "row"},
    )  # fmt: skip
    text = page(ds, out=out).text
    assert "16.5" in text and "some token has no probability left" in text and "\u00d7 4" in text
    assert "a 0.500 (0.400 to 0.600)" in out.read_text(encoding="utf-8")
    assert "no probability left" not in page(ds.isel(factor=[0]), out=out).text


def test_forgettings__show_the_arms_with_or_without_a_probe(out):
    effect = np.zeros((2, 2, 2))
    effect[:, 1] = [[0.5, -0.5], [0.25, -0.5]]
    dims = ("arm", "step", "condition")
    ds = xr.Dataset(
        {v: (dims, effect + shift) for v, shift in (("effect", 0), ("low", -0.1), ("high", 0.1))}
        | {"perplexity": (dims, 10 * np.exp(effect)), "perplexity_baseline": ("condition", [10.0, 10.0])},
        coords={"arm": ["none", "region"], "step": [0, 5], "condition": LANGUAGES},
        attrs={"kind": "forgetting", "by": "condition", "trained_on": "b"},
    )
    shown = page(ds, out=out)
    assert shown.sections == ["summary", "forgetting", "provenance"]
    assert "nothing frozen" in shown.text and "16.5" in shown.text and "6.07" in shown.text
    assert "knowledge against language" not in shown.text
    assert "mean of the others" in shown.text and "b, trained on" in shown.text
    excess = {v: (dims, effect - effect[1] + shift) for v, shift in (("excess", 0), ("excess_low", -0.1))}
    beside = ds.assign(excess | {"excess_high": (dims, effect - effect[1] + 0.1)})
    html = Path(actome.report(beside, out=out)).read_text(encoding="utf-8")
    assert html.count("more than with the region frozen") == 2
    assert "0.250 more than with the region frozen" in html
    asked = ds.assign(accuracy=(("arm", "step"), [[0.5, 0.25], [0.5, 0.5]]))
    text = page(asked, out=out).text
    assert "knowledge against language" in text and "25.0 %" in text


def test_mean__of_several_conditions_has_the_interval_of_independent_parts():
    rng = np.random.default_rng(0)
    draws = rng.normal(size=(100_000, 3)) * [1.0, 2.0, 0.5]
    low, high = np.quantile(draws, [0.025, 0.975], axis=0)
    dims = ("arm", "step", "condition")
    parts = {"effect": np.zeros((1, 1, 3)), "low": low.reshape(1, 1, 3), "high": high.reshape(1, 1, 3)}
    ds = xr.Dataset({name: (dims, values) for name, values in parts.items()})
    mean, ends = _mean(ds, "condition", np.ones(3, dtype=bool))
    assert mean.item() == 0
    np.testing.assert_allclose(np.ravel(ends), np.quantile(draws.mean(axis=1), [0.025, 0.975]), rtol=0.02)


def test_wilson__is_that_of_statsmodels():
    shares = np.array([0.0, 0.8, 1.0])
    wanted = [proportion_confint(round(10 * s), 10, method="wilson") for s in shares]
    np.testing.assert_allclose(np.transpose(_wilson(shares, 10)), wanted, atol=1e-12)
