"""A store that fails: no wrong number, ever; it is asked again, and what remains is one clear error."""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
import xarray as xr

from actome.store.archive import open as open_entry
from actome.store.archive import save
from actome.store.errors import ActomeError, DamagedError, StorageError
from actome.store.integrity import verify
from actome.store.location import Location, object_store, web
from actome.store.location.object_store import ObjectStore
from actome.store.phantom import phantom

from .servers import BUCKET, Faults, faulty_proxy, s3_at, s3_server, static_server

PASSING = ("500", "503", "drop", "cut", "slow")
ALL = (*PASSING, "short", "empty", "404")
SHARD = "mlp/activation/c/2/0/1/0"
QUICK = ("500", "cut")  # of a store that fails for a while, and of one that fails for good
KEYS = (SHARD, "text/c/1", "token_id/c/0/0", "mlp/summary/mean/c/1/0/0")


@pytest.fixture(scope="module")
def truth(tmp_path_factory) -> dict[str, xr.Dataset]:
    """Cube and moments of three prompts, each a unit, with the path they come from."""
    ds = phantom(n_prompts=1, n_tokens=(2, 5), n_layers=2, n_neurons=6, fraction=0.1, seed=1)
    path = Path(save(ds, tmp_path_factory.mktemp("faults") / "tiny.zarr"))
    real = ds["prompt"] != ds["prompt"][1]
    silent = ds.assign(activation=ds["activation"].where(real))
    silent = silent.assign_coords(token_id=ds["token_id"].where(real, -1))
    save(silent, path.parent / "silent.zarr")  # lacks files: what holds no value is not written
    numbers = {level: open_entry(path, level=level).compute() for level in ("token", "prompt")}
    return numbers | {"path": path, "silent": silent["activation"]}


@pytest.fixture(scope="module")
def proxies(truth) -> Iterator[dict[str, tuple[str, Faults]]]:
    """Address of the recording behind a proxy, and what the proxy does wrong, by kind of server."""
    path: Path = truth["path"]
    with ExitStack() as servers:
        endpoint = servers.enter_context(s3_server())
        files = [file for file in path.parent.rglob("*") if file.is_file()]
        contents = {f"{BUCKET}/{f.relative_to(path.parent).as_posix()}": f.read_bytes() for f in files}
        ObjectStore().pipe(contents)
        s3, s3_faults = servers.enter_context(faulty_proxy(endpoint))
        servers.enter_context(s3_at(s3))
        web = servers.enter_context(static_server(path.parent, ranges=True))
        web, web_faults = servers.enter_context(faulty_proxy(web))
        yield {"s3": (f"s3://{BUCKET}/tiny.zarr", s3_faults), "web": (f"{web}/tiny.zarr", web_faults)}


@pytest.fixture(params=["s3", "web"])
def remote(request, proxies, monkeypatch) -> Iterator[tuple[str, Faults]]:
    """An address and its faults; nobody waits long between two attempts."""
    wait_little(monkeypatch)
    address, faults = proxies[request.param]
    faults.set()
    yield address, faults
    faults.set()


def wait_little(monkeypatch: pytest.MonkeyPatch) -> None:
    backoff = "botocore.retries.standard.ExponentialBackoff.delay_amount"
    monkeypatch.setattr("actome.store.location.retries._FIRST_WAIT", 0.001)
    monkeypatch.setattr(backoff, lambda self, context: 0.001)


def read_all(address: str, truth: dict[str, xr.Dataset]) -> None:
    """Read everything, by wholes and by parts, and compare it."""
    for level in ("token", "prompt"):
        ds = open_entry(address, level=level)
        xr.testing.assert_identical(ds.compute(), truth[level])
    cube = open_entry(address)["activation"].isel(layer=[1], neuron=[0, 3])
    np.testing.assert_array_equal(cube, truth["token"]["activation"].isel(layer=[1], neuron=[0, 3]))


def some_slow(values: tuple[str, ...], quick: tuple[str, ...]) -> list[Any]:
    """Leave all but a few to the slow suite."""
    return [value if value in quick else pytest.param(value, marks=pytest.mark.slow) for value in values]


@pytest.mark.parametrize("kind", some_slow(PASSING, QUICK))
def test_read__what_passes_is_asked_again(remote, truth, kind):
    address, faults = remote
    faults.set(kind, rate=0.2, seed=1)
    read_all(address, truth)
    assert faults.done[kind] > 3


@pytest.mark.parametrize("kind", some_slow(("500", "503", "drop", "cut"), QUICK))
def test_read__what_stays_is_one_clear_error(remote, kind):
    address, faults = remote
    faults.set(kind, only=SHARD)
    with pytest.raises(StorageError, match=rf"{SHARD} cannot be read, though it was tried several times"):
        open_entry(address)["activation"].compute()
    assert faults.done[kind] >= 5
    with pytest.raises(StorageError, match=rf"{SHARD} cannot be read"):
        verify(address)


@pytest.mark.parametrize("kind", ["short", "empty"])
@pytest.mark.parametrize("key", some_slow((*KEYS, "tiny.zarr/zarr.json"), KEYS[:2]))
def test_read__a_body_that_ends_early_is_never_a_number(remote, kind, key):
    address, faults = remote
    faults.set(kind, only=f"{key}$")
    # S3 sends a checksum: the fault is one of the connection. A web server does not.
    with pytest.raises((DamagedError, StorageError), match=r"damaged|cut short|did not match"):
        for level in ("token", "prompt"):
            open_entry(address, level=level).compute()


@pytest.mark.parametrize("kind", ["s3", "web"])
def test_read__a_body_that_stalls_is_asked_for_again(proxies, truth, kind, monkeypatch):
    wait_little(monkeypatch)
    monkeypatch.setitem(object_store._CONFIG, "read_timeout", 0.5)
    monkeypatch.setattr(web, "_TIMEOUT", aiohttp.ClientTimeout(total=None, sock_read=0.5))
    classes = (ObjectStore, web.WebFileSystem)
    address, faults = proxies[kind]
    for one in classes:
        one.clear_instance_cache()
    try:
        faults.set("stall", only=f"{SHARD}$", limit=2)
        assert Location.of(address).read(SHARD) == (truth["path"] / SHARD).read_bytes()
        assert faults.done["stall"] == 2
    finally:
        faults.set()
        for one in classes:
            one.clear_instance_cache()


def test_verify__a_body_that_ends_early_is_asked_for_again(remote):
    address, faults = remote
    faults.set("short", only=f"{SHARD}$", limit=1)
    assert verify(address) == []
    assert faults.done["short"] == 1


@pytest.mark.parametrize("key", some_slow(KEYS, KEYS[:2]))
def test_read__a_file_that_is_denied_is_never_nan(remote, key):
    address, faults = remote
    faults.set("404", only=f"{key}$")
    with pytest.raises(DamagedError, match=f"{key} is gone, though it was written"):
        for level in ("token", "prompt"):
            open_entry(address, level=level).compute()
    assert verify(address) == [f"missing: {key}"]


def test_read__a_file_that_is_denied_once_is_read(remote, truth):
    address, faults = remote
    faults.set("404", only=f"{KEYS[0]}$", limit=1)
    read_all(address, truth)
    assert faults.done["404"] == 1


def test_open__a_server_that_is_away(tmp_path, monkeypatch):
    monkeypatch.setattr("actome.store.location.retries._FIRST_WAIT", 0.001)
    with static_server(tmp_path) as url:
        pass
    with pytest.raises(StorageError, match=r"zarr\.json cannot be looked for, though it was tried"):
        open_entry(f"{url}/tiny.zarr")


def test_open__access_that_is_denied(monkeypatch):
    async def denied(*args, **kwargs):
        raise PermissionError("Forbidden")

    monkeypatch.setattr("s3fs.S3FileSystem._call_s3", denied)
    with pytest.raises(StorageError, match=r"access is denied \(Forbidden\); check the credentials"):
        Location.of("s3://lab/tiny.zarr").read("zarr.json")


def test_open__what_is_not_there_may_be_forbidden(remote, truth, monkeypatch):
    address, faults = remote
    monkeypatch.setattr(faults, "hides", True)
    assert verify(address) == []
    with pytest.raises(StorageError, match="access is denied"):
        open_entry(address.replace("tiny", "other"))
    silent = address.replace("tiny", "silent")
    np.testing.assert_array_equal(open_entry(silent)["activation"], truth["silent"])
    assert not open_entry(silent, level="prompt")["hook_name"].to_numpy().any()


def test_read__random_faults_give_true_numbers_or_an_error(remote, truth):
    assert sequence(remote, truth, seed=0, rate=0.05)["wrong"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.01, 0.05, 0.2, 0.5])
def test_read__long_sequences_of_faults_give_true_numbers_or_an_error(remote, truth, rate):
    outcomes = sum((sequence(remote, truth, 100 + seed, rate=rate) for seed in range(6)), Counter())
    assert outcomes["wrong"] == 0
    assert outcomes["true"] or rate > 0.1
    assert outcomes["error"] or rate < 0.1


def sequence(
    remote: tuple[str, Faults], truth: dict[str, xr.Dataset], seed: int, *, rate: float
) -> Counter[str]:
    """Read everything under faults of all kinds; count what came of it."""
    address, faults = remote
    faults.set(*ALL, rate=rate, seed=seed)
    outcomes: Counter[str] = Counter()
    for read in (read_all, lambda address, truth: verify(address)):
        try:
            read(address, truth)
        except ActomeError:
            outcomes["error"] += 1
        except AssertionError:
            outcomes["wrong"] += 1
        else:
            outcomes["true"] += 1
    return outcomes


def test_write__what_passes_is_written(proxies, truth, monkeypatch):
    wait_little(monkeypatch)
    _, faults = proxies["s3"]
    faults.set("500", "503", "drop", rate=0.1, seed=2)
    try:
        path = save(truth["token"], f"s3://{BUCKET}/written.zarr")
    finally:
        failures = sum(faults.done.values())
        faults.set()
    assert failures > 3
    assert verify(path) == []
    np.testing.assert_array_equal(open_entry(path)["activation"], truth["token"]["activation"])
