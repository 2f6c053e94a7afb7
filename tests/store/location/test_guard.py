import numpy as np
import pytest
import xarray as xr

from actome.store.archive import open as open_recording
from actome.store.archive import save
from actome.store.errors import DamagedError
from actome.store.location import Location
from actome.store.results import save_result

from ..test_integrity import unfinished


def test_open__a_shard_that_vanished_is_never_nan(tiny_path):
    for key in ("mlp/activation/c/0/0/0/0", "text/c/1", "mlp/summary/mean/c/2/0/0"):
        content = (tiny_path / key).read_bytes()
        (tiny_path / key).unlink()
        with pytest.raises(DamagedError, match=f"{key} is gone, though it was written; `actome verify`"):
            for level in ("token", "prompt"):
                open_recording(tiny_path, level=level).compute()
        (tiny_path / key).write_bytes(content)


def test_open__a_shard_of_an_unfinished_recording_that_vanished_is_never_nan(tiny_path):
    unfinished(tiny_path)
    (tiny_path / "mlp/activation/c/3/0/0/0").unlink()
    with pytest.raises(DamagedError, match="mlp/activation/c/3/0/0/0 is gone"):
        open_recording(tiny_path).compute()


def test_open__a_chunk_that_was_never_written_is_missing_values(tiny, tmp_path):
    path = save_result(xr.Dataset({"stat": ("neuron", np.full(5, np.nan))}), tmp_path / "r.zarr")
    assert "stat/c/0" not in Location.of(path).keys()
    assert open_recording(path)["stat"].isnull().all()
    silent = tiny.assign(activation=tiny["activation"].where(tiny["run"] == 0))
    silent = silent.assign(token_id=silent["token_id"].where(silent["run"] == 0, -1))
    ds = open_recording(save(silent, tmp_path / "s.zarr"))
    np.testing.assert_array_equal(ds["activation"], silent["activation"])
