"""Commands that find networks: several recordings and methods, thresholds, masks that are kept."""

import numpy as np
import pytest

import actome
from actome.store.archive import save
from actome.store.phantom import phantom

FAST = ("-k", 3, "--runs", 2, "--null", 0)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Two data sets shown to one made-up model."""
    folder = tmp_path_factory.mktemp("recordings")
    ds = phantom(
        n_prompts=6, n_tokens=(50, 60), n_layers=2, n_neurons=60, effect=0.0, n_networks=3, network_gain=4.0,
        seed=1,
    )  # fmt: skip
    halves = {"one": ds.isel(prompt=slice(0, 9)), "two": ds.isel(prompt=slice(9, 18))}
    return [save(own, folder / f"{name}.zarr") for name, own in halves.items()]


@pytest.fixture(scope="module")
def components(recordings, tmp_path_factory):
    found = actome.group_ica(actome.open(recordings[0]), n_components=3, n_runs=2, null=0)
    return actome.save_result(found, tmp_path_factory.mktemp("components") / "c.zarr")


@pytest.fixture(scope="module")
def masks(components, tmp_path_factory):
    kept = actome.networks(actome.open(components), actome.Top(0.05))
    return actome.save_result(kept, tmp_path_factory.mktemp("masks") / "m.zarr")


def test_ica__takes_data_sets_as_subjects(call, recordings, tmp_path):
    out = tmp_path / "i.zarr"
    status, _, error = call("ica", *recordings, *FAST, "--subject", "recording", "-o", out)
    assert status == 0, error
    given = [actome.open(r) for r in recordings]
    expected = actome.group_ica(given, n_components=3, subject="recording", n_runs=2, null=0)
    saved = actome.open(out)
    np.testing.assert_array_equal(saved["component_map"], expected["component_map"])
    assert saved.attrs["n_subjects"] == 2
    assert set(saved.attrs["derived_from"]) == {ds.attrs["manifest_digest"] for ds in given}


@pytest.mark.parametrize(
    ("method", "how", "options"),
    [
        ("pca", (), {}),
        ("dictionary", ("--sparsity", 0.5), {"sparsity": 0.5}),
        ("nmf", ("--epochs", 2), {"n_epochs": 2}),
    ],
)
def test_ica__takes_other_methods(call, recordings, tmp_path, method, how, options):
    status, printed, error = call(
        "ica", recordings[0], "-k", 3, "--runs", 2, "--method", method, *how, "-o", tmp_path / "i.zarr"
    )
    assert status == 0, error
    assert printed.endswith(
        "taken for granted: every component is more than chance: none was compared with it\n"
    )
    ds = actome.open(recordings[0])
    expected = actome.decompose(ds, method=method, n_components=3, n_runs=2, **options)
    np.testing.assert_allclose(actome.open(tmp_path / "i.zarr")["component_map"], expected["component_map"])


def test_networks__keeps_masks_and_prints_what_they_are_like(call, components, tmp_path):
    out = tmp_path / "m.zarr"
    how = ("--threshold", "Top(0.1)", "--two-sided")
    status, printed, error = call("networks", components, *how, "-o", out)
    assert status == 0, error
    found = actome.open(components)
    expected = actome.networks(found, actome.Top(0.1), two_sided=True)
    np.testing.assert_array_equal(actome.open(out)["mask"], expected)
    assert actome.open(out).attrs["control"] == "Top(fraction=0.1)"
    lines = printed.splitlines()
    assert [line.split()[:2] for line in lines[2:5]] == [[f"ic{i}", "12"] for i in range(3)]
    dice = actome.overlap(expected)["dice"].to_numpy() - np.eye(3)
    assert lines[2].split()[-1] == f"{dice[0].max():.2f}" and lines[5].startswith("hubs, in more networks")


def test_networks__takes_components_that_did_not_beat_the_null_where_asked_for(call, components, tmp_path):
    chance = actome.open(components).load().assign(is_network=("component", [False] * 3))
    path = actome.save_result(chance, tmp_path / "chance.zarr")
    status, _, error = call("networks", path, "-o", tmp_path / "m.zarr")
    assert status == 2 and "none of its components beats the null; --all takes all" in error
    assert call("networks", path, "--all", "-o", tmp_path / "m.zarr")[0] == 0
    assert actome.open(tmp_path / "m.zarr").sizes["network"] == 3


def test_recurrence__makes_networks_as_asked_for_or_as_the_templates_were(
    call, recordings, components, masks, tmp_path
):
    given = {"asked": (components, "--threshold", "Top(0.05)"), "as made": (masks,)}
    for name, (templates, *how) in given.items():
        out = tmp_path / f"{name}.zarr"
        status, _, error = call("recurrence", recordings[1], "-t", templates, *how, "--draws", 9, "-o", out)
        assert status == 0, error
        controls = [actome.open(out).attrs[k] for k in ("control", "control_individuals")]
        assert controls == ["Top(fraction=0.05)"] * 2
    counts = [actome.open(tmp_path / f"{name}.zarr")["components"] for name in given]
    np.testing.assert_array_equal(*counts)


def test_connectivity__averages_the_neurons_that_a_threshold_keeps(
    call, recordings, components, masks, tmp_path
):
    out = tmp_path / "k.zarr"
    status, _, error = call(
        "connectivity", recordings[1], "-n", components, "--threshold", "Top(0.05)", "-o", out
    )
    assert status == 0, error
    courses = actome.network_time_courses(actome.open(recordings[1]), actome.open(masks)["mask"].load())
    np.testing.assert_allclose(actome.open(out)["correlation"], actome.connectivity(courses)["correlation"])


def test_overlap__takes_a_threshold_for_components(call, components, masks):
    status, printed, error = call("overlap", components, masks, "--threshold", "Top(0.05)")
    assert status == 0, error
    for i, line in enumerate(printed.splitlines()[-3:]):
        assert float(line.split()[1 + i]) == 1.0
    assert call("overlap", components, "--threshold", "Top(0.2)")[1] != call("overlap", components)[1]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("ica", "{r}", "--method", "svd"), "method must be 'ica', 'pca', 'dictionary' or 'nmf', got 'svd'"),
        (("ica", "{r}", "--method", "pca", "--window", "2"), "method 'pca' takes no window"),
        (("ica", "{r}", "--method", "pca", "-k", "0.5"), "must be a whole number, got 0.5"),
        (("ica", "{r}", "--sparsity", "2"), "--sparsity is for --method dictionary, not ica"),
        (("ica", "{r}", "--method", "pca", "--epochs", "2"), "--epochs is for --method nmf, not pca"),
        (("ica", "{r}", "-k", "2e0"), "as a share of the variance must lie between 0 and 1, got 2.0"),
        (("ica", "{r}", "{c}"), "is no recording but a saved result (components)"),
        (("networks", "{m}"), "holds no components of a group"),
        (("networks", "{c}", "--threshold", "P(0.05)"), "a threshold of maps is Z(3.6)"),
        (("connectivity", "{r}", "-n", "{m}", "--threshold", "Z(2)"), "m.zarr holds none; leave them out"),
    ],
)
def test_commands__refuse_a_wrong_input_and_write_nothing(
    call, recordings, components, masks, tmp_path, args, message
):
    named = (a.format(r=recordings[0], c=components, m=masks) for a in args)
    status, printed, error = call(*named, "-o", tmp_path / "out.zarr")
    assert status == 2 and printed == "" and error.count("\n") == 1
    assert message in error
    assert not list(tmp_path.iterdir())


def test_overlap__refuses_a_threshold_of_masks(call, masks):
    status, _, error = call("overlap", masks, "--two-sided")
    assert status == 2 and "m.zarr holds none; leave them out, or give the components" in error
