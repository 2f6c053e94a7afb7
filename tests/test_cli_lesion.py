"""`actome lesion`: doses, what is kept beside log probabilities, parts."""

import xarray as xr

import actome
from actome.ingest.phantom import phantom_model


def test_lesion__doses_parts_and_readings(call, tmp_path):
    made = phantom_model()
    made.module.save_pretrained(tmp_path / "m")
    made.tokenizer.save_pretrained(tmp_path / "m")
    texts = tmp_path / "texts.yaml"
    texts.write_text("name: t\nprompts: [{text: a1 a2 a3, condition: a}, {text: a2 a1, condition: b}]\n")
    dims, known = ("network", "layer", "neuron"), {"selected_on": []}
    masks = xr.DataArray(made.networks[:1], dims=dims, coords={"network": ["a"]}, name="mask", attrs=known)
    masks = masks.assign_coords(layer=range(3), neuron=range(64))
    actome.save_result(masks, tmp_path / "masks.zarr")
    out = tmp_path / "s.zarr"
    common = (tmp_path / "m", texts, tmp_path / "masks.zarr", "--controls", 1, "--device", "cpu", "-o", out)
    options = ("--kind", "scale", "--amount", 0, "--amount", 0.5, "--hits", "--kl", "--keep-only")
    status, printed, err = call("lesion", *common, *options, "--part", "0/1")
    assert status == 0, err
    assert "amount 0\n" in printed and "amount 0.5\n" in printed
    assert "(p " in printed  # of its control
    scores = actome.open(out)
    assert {"hit", "kl"} <= set(scores.data_vars) and scores.sizes["lesion"] == 5
    assert scores.attrs["inputs"]["keep_only"] is True
    status, _, err = call("lesion", *common, "--kind", "scale")
    assert status == 2 and "needs `amount`" in err
