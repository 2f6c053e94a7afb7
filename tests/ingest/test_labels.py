"""Labels of the prompts never stand in the way of what a result holds."""

import numpy as np
import pytest
import xarray as xr

import actome
from actome.ingest.labels import NAMES, OF_CHOICES, OF_PROBE, check_labels
from actome.ingest.parameters import find_parameters
from actome.ingest.regions.scores import score_regions
from actome.ingest.regions.sweep import sweep
from actome.ingest.regions.training import train_frozen
from actome.store.errors import InputError


@pytest.fixture
def region(phantom):
    """The first row of every matrix."""
    nodes = {"/": xr.Dataset(coords={"region": np.array(["r"], dtype=object)}, attrs={"selected_on": []})}
    for p in find_parameters(phantom.module):
        mask = np.arange(p.shape[0])[None, :, None] == np.zeros((1, 1, p.shape[1]))
        nodes[p.name] = xr.Dataset({"mask": (("region", "row", "column"), mask)})
    return xr.DataTree.from_dict(nodes)


@pytest.fixture
def places():
    """The first weight of a matrix."""
    tensor = np.array(["model.layers.0.mlp.gate_proj.weight"], dtype=object)
    where = {"tensor": tensor, "row": np.array([0]), "column": np.array([0])}
    return xr.Dataset({k: ("place", v) for k, v in where.items()}, attrs={"selected_on": []})


@pytest.fixture
def questions(few):
    table = few.table.assign(choices="a1 | a2", answer="a1", item=["x", "x", "y", "y"], subject="s")
    return actome.Paradigm(table)


def with_label(paradigm, name):
    return actome.Paradigm(paradigm.table.assign(**{name: "v"}))


def is_refused(name, result, also):
    """Whether no paradigm may have the label, or none that makes this result."""
    try:
        check_labels(actome.Paradigm([{"text": "t", name: "v"}]), result, also)
    except InputError:
        return True
    return False


def test_check_labels__all_that_a_result_holds_is_reserved(
    model, questions, masks, region, places, phantom, tmp_path
):
    asked = {"kind": "scale", "amount": [0.0, 2.0], "untrained": 1, "hits": True, "kl": True}
    probe = actome.Paradigm(questions.table.assign(correct=[1, 0, 1, 0]))
    plain = actome.Paradigm(questions.table.drop(columns="item"))
    training = {"texts": phantom.paradigm.select(run=1), "steps": 1, "arms": ["random"], "probe": probe}
    for result, also, ds in (
        ("scores", OF_CHOICES, actome.score(
            model, questions, tmp_path / "a", masks[:1], controls=1, max_new_tokens=1, **asked)),
        ("region_scores", (), score_regions(model, questions, tmp_path / "b", region, controls=1)),
        ("region_sweep", ("tensor", "row", "column"), sweep(
            model, questions, tmp_path / "c", places, factors=[0])),
        ("training", OF_PROBE, train_frozen(model, plain, tmp_path / "d", region, **training)),
    ):  # fmt: skip
        own = {str(v) for v in (*ds.variables, *ds.dims)}
        assert "subject" in own and "condition" in own
        assert NAMES[result] <= own and {n for n in own if not is_refused(n, result, also)} <= set(
            questions.table
        )


def test_score__labels_that_it_needs_itself_are_refused_before_any_work(few, masks, questions, tmp_path):
    for paradigm, name in ((few, "dose"), (few, "network"), (few, "target"), (questions, "correct")):
        with pytest.raises(InputError, match=rf"columns \['{name}'\] of the paradigm are reserved"):
            actome.score("no such model", with_label(paradigm, name), tmp_path / "s.zarr", masks)
    assert not (tmp_path / "s.zarr").exists()


def test_score__a_label_that_only_choices_would_need_is_kept(model, few, masks, tmp_path):
    scores = actome.score(model, with_label(few, "correct"), tmp_path / "s.zarr", masks, controls=0)
    assert scores["correct"].values.tolist() == ["v"] * 4


def test_regions__labels_that_they_need_themselves_are_refused_before_any_work(few, region, places, tmp_path):
    out = tmp_path / "s.zarr"
    for name, call in (
        ("size", lambda p: score_regions("no such model", p, out, region)),
        ("tensor", lambda p: sweep("no such model", p, out, places)),
        ("loss", lambda p: sweep("no such model", p, out, places)),
        ("step", lambda p: train_frozen("no such model", p, out, region, texts=few)),
        ("item", lambda p: train_frozen("no such model", p, out, region, texts=few, probe=few)),
    ):
        with pytest.raises(InputError, match=rf"columns \['{name}'\] of the paradigm are reserved"):
            call(with_label(few, name))
    assert not out.exists()
