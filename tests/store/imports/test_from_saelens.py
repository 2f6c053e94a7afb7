import json

import numpy as np
import pyarrow as pa
import pytest

from actome.store.archive import open as open_recording
from actome.store.errors import InputError, MissingFileError
from actome.store.imports import import_saelens

from .sources import check_found, cube, table, token_ids, write_saelens

POST = ["blocks.3.hook_resid_post", "blocks.7.hook_resid_post"]


def layer(k):
    return cube(full=True)[:, :, k]


@pytest.fixture
def caches(tmp_path):
    """Two caches of the same contexts, cut into files and batches differently."""
    return [
        write_saelens(tmp_path / "c7", {POST[1]: layer(1)}, ids=token_ids(), n_files=1, rows_in_batch=5),
        write_saelens(tmp_path / "c3", {POST[0]: layer(0)}, ids=token_ids(), n_files=3),
    ]


def test_import_saelens__a_planted_difference_is_found_and_values_are_exact(caches, tmp_path):
    ds = check_found(import_saelens(caches, tmp_path / "r.zarr", labels=table()))
    np.testing.assert_array_equal(ds["activation"].to_numpy(), cube(full=True))
    assert ds["activation"].dtype == np.float32
    np.testing.assert_array_equal(ds["token_id"].to_numpy(), token_ids())
    assert ds["layer"].to_numpy().tolist() == [3, 7]
    assert ds["hook_name"].to_numpy().tolist() == POST
    assert ds["prompt"].to_numpy().tolist() == [str(i) for i in range(12)]
    assert ds.attrs["site"] == "residual"


def test_import_saelens__several_hooks_in_one_cache_are_layers_and_sites(tmp_path):
    hooks = {
        "blocks.7.mlp.hook_post": layer(1),
        POST[1]: layer(0)[..., :4],
        "blocks.3.mlp.hook_post": layer(0),
    }
    path = import_saelens(write_saelens(tmp_path / "c", hooks), tmp_path / "r.zarr", labels=table())
    ds = check_found(path, site="mlp")
    np.testing.assert_array_equal(ds["activation"].to_numpy(), cube(full=True))
    assert "token_id" not in ds.variables
    residual = open_recording(path, site="residual")
    np.testing.assert_array_equal(residual["activation"].to_numpy()[:, :, 0], layer(0)[..., :4])


@pytest.mark.parametrize(
    ("hook", "site", "number"),
    [
        ("blocks.0.hook_mlp_out", "mlp_out", 0),
        ("blocks.11.hook_attn_out", "attention_out", 11),
        ("blocks.11.mlp.hook_post", "mlp", 11),
        ("blocks.4.hook_resid_pre", "residual", 3),
    ],
)
def test_import_saelens__hooks_say_their_site_and_layer(tmp_path, hook, site, number):
    ds = open_recording(import_saelens(write_saelens(tmp_path / "c", {hook: layer(0)}), tmp_path / "r.zarr"))
    assert (ds.attrs["site"], ds["layer"].item(), ds["hook_name"].item()) == (site, number, hook)


def test_import_saelens__other_hooks_need_a_site_and_maybe_a_layer(tmp_path):
    module = write_saelens(tmp_path / "m", {"model.layers.5": layer(0)})
    with pytest.raises(
        InputError, match=r"hook 'model.layers.5' says no site of a recording; name it with site="
    ):
        import_saelens(module, tmp_path / "r.zarr")
    ds = open_recording(import_saelens(module, tmp_path / "r.zarr", site="residual"))
    assert ds["layer"].item() == 5
    nameless = write_saelens(tmp_path / "n", {"hook_embed": layer(0)})
    with pytest.raises(InputError, match=r"hook 'hook_embed' says no layer; give its number with layers="):
        import_saelens(nameless, tmp_path / "s.zarr", site="residual")
    with pytest.raises(InputError, match=r"layers must number \['hook_embed'\] from 0 up, got \[1, 2\]"):
        import_saelens(nameless, tmp_path / "s.zarr", site="residual", layers=[1, 2])
    ds = open_recording(import_saelens(nameless, tmp_path / "s.zarr", site="residual", layers=[2]))
    assert ds["layer"].item() == 2


def test_import_saelens__half_precision_stays(tmp_path):
    values = layer(0).astype(np.float16)
    cache = write_saelens(tmp_path / "c", {POST[0]: values}, storage=pa.float16)
    ds = open_recording(import_saelens(cache, tmp_path / "r.zarr"))
    assert ds["activation"].dtype == np.float16
    np.testing.assert_array_equal(ds["activation"].to_numpy()[:, :, 0], values)


def test_import_saelens__pieces_of_earlier_versions_are_put_together(tmp_path):
    for k in range(12):  # shard_10 comes after shard_9
        write_saelens(tmp_path / f"c/shard_{k}", {POST[0]: layer(0)[k : k + 1]}, n_files=1)
    ds = open_recording(import_saelens(tmp_path / "c", tmp_path / "r.zarr"))
    np.testing.assert_array_equal(ds["activation"].to_numpy()[:, :, 0], layer(0))


def test_import_saelens__what_datasets_itself_writes(tmp_path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {
            POST[0]: datasets.Array2D(shape=(4, 6), dtype="float32"),
            "token_ids": datasets.Sequence(datasets.Value("int32"), length=4),
        }
    )
    rows = {POST[0]: layer(0), "token_ids": token_ids()}
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "d", num_shards=2)
    mine = write_saelens(tmp_path / "mine", {POST[1]: layer(1)}, ids=token_ids())
    ds = check_found(import_saelens([tmp_path / "d", mine], tmp_path / "r.zarr", labels=table()))
    np.testing.assert_array_equal(ds["activation"].to_numpy(), cube(full=True))


def test_import_saelens__keeps_what_the_source_says_without_paths(caches, tmp_path):
    config = {
        "model_name": "gelu-1l",
        "new_cached_activations_path": "/home/someone/cache",
        "seqpos_slice": [None],
    }
    (caches[1] / "cache_activations_runner_cfg.json").write_text(json.dumps(config))
    provenance = open_recording(import_saelens(caches, tmp_path / "r.zarr")).attrs["provenance"]
    assert provenance["source"]["names"] == ["c7", "c3"]
    kept = provenance["source"]["caches"][1]["config"]
    assert kept == config | {"new_cached_activations_path": "cache"}
    assert provenance["environment"]["pyarrow"] == pa.__version__
    assert str(tmp_path) not in str(provenance)
    digests = json.loads((tmp_path / "r.zarr/actome/sources.json").read_text())
    assert sorted(digests)[0] == "0/c7/data-00000-of-00001.arrow" and len(digests) == 4


def _edit_state(content):
    return lambda folder: (folder / "state.json").write_text(content)


def _cut_between_batches(folder):
    file = folder / "data-00000-of-00001.arrow"
    file.write_bytes(file.read_bytes()[:-8])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda f: (f / "state.json").unlink(), InputError, r"is no data set.*it has no state\.json"),
        (_edit_state("{"), InputError, r"state\.json is not JSON"),
        (_edit_state("[]"), InputError, r"state\.json must be a mapping, got list"),
        (
            _edit_state('{"_data_files": [{"filename": "../a.arrow"}]}'),
            InputError,
            "names no files of the folder",
        ),
        (
            lambda f: (f / "data-00000-of-00001.arrow").unlink(),
            MissingFileError,
            "lacks data-00000-of-00001.arrow",
        ),
        (_cut_between_batches, InputError, "is cut off: its stream has no end"),
        (
            lambda f: (f / "data-00000-of-00001.arrow").write_bytes(b"no arrow at all"),
            InputError,
            "is cut off or no Arrow stream",
        ),
        (
            lambda f: (f / "data-00000-of-00001.arrow").write_bytes(
                (f / "data-00000-of-00001.arrow").read_bytes()[:1200]
            ),
            InputError,
            "is cut off or no Arrow stream",
        ),
    ],
)
def test_import_saelens__damaged_folders(caches, tmp_path, change, error, message):
    change(caches[0])
    with pytest.raises(error, match=message):
        import_saelens(caches[0], tmp_path / "r.zarr")
    assert not (tmp_path / "r.zarr").exists()


def test_import_saelens__a_cache_that_was_not_finished(tmp_path):
    (tmp_path / "c/.tmp_shards").mkdir(parents=True)
    with pytest.raises(InputError, match="its cache was not finished"):
        import_saelens(tmp_path / "c", tmp_path / "r.zarr")
    with pytest.raises(MissingFileError, match="there is no folder of cached activations at"):
        import_saelens(tmp_path / "none", tmp_path / "r.zarr")


def test_import_saelens__a_hook_missing_from_some_files(tmp_path):
    cache = write_saelens(tmp_path / "c", {POST[0]: layer(0), POST[1]: layer(1)})
    write_saelens(tmp_path / "d", {POST[0]: layer(0)})
    name = "data-00001-of-00002.arrow"
    (cache / name).write_bytes((tmp_path / "d" / name).read_bytes())
    with pytest.raises(InputError, match="all files of a cache hold the same"):
        import_saelens(cache, tmp_path / "r.zarr")


@pytest.mark.parametrize(
    ("other", "ids", "message"),
    [
        ({POST[0]: layer(0)[:11]}, token_ids()[:11], "holds 11 contexts of 4 tokens, .* 12 of 4"),
        ({POST[0]: layer(0)[:, :3]}, token_ids()[:, :3], "holds 12 contexts of 3 tokens, .* 12 of 4"),
        ({POST[0]: layer(0)}, token_ids()[::-1], "are of different tokens; import them apart"),
        ({POST[0]: layer(0)}, None, "are of different tokens; import them apart"),
        ({POST[1]: layer(0)}, token_ids(), "layer 7 of site 'residual' is there twice"),
        ({POST[0]: layer(0)[..., :5]}, token_ids(), r"differ in their neurons \[5, 6\]"),
    ],
)
def test_import_saelens__caches_that_do_not_belong_together(caches, tmp_path, other, ids, message):
    second = write_saelens(tmp_path / "other", other, ids=ids)
    with pytest.raises(InputError, match=message):
        import_saelens([caches[0], second], tmp_path / "r.zarr")


def test_import_saelens__rows_of_another_size_or_without_values(tmp_path):
    ragged = write_saelens(tmp_path / "c", {POST[0]: layer(0)}, n_files=1)
    file = ragged / "data-00000-of-00001.arrow"
    schema = pa.ipc.open_stream(file.read_bytes()).schema
    good = [[[0.0] * 6] * 4]
    for bad, message in (
        ([[[0.0] * 6] * 3], r"row 1 has shape \(3, 6\), the first row \(4, 6\)"),
        ([[[0.0] * 6] * 3 + [[0.0] * 5]], r"row 1: its tokens have \[5, 6\] neurons, not all as many"),
        ([[[0.0] * 6] * 3 + [[0.0] * 5 + [None]]], "row 1 lacks values"),
        ([None], "row 1 lacks values"),
    ):
        rows = pa.table([pa.array(good + bad, type=schema.field(0).type)], schema=schema)
        with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
            writer.write_table(rows)
        with pytest.raises(InputError, match=message):
            import_saelens(ragged, tmp_path / "r.zarr")
        assert not (tmp_path / "r.zarr").exists()


def test_import_saelens__other_columns(tmp_path):
    for names, message in (
        ({"text": ["a"]}, "'text' must be lists \\(token, neuron\\) of numbers, got string"),
        ({"token_ids": [[1]]}, r"has no column of activations; it has \['token_ids'\]"),
        ({POST[0]: [[[1.0]]], "token_ids": [1]}, "token_ids must be lists, got int64"),
        (
            {POST[0]: [[[1.0]]], "token_ids": [[-1]]},
            r"row 0: token_ids must be 1 whole numbers from 0 up, got \[-1\]",
        ),
        ({POST[0]: [[[1.0]]], POST[1]: [[[1.0], [1.0]]]}, r"a row must have as many tokens, got \[1, 2\]"),
        ({POST[0]: [[[1]]]}, "must be float16 or float32 or float64, got int64"),
        ({POST[0]: pa.array([], pa.list_(pa.list_(pa.float32())))}, "holds no rows"),
    ):
        cache = write_saelens(tmp_path / f"c{len(list(tmp_path.iterdir()))}", {POST[0]: layer(0)}, n_files=1)
        rows = pa.table(names)
        with (
            pa.OSFile(str(cache / "data-00000-of-00001.arrow"), "wb") as sink,
            pa.ipc.new_stream(sink, rows.schema) as writer,
        ):
            writer.write_table(rows)
        with pytest.raises(InputError, match=message):
            import_saelens(cache, tmp_path / "r.zarr")
        assert not (tmp_path / "r.zarr").exists()


def test_import_saelens__labels_that_would_be_ambiguous(caches, tmp_path):
    shuffled = table(id=[str(i) for i in reversed(range(12))])
    with pytest.raises(
        InputError, match="ids are the row numbers in another order, but row i describes prompt i"
    ):
        import_saelens(caches, tmp_path / "r.zarr", labels=shuffled)
    with pytest.raises(InputError, match="the labels have 11 rows, the cache 12 prompts"):
        import_saelens(caches, tmp_path / "r.zarr", labels=table()[:11])
    with pytest.raises(InputError, match="column 'n_tokens', but every context is full"):
        import_saelens(caches, tmp_path / "r.zarr", labels=table(n_tokens=4))
