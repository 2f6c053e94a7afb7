"""One row a component: how sure, what it follows, what it looks like, what it shares."""

import numpy as np
import pytest
import xarray as xr

from actome.analyze.components.networks import networks
from actome.analyze.overlap import overlap

from .test_components_section import certain
from .test_report import components, page


@pytest.fixture
def found() -> xr.Dataset:
    return certain(components()).assign_attrs(title="words", source=["sha256:1"])


def labels(**attrs) -> xr.Dataset:
    r = np.array([[-0.62, 0.31], [0.1, 0.0], [0.0, 0.2]])
    return xr.Dataset(
        {
            "correlation": (("component", "condition"), r),
            "p_corrected": (("component", "condition"), np.where(np.abs(r) > 0.3, 0.01, 1.0)),
            "label": ("component", np.array(["fr", "", ""], dtype=object)),
            "label_sign": ("component", [-1, 0, 0]),
            "map_correlation": (("component", "contrast"), r),
            "map_label": ("component", np.array(["fr", "fr", "de"], dtype=object)),
        },
        coords={"component": np.arange(3), "condition": ["fr", "de"], "contrast": ["fr", "de"]},
        attrs={"kind": "component_labels", "title": "words", "source": ["sha256:1"]} | attrs,
    )


def test_report__says_in_a_row_what_each_component_follows_and_looks_like(found, tmp_path):
    masks = networks(found, keep_all=True).assign_attrs(title="words")
    other = masks[:1].assign_coords(network=["fr"]).drop_attrs()
    shared = overlap(masks, other, null="layers").assign_attrs(title="words")
    shown = page(found, labels(), masks, shared, out=tmp_path / "r.html")
    assert "falls in fr (\u22120.62)" in shown.text and "de (0.20)" in shown.text
    assert "1 beat chance: ic0 falls in fr (\u22120.62); of the other 2, 0 follow" in shown.text
    n = int(masks[0].sum())
    assert f"fr: {n} of {n}, " in shown.text
    for meaning in ("Follows: the condition", "Map most like: the contrast", "Shares most with: the network"):
        assert meaning in shown.text


@pytest.mark.parametrize("other", [{"title": "sums"}, {"source": ["sha256:2"]}])
def test_report__takes_no_labels_of_another_decomposition(found, other, tmp_path):
    shown = page(found, labels(**other), out=tmp_path / "r.html")
    assert "falls in fr" not in shown.text and "follow a condition" not in shown.text


def test_report__a_single_run_shows_the_stability_of_what_repeats_find(tmp_path):
    single = components().assign(found_again=("component", [0.99, 0.5, np.nan]))
    shown = page(single, out=tmp_path / "r.html")
    assert "found again" in shown.text and "the map itself is of a single run" in shown.text


def test_report__takes_the_masks_that_saved_contrasts_bring_along(tmp_path):
    z = np.linspace(-4, 4, 64).reshape(1, 4, 16)
    dims = ("network", "layer", "neuron")
    saved = xr.Dataset(
        {"stat": (dims, z), "z_score": (dims, z), "mask": (dims, z > 3)},
        coords={"network": ["fr - de"]},
        attrs={"kind": "contrast", "control": "fdr", "alpha": 0.05},
    )
    shown = page(saved, out=tmp_path / "r.html")
    assert "1 network (fdr, alpha = 0.05), its size out of 64 neurons: fr - de 8." in shown.text
    assert "8 neurons kept" in shown.text and "none of them thresholded" not in shown.text


def test_report__folds_the_attributes_of_many_results_away(found, tmp_path):
    few, many = (page(*[found] * n, out=tmp_path / "r.html") for n in (12, 13))
    assert "details" in many.tags and "Components 13: words" in many.text
    assert few.text.count("Components 12: words") == 1
