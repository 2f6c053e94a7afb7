"""Lesions against hooks set by hand; the phantom's planted networks."""

import numpy as np
import pytest
import torch
import xarray as xr

import actome
from actome.store.errors import InputError, InputTypeError


def logits(phantom):
    with torch.no_grad():
        return phantom.module(torch.arange(1, 11)[None]).logits


def by_hand(phantom, mask, change):
    handles = []
    for layer, block in enumerate(phantom.module.model.layers):
        where = torch.from_numpy(np.flatnonzero(mask[layer]))

        def hook(m, args, where=where, layer=layer):
            x = args[0].clone()
            x[..., where] = change(x[..., where], layer, where)
            return (x,)

        handles.append(block.mlp.down_proj.register_forward_pre_hook(hook))
    out = logits(phantom)
    for handle in handles:
        handle.remove()
    return out


@pytest.mark.parametrize(
    ("kind", "amount", "change"),
    [
        ("zero", None, lambda x, layer, where: torch.zeros_like(x)),
        ("scale", 3.0, lambda x, layer, where: 3 * x),
        ("add", -0.5, lambda x, layer, where: x - 0.5),
    ],
)
def test_lesion__equals_a_hook_set_by_hand_and_is_undone(model, phantom, kind, amount, change):
    mask = phantom.networks[0]
    before = logits(phantom)
    with actome.lesion(model, mask, kind=kind, amount=amount) as module:
        assert module is phantom.module
        inside = logits(phantom)
    torch.testing.assert_close(inside, by_hand(phantom, mask, change), rtol=0, atol=0)
    assert not torch.equal(inside, before)
    assert torch.equal(logits(phantom), before)


def test_lesion__mean_puts_in_the_mean_over_the_reference(model, phantom, tmp_path):
    reference = actome.record(model, phantom.paradigm, tmp_path / "r.zarr", dtype="float32")
    means = torch.from_numpy(reference.activation.mean(("prompt", "token")).values)
    mask = phantom.networks[1]
    with actome.lesion(model, mask, kind="mean", reference=reference):
        inside = logits(phantom)
    expected = by_hand(phantom, mask, lambda x, layer, where: means[layer, where].expand_as(x))
    torch.testing.assert_close(inside, expected, rtol=1e-4, atol=1e-5)


def test_lesion__is_undone_after_an_error(model, phantom):
    before = logits(phantom)
    with pytest.raises(RuntimeError, match="inside"), actome.lesion(model, phantom.networks[0]):
        raise RuntimeError("inside")
    assert torch.equal(logits(phantom), before)


def test_lesion__a_labelled_mask_goes_by_its_numbers(model, phantom):
    full = phantom.networks[0]
    part = xr.DataArray(full, dims=("layer", "neuron"), coords={"layer": range(3), "neuron": range(64)})
    part = part.isel(layer=[2, 1], neuron=slice(10, 40))
    spread = np.zeros_like(full)
    spread[1:, 10:40] = full[1:, 10:40]
    with actome.lesion(model, part):
        inside = logits(phantom)
    with actome.lesion(model, spread):
        torch.testing.assert_close(logits(phantom), inside, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("mask", "options", "error", "message"),
    [
        (np.zeros((3, 64)), {}, InputTypeError, "mask must be bool"),
        (np.zeros((3, 63), bool), {}, InputError, r"mask must have shape \(3, 64\)"),
        ([[True]], {}, InputTypeError, "DataArray or an array"),
        (
            xr.DataArray(np.zeros((2, 3, 64), bool), dims=("network", "layer", "neuron")),
            {},
            InputError,
            "select one network",
        ),
        (np.zeros((3, 64), bool), {"kind": "burn"}, InputError, "kind must be one of"),
        (np.zeros((3, 64), bool), {"kind": "scale"}, InputError, "needs `amount`"),
        (np.zeros((3, 64), bool), {"kind": "mean"}, InputError, "needs `reference`"),
        (np.zeros((3, 64), bool), {"seed": -1}, InputError, "seed must be at least 0"),
        (np.zeros((3, 64), bool), {"seed": 0.5}, InputTypeError, "seed must be a whole number"),
        (np.zeros((3, 64), bool), {"keep_only": 2}, InputTypeError, "keep_only must be True or False"),
        (np.zeros((3, 64), bool), {"kind": "add", "amount": np.nan}, InputError, "must be a finite number"),
    ],
)
def test_lesion__what_does_not_fit_is_refused(model, mask, options, error, message):
    with pytest.raises(error, match=message), actome.lesion(model, mask, **options):
        pass


@pytest.mark.parametrize("site", ["mlp_out", "residual"])
def test_lesion__of_an_output_changes_what_follows_and_is_undone(model, phantom, site):
    before = logits(phantom)
    mask = np.zeros((3, phantom.module.config.hidden_size), dtype=bool)
    mask[2] = True
    with actome.lesion(model, mask, site=site):
        inside = logits(phantom)
    assert not torch.equal(inside, before) and torch.equal(logits(phantom), before)


def test_lesion__the_reference_goes_by_its_numbers(model, phantom, tmp_path):
    reference = actome.record(model, phantom.paradigm, tmp_path / "r.zarr", dtype="float32")
    mask = phantom.networks[1]
    with actome.lesion(model, mask, kind="mean", reference=reference):
        expected = logits(phantom)
    turned = reference.isel(layer=[2, 0, 1], neuron=slice(None, None, -1))
    with actome.lesion(model, mask, kind="mean", reference=turned):
        torch.testing.assert_close(logits(phantom), expected)


def test_lesion__a_reference_that_does_not_fit_is_refused(model, phantom, tmp_path):
    reference = actome.record(
        model, phantom.paradigm, tmp_path / "r.zarr", sites=("residual", "mlp_out"), dtype="float32"
    )
    mask = np.ones((3, phantom.module.config.hidden_size), dtype=bool)
    for wrong, error, message in (
        (reference, InputError, "of the site 'residual', the lesion of 'mlp_out'"),
        (
            actome.open(tmp_path / "r.zarr", site="mlp_out").assign_coords(layer=[0, 1, 1]),
            InputError,
            "each layer from 0 to 2 once",
        ),
        ("r.zarr", InputTypeError, "reference must be a Dataset"),
    ):
        with (
            pytest.raises(error, match=message),
            actome.lesion(model, mask, site="mlp_out", kind="mean", reference=wrong),
        ):
            pass


def test_lesion__a_negative_number_is_no_layer(model, phantom):
    mask = xr.DataArray(
        phantom.networks[0], dims=("layer", "neuron"), coords={"layer": [-1, 0, 1], "neuron": range(64)}
    )
    with pytest.raises(InputError, match="negative"), actome.lesion(model, mask):
        pass


def test_lesion__keep_only_changes_all_others(model, phantom):
    mask = phantom.networks[0]
    with actome.lesion(model, mask, keep_only=True):
        inside = logits(phantom)
    expected = by_hand(phantom, ~mask, lambda x, layer, where: torch.zeros_like(x))
    torch.testing.assert_close(inside, expected, rtol=0, atol=0)


def test_lesion__a_list_and_a_nest_change_in_their_order(model, phantom):
    first, second = phantom.networks[0], phantom.networks.any(axis=0)
    add, scale = {"kind": "add", "amount": 1.0}, {"kind": "scale", "amount": 2.0}
    with actome.lesion(model, [{"mask": first, **add}, {"mask": second, **scale}]):
        listed = logits(phantom)
    with actome.lesion(model, first, **add), actome.lesion(model, second, **scale):
        nested = logits(phantom)
    with actome.lesion(model, [{"mask": second, **scale}, {"mask": first, **add}]):
        turned = logits(phantom)

    def change(x, layer, where):
        return 2 * (x + torch.from_numpy(first[layer, where.numpy()]).float())

    assert torch.equal(listed, nested) and not torch.equal(listed, turned)
    torch.testing.assert_close(listed, by_hand(phantom, second, change), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("lesions", "error", "message"),
    [
        ([], InputTypeError, "a list of lesions"),
        ([{"kind": "zero"}], InputError, "needs `mask`; got .*no mask"),
        ([{"mask": np.zeros((3, 64), bool), "kinds": 1}], InputError, "got .*kinds"),
        (
            [{"mask": np.zeros((3, 64), bool)}, {"mask": np.zeros((3, 3), bool)}],
            InputError,
            "must have shape",
        ),
    ],
)
def test_lesion__a_list_is_checked_before_any_of_it_is_applied(model, phantom, lesions, error, message):
    with pytest.raises(error, match=message), actome.lesion(model, lesions):
        pass
    assert not any(m._forward_pre_hooks for m in phantom.module.modules())


@pytest.mark.parametrize(
    "options", [{"kind": "noise", "amount": 0.5}, {"kind": "resample"}, {"kind": "noise"}]
)
def test_lesion__random_kinds_repeat_with_their_seed(model, phantom, tmp_path, options):
    if "amount" not in options:
        few = phantom.paradigm.select(run=0)
        options["reference"] = actome.record(model, few, tmp_path / "r.zarr", dtype="float32", index=False)
    runs = []
    for seed in (0, 0, 1):
        with actome.lesion(model, phantom.networks[0], seed=seed, **options):
            runs.append([logits(phantom), logits(phantom)])
    torch.testing.assert_close(runs[0], runs[1], rtol=0, atol=0)
    assert not torch.equal(runs[0][0], runs[0][1]) and not torch.equal(runs[0][0], runs[2][0])


def test_lesion__leaves_weights_and_hooks_bit_for_bit(model, phantom):
    before = {name: p.clone() for name, p in phantom.module.state_dict().items()}
    clean = logits(phantom)
    for site in ("mlp", "mlp_out", "attention_out", "residual"):
        rule = lambda layers, neurons: neurons % 2 == 0  # noqa: E731
        with pytest.raises(KeyError), actome.lesion(model, rule, site=site, kind="add", amount=3.0):
            assert not torch.equal(logits(phantom), clean)
            raise KeyError
        assert torch.equal(logits(phantom), clean)
    assert all(torch.equal(p, before[name]) for name, p in phantom.module.state_dict().items())
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in phantom.module.modules())
