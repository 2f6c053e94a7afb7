"""Queries: the index and the cube give the same answers, and the index is asked only about what it knows."""

import shutil

import numpy as np
import pytest

import actome
from actome.store.archive import save
from actome.store.errors import DamagedError, InputError
from actome.store.index.build import build_index
from actome.store.phantom import phantom
from actome.store.queries import neurons

TEXT = "The cat sat on the mat again."


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    ds = phantom(n_prompts=9, n_tokens=(2, 7), n_layers=2, n_neurons=20, seed=5)
    n = ds["token_id"].shape
    start = np.arange(n[1]) * 4
    valid = ds["token_id"].to_numpy() != -1
    ds["token_id"] = (("prompt", "token"), np.where(valid, start[None] // 4 % 3, -1).astype(np.int32))
    ds = ds.assign_coords(
        text=("prompt", np.array([TEXT] * n[0], dtype=object)),
        char_start=(("prompt", "token"), np.where(valid, start, -1).astype(np.int32)),
        char_end=(("prompt", "token"), np.where(valid, start + 4, -1).astype(np.int32)),
        neuron=np.arange(20) * 2,
    )
    return build_index(save(ds, tmp_path_factory.mktemp("queries") / "r.zarr"))


def scanned(ds):
    """The same numbers in a Dataset that the index is not about."""
    return ds.assign(activation=ds["activation"] + 0)


@pytest.mark.parametrize("measure", ["magnitude", "signed"])
@pytest.mark.parametrize("k", [1, 5, 40])
def test_top_tokens__are_the_first_of_a_sort_with_and_without_the_index(path, measure, k):
    ds = actome.open(path)
    column = ds["activation"].sel(layer=1, neuron=8).to_numpy().astype(np.float64)
    strength = np.abs(column) if measure == "magnitude" else column
    order = np.argsort(-np.where(np.isnan(strength), -np.inf, strength), axis=None, kind="stable")[:k]
    for given in (ds, scanned(ds)):
        table = actome.top_tokens(given, layer=1, neuron=8, k=k, measure=measure)
        np.testing.assert_array_equal(table["activation"], column.ravel()[order])
        assert table["prompt"].tolist() == ds["prompt"].to_numpy()[order // column.shape[1]].tolist()
        np.testing.assert_array_equal(table["token"], order % column.shape[1])
    first = table.iloc[0]
    place = first["token"] * 4
    assert (first["before"], first["text"], first["after"]) == (
        TEXT[:place],
        TEXT[place : place + 4],
        TEXT[place + 4 :],
    )


def test_top_tokens__few_tokens_are_named_once(path):
    ds = actome.open(path)
    few = ds.isel(prompt=[0], token=slice(0, 2))
    assert len(actome.top_tokens(few, layer=0, neuron=0, k=10)) == 2


def test_top_tokens__the_index_reads_no_activation(path, monkeypatch):
    ds = actome.open(path)
    monkeypatch.setattr(neurons, "_scanned", None)
    assert len(actome.top_tokens(ds, layer=0, neuron=2)) == 20
    with pytest.raises(TypeError):
        actome.top_tokens(ds.isel(prompt=slice(1, None)), layer=0, neuron=2)


@pytest.mark.parametrize(
    "change",
    [
        lambda ds: ds.isel(prompt=slice(1, None)),
        lambda ds: ds.assign(activation=-ds["activation"]),
        lambda ds: ds.assign_coords(token_id=ds["token_id"].where(ds["token"] > 0, -1).astype(np.int32)),
        lambda ds: ds.copy().load(),
    ],
)
def test_index_group__a_changed_dataset_is_read_instead(path, change):
    ds = actome.open(path)
    assert neurons.index_group(ds) is not None
    assert neurons.index_group(change(ds)) is None
    labelled = ds.assign_coords(condition=("prompt", ["x"] * ds.sizes["prompt"]))
    assert neurons.index_group(labelled) is not None
    assert set(actome.top_tokens(labelled, layer=0, neuron=0)["condition"]) == {"x"}


def test_firing_neurons__surprise_is_the_distance_from_the_median(path):
    ds = actome.open(path)
    table = actome.firing_neurons(ds, prompt=str(ds["prompt"].to_numpy()[3]), token=1, k=1000)
    assert len(table) == 40
    for row in table.iloc[::7].itertuples():
        column = ds["activation"].sel(layer=row.layer, neuron=row.neuron).to_numpy().astype(np.float64)
        low, median, high = np.quantile(column[~np.isnan(column)], [0.01, 0.5, 0.99])
        expected = (column[3, 1] - median) / max(high - median, median - low)
        assert (row.activation, row.median, row.surprise) == pytest.approx((column[3, 1], median, expected))
    assert table["surprise"].abs().is_monotonic_decreasing


@pytest.mark.parametrize("token", [2, " mat"])
def test_token_neurons__share_of_the_strongest_tokens(path, token):
    ds = actome.open(path)
    ids = ds["token_id"].to_numpy()
    wanted = 2 if token == 2 else 0
    spelled = TEXT[16:20] if token != 2 else None
    token = spelled if spelled else token
    table = actome.token_neurons(ds, token=token, k=1000)
    wanted = [2] if token == 2 else sorted(set(ids[:, 4][ids[:, 4] >= 0].tolist()))
    for row in table.iloc[::5].itertuples():
        column = ds["activation"].sel(layer=row.layer, neuron=row.neuron).to_numpy().astype(np.float64)
        sign = 1 if row.end == "high" else -1
        order = np.argsort(np.where(np.isnan(column), np.inf, -sign * column), axis=None, kind="stable")[:32]
        hits = np.isin(ids.ravel()[order], wanted)
        assert row.share == pytest.approx(hits.mean())
        assert row.activation == pytest.approx(column.ravel()[order][hits].mean())
    assert table["share"].is_monotonic_decreasing and (table["share"] > 0).all()


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda ds: actome.top_tokens(ds, layer=5, neuron=0), "no layer 5 among 2; they go from 0 to 1"),
        (lambda ds: actome.top_tokens(ds, layer=0, neuron=1), "no neuron 1 among 20; they go from 0 to 38"),
        (lambda ds: actome.top_tokens(ds, layer=0, neuron=0, k=0), "k must be at least 1, got 0"),
        (lambda ds: actome.top_tokens(ds, layer=0, neuron=0, measure="x"), "measure must be"),
        (lambda ds: actome.firing_neurons(ds, prompt="p", token=0), "no prompt 'p' among"),
        (lambda ds: actome.firing_neurons(ds, prompt=ds["prompt"].values[0], token=99), "has no token 99"),
        (lambda ds: actome.firing_neurons(ds, prompt="p", token=0, k=-1), "k must be at least 1, got -1"),
        (lambda ds: actome.token_neurons(ds, token=1, k=0), "k must be at least 1, got 0"),
        (lambda ds: actome.token_neurons(ds, token="dog"), "no token of the recording is 'dog'"),
        (lambda ds: actome.token_neurons(scanned(ds), token=1), "needs the index"),
        (lambda ds: actome.firing_neurons(scanned(ds), prompt="p", token=0), "needs the index"),
        (lambda ds: actome.token_neurons(ds.drop_vars("token_id"), token=1), "no token_id"),
    ],
)  # fmt: skip
def test_queries__refuse_what_cannot_be_answered(path, ask, message):
    with pytest.raises(InputError, match=message):
        ask(actome.open(path))


def test_queries__moments_are_not_tokens(path):
    with pytest.raises(InputError, match="open it with level='token'"):
        actome.top_tokens(actome.open(path, level="prompt"), layer=0, neuron=0)


@pytest.mark.parametrize("name", ["extreme_prompt", "quantile_value"])
def test_queries__a_lost_part_of_the_index_is_an_error(path, tmp_path, name):
    copy = tmp_path / "copy.zarr"
    shutil.copytree(path, copy)
    for chunk in (copy / "actome/index/mlp" / name / "c").rglob("*"):
        if chunk.is_file():
            chunk.unlink()
    ds = actome.open(copy)
    with pytest.raises(DamagedError, match=f"{name}/c/.* is gone"):
        if name == "quantile_value":
            actome.firing_neurons(ds, prompt=str(ds["prompt"].values[0]), token=0)
        else:
            actome.top_tokens(ds, layer=0, neuron=0)


def test_firing_neurons__what_is_no_number_stays_none(tmp_path):
    ds = phantom(n_prompts=9, n_tokens=(4, 7), n_layers=1, n_neurons=5, seed=5)
    ds["activation"][0, 1, 0, :3] = [np.inf, np.nan, 0.0]
    ds["activation"][:, :, 0, 3] = ds["activation"][:, :, 0, 3] * 0 + 2
    with np.errstate(invalid="ignore"):  # of the moments
        opened = actome.open(build_index(save(ds, tmp_path / "r.zarr")))
    table = actome.firing_neurons(opened, prompt=str(ds["prompt"].values[0]), token=1).set_index("neuron")
    assert table.loc[0, "surprise"] == np.inf and np.isnan(table.loc[1, "surprise"])
    assert table.loc[3, "surprise"] == 0.0


def test_index_group__an_index_of_a_later_state_is_not_asked(tmp_path):
    first = phantom(n_prompts=4, n_tokens=(2, 5), n_layers=1, n_neurons=5, seed=1)
    path = build_index(save(first, tmp_path / "r.zarr"))
    before = actome.open(path)
    more = first.assign_coords(prompt=[f"more-{p}" for p in first["prompt"].to_numpy()])
    actome.append(path, save(more, tmp_path / "more.zarr"))
    build_index(path)
    assert neurons.index_group(before) is None
    assert neurons.index_group(actome.open(path)) is not None
