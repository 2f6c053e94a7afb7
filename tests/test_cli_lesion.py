"""`actome lesion`: scores, the effects that are saved beside them, and what is printed of these."""

import re

import numpy as np
import pytest
import xarray as xr

import actome
from actome.ingest.phantom import phantom_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model, texts to score, and masks of its first network."""
    folder, made = tmp_path_factory.mktemp("given"), phantom_model()
    made.module.save_pretrained(folder / "m")
    made.tokenizer.save_pretrained(folder / "m")
    few = made.paradigm.table.query("run == 0").groupby("condition").head(2)
    rows = few[["text", "condition"]].to_numpy().tolist()
    prompts = "".join(f"  - {{text: {text}, condition: {condition}}}\n" for text, condition in rows)
    (folder / "texts.yaml").write_text(f"name: t\nprompts:\n{prompts}")
    dims, known = ("network", "layer", "neuron"), {"selected_on": []}
    masks = xr.DataArray(made.networks[:1], dims=dims, coords={"network": ["a"]}, name="mask", attrs=known)
    actome.save_result(masks.assign_coords(layer=range(3), neuron=range(64)), folder / "masks.zarr")
    return folder


@pytest.fixture
def lesion(call, folder, tmp_path):
    """Run the command on them, with one control, into ``s.zarr``."""

    def inner(*options):
        given = (folder / "m", folder / "texts.yaml", folder / "masks.zarr")
        return call("lesion", *given, "--controls", 1, "--device", "cpu", "-o", tmp_path / "s.zarr", *options)

    return inner


def test_lesion__saves_and_prints_effects_by_every_metric(lesion, call, tmp_path):
    options = ("--hits", "--kl", "--max-new-tokens", 2)
    status, printed, err = lesion(*options, "--part", "0/1")
    assert status == 0, err
    scores = actome.open(tmp_path / "s.zarr")
    for name, metric in (("effects", "loss"), ("effects-hit", "hit"), ("effects-kl", "kl")):
        saved = actome.open(tmp_path / f"s-{name}.zarr")
        assert saved.attrs["metric"] == metric and saved.attrs["source"] == scores.attrs["manifest_digest"]
        expected = actome.lesion_effects(scores, metric=metric)
        np.testing.assert_array_equal(saved["effect"], expected["effect"])
        own = expected.sel(network="a", condition="a")
        value, low, high = (f"{float(own[v]):z.3f}" for v in ("effect", "low", "high"))
        assert f"{value} ({low} to {high}; p 0.50)" in printed
        assert f"{metric}: harm beyond the whole model" in printed
        assert f"a for a: {float(expected['selectivity'][0]):z.3f} (" in printed
    assert "holds what the model wrote" in printed
    made = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    assert lesion(*options, "--part", "0/1")[:2] == (0, printed)
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()} == made


def test_lesion__of_several_doses_saves_the_response_of_all(lesion, tmp_path):
    status, printed, err = lesion("--kind", "scale", "--amount", 0, "--amount", 0.5)
    assert status == 0, err
    saved = actome.open(tmp_path / "s-effects.zarr")
    assert saved.attrs["kind"] == "dose_response" and saved["dose"].values.tolist() == [0.0, 0.5]
    assert "amount 0\n" in printed and "amount 0.5\n" in printed
    assert "slope, per unit of distance from 1" in printed
    assert f"{float(saved['slope'].sel(network='a', condition='a')):z.3f}  " in printed


def test_lesion__that_keeps_networks_saves_what_is_preserved(lesion, call, tmp_path):
    status, printed, err = lesion("--keep-only")
    assert status == 0, err
    saved = actome.open(tmp_path / "s-effects.zarr")
    assert saved.attrs["kind"] == "preservation" and (saved["p_value"].sel(condition="a") == 0.5).all()
    assert re.search(r"a \(12 neurons kept\) a +0\.0", printed) and "holds up better" in printed
    page = tmp_path / "r.html"
    assert call("report", tmp_path / "s.zarr", "-o", page)[0] == 0
    text = page.read_text()
    assert "The networks are kept; all other neurons are silenced." in text and ">removed<" not in text


def test_lesion__refuses_before_any_work(lesion, tmp_path):
    status, _, err = lesion("--kind", "scale")
    assert status == 2 and "needs `amount`" in err
    actome.save_result(xr.Dataset(attrs={"kind": "result"}), tmp_path / "s-effects-hit.zarr")
    status, _, err = lesion()
    assert status == 2 and "s-effects-hit.zarr holds a result already" in err
    assert not (tmp_path / "s.zarr").exists()


def test_lesion__never_takes_other_effects_for_its_own(lesion, tmp_path):
    assert lesion()[0] == 0
    path = tmp_path / "s-effects.zarr"
    other = actome.open(path).load().assign_attrs(source="sha256:1")
    path.rename(tmp_path / "old.zarr")
    actome.save_result(other, path)
    status, _, err = lesion()
    assert status == 2 and "holds something else than the effects of" in err


def test_lesion__where_scores_some_texts_alone(lesion, tmp_path):
    status, _, err = lesion("--where", "condition=b")
    assert status == 0, err
    assert actome.open(tmp_path / "s.zarr")["prompt"].to_numpy().tolist() == ["b-0000", "b-0001"]
    status, _, err = lesion("--where", "word=b")
    assert status == 2 and "--where takes LABEL=VALUE of a label in ['block', 'condition'" in err
