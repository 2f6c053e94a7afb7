"""The report's sections of networks across samples and models: recurrence, fingerprints."""

import numpy as np
import pytest
import xarray as xr

from actome.analyze.components.networks import networks
from actome.analyze.report.gather import Map, Network, matching

from .test_report import EVIL, components, page


@pytest.fixture
def out(tmp_path):
    return tmp_path / "report.html"


def recurrence(n=3, n_subjects=20, **attrs) -> xr.Dataset:
    found = 7 * np.arange(n) + 1
    expected = np.full(n, 0.25)
    return xr.Dataset(
        {
            "components": ("network", found),
            "samples": ("network", np.minimum(found, n_subjects)),
            "expected_components": ("network", expected),
            "expected_samples": ("network", expected),
            "p_components": ("network", np.where(found > 1, 0.001, 1.0)),
            "p_samples": ("network", np.where(found > 1, 0.001, 1.0)),
            "stability": ("network", np.append(0.91, np.full(n - 1, np.nan))),
            "is_network": ("network", np.arange(n) > 0),
            "size": ("network", np.full(n, 1234)),
        },
        coords={"network": [f"ic{i}" for i in range(n)], "subject": np.arange(n_subjects)},
        attrs={"kind": "recurrence", "jaccard": 0.2, "title": "words", "assumption": "anywhere"} | attrs,
    )


def published() -> xr.Dataset:
    counts = {"components": ("network", np.array([208, 4]))}
    attrs = {"kind": "recurrence", "published": True, "n_samples": 100, "title": "GPT-2, Wiki"}
    return xr.Dataset(counts, coords={"network": ["1", "2"]}, attrs=attrs)


def fingerprint(verdict="related", null="unrelated", n=3, **attrs) -> xr.Dataset:
    names = np.array([f"ic{i}" for i in range(n)], dtype=object)
    correlation = np.where(np.eye(n)[::-1] > 0, -0.8, 0.1)
    return xr.Dataset(
        {
            "score": 0.83,
            "share": 0.95,
            "p_value": 0.04,
            "critical": 0.2,
            "null": ("draw", np.linspace(0, 0.3, 24)),
            "correlation": (("network", "network_other"), correlation),
            "partner": ("network", names[::-1]),
            "partner_correlation": ("network", np.full(n, -0.8)),
            "matched": ("network", np.ones(n, dtype=bool)),
            "size": ("network", np.full(n, 4321)),
            "size_other": ("network_other", np.arange(n) + 50),
        },
        coords={"network": names, "network_other": names},
        attrs={
            "kind": "fingerprint",
            "verdict": verdict,
            "null": null,
            "alpha": 0.05,
            "source_name": ["own", "theirs"],
            "n_prompts": 7,
            "n_stretches": 1500,
            "assumption": "none",
        }
        | attrs,
    )


def test_report__sets_recurrence_beside_what_was_published(out):
    shown = page(recurrence(), published(), out=out)
    assert shown.sections == ["summary", "recurrence", "provenance"]
    assert "words: 1 to 15 matching components; 2 of 3 templates in more samples than by chance" in shown.text
    assert "GPT-2, Wiki: " not in shown.text.split("Provenance")[0]
    for text in ("208", "more than 0.2 of the neurons", "Chance: anywhere.", "1,234", "0.91", "0.25", "yes"):
        assert text in shown.text
    assert out.read_text(encoding="utf-8").count("data:image/png") == 2


def test_matching__never_takes_the_network_of_another_decomposition():
    values = np.linspace(-1, 4, 8, dtype=np.float32).reshape(2, 4)
    own, other = (
        Network("ic0", values > limit, "", False, [0, 1], title=t) for t, limit in (("a", 3), ("b", 9))
    )
    found = Map("ic0", frozenset({"ic0"}), values, values, [0, 1], title="a")
    assert matching(found, [[other], [own]]) is own and matching(found, [[other]]) is None
    untitled = Map("ic0", frozenset({"ic0"}), values, values, [0, 1])
    assert matching(untitled, [[other], [own]]) is other


def test_report__names_each_of_several_decompositions(out):
    first, second = (components().assign_attrs(title=t) for t in ("of words", "of sums"))
    masks = [networks(c).assign_attrs(title=c.attrs["title"]) for c in (first, second)]
    shown = page(first, second, *masks, out=out)
    for text in ("of sums: 3 components, stability",):
        assert text in shown.text


def test_report__recurrence_without_chance_or_names_still_shows(out):
    bare = recurrence(n_subjects=0)[["components"]].drop_attrs().assign_attrs(kind="recurrence")
    shown = page(bare, recurrence(title=EVIL), out=out)
    assert shown.sections == ["summary", "recurrence", "provenance"]
    assert EVIL in shown.text and "script" not in shown.tags


@pytest.mark.parametrize(
    ("verdict", "null", "said"),
    [
        ("related", "unrelated", "theirs is more like own than models known to be unrelated are"),
        ("alike", "shuffled", "Models that answer to the same words do so whatever their origin"),
        ("not shown", "shuffled", "theirs is no more like own than chance gives"),
        ("cannot say", "unrelated", "too few different scores for a false positive rate of 0.05"),
    ],
)
def test_report__states_what_a_fingerprint_shows(verdict, null, said, out):
    shown = page(fingerprint(verdict, null), out=out)
    assert shown.sections == ["summary", "fingerprint", "provenance"]
    kind = {"unrelated": "unrelated models", "shuffled": "shuffled texts"}[null]
    assert said in shown.text and f"among 24 scores of {kind}" in shown.text
    for text in ("0.830", "95.0 %", "p = 0.040", "4,321", "52", "1,500 stretches"):
        assert text in shown.text


def test_report__fingerprint_without_partners_or_a_critical_score_still_shows(out):
    ds = fingerprint("cannot say", source_name=["", ""])
    ds["partner"][:] = ""
    ds["partner_correlation"][:] = np.nan
    ds["correlation"][:] = np.nan
    shown = page(ds.assign(critical=np.nan, null=("draw", np.empty(0))), out=out)
    assert "the first model" in shown.text and "of which it must exceed" not in shown.text


SETS = ["words", "sums"]


def across(**attrs) -> xr.Dataset:
    dims = ("data_set", "data_set_other", "network")
    components = np.array([[[9.0, 4.0], [1.0, 0.0]], [[33.0, np.nan], [0.0, np.nan]]])
    return xr.Dataset(
        {
            "components": (dims, components),
            "samples": (dims, np.minimum(components, 8)),
            "expected_components": (dims, np.where(np.isnan(components), np.nan, 0.125)),
            "p_samples": (dims, np.where(np.isnan(components), np.nan, np.where(components > 3, 0.001, 1.0))),
            "n_samples": ("data_set_other", [10, 20]),
        },
        coords={"data_set": SETS, "data_set_other": SETS, "network": ["ic0", "ic1"]},
        attrs={"kind": "recurrence_across", "title": "good practice"} | attrs,
    )


def test_report__shows_templates_of_one_data_set_in_others(out):
    shown = page(across(), out=out)
    assert shown.sections == ["summary", "recurrence", "provenance"]
    for text in ("Across data sets, good practice", "2 of 2", "1 of 1", "0 of 1", "60.0 % of samples"):
        assert text in shown.text
    assert "sums in words" in shown.text and "33" in shown.text
    assert "0.125 by chance" in out.read_text(encoding="utf-8")


def test_report__across_data_sets_without_a_null_and_with_evil_names_still_shows(out):
    bare = across().drop_vars(["expected_components", "p_samples"])
    bare = bare.assign_coords(data_set=[EVIL, "sums"], data_set_other=[EVIL, "sums"])
    shown = page(bare, out=out)
    assert EVIL in shown.text and "script" not in shown.tags and "2 of 2" not in shown.text


def test_report__draws_the_sweep_of_a_recurrence(out):
    swept = recurrence().assign(
        sweep_samples=(("network", "threshold"), np.array([[9, 1]] * 3)),
        sweep_expected_samples=(("network", "threshold"), np.array([[2.0, 0.0]] * 3)),
    )
    shown = page(swept.assign_coords(threshold=[0.1, 0.3]), out=out)
    assert "one line a template" in shown.text
    assert out.read_text(encoding="utf-8").count("data:image/png") == 2
