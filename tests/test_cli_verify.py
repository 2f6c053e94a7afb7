"""`actome verify` on copies: here, elsewhere, and one against the other."""

import json
import shutil

import pytest

from .store.location.servers import static_server


@pytest.fixture
def other(tiny_path, tmp_path) -> str:
    copy = shutil.copytree(tiny_path, tmp_path / "other.zarr")
    (copy / "text/c/0").write_bytes(b"damaged")
    return str(copy)


def test_verify__names_damage_and_exits_with_one(call, tiny_path, other):
    assert call("verify", tiny_path) == (0, "every byte is as it was written\n", "")
    assert call("verify", other) == (1, "damaged: text/c/0\n", "")


def test_verify__says_what_a_web_server_does_not_show(call, tiny_path):
    with static_server(tiny_path.parent) as url:
        code, out, _ = call("verify", f"{url}/{tiny_path.name}")
    assert code == 0
    assert out == (
        "every byte is as it was written; what else lies there cannot be seen: a web server lists no files\n"
    )


def test_verify__against_a_copy_compares_digests_alone(call, tiny, tiny_path, other, tmp_path):
    from actome.store.archive import save

    assert call("verify", tiny_path, "--against", other) == (0, "both hold the same bytes\n", "")
    third = save(tiny.drop_vars("block"), tmp_path / "third.zarr")
    code, out, _ = call("verify", tiny_path, "--against", third)
    assert code == 1 and f"only in {tiny_path}: block/c/0\n" in out
    code, out, _ = call("verify", tiny_path, "--against", third, "--json")
    assert code == 1 and f"only in {tiny_path}: block/c/0" in json.loads(out)["differences"]


def test_verify__bad_input_is_one_line(call, tiny_path, tmp_path):
    code, _, error = call("verify", tiny_path, "--against", tmp_path / "nowhere.zarr")
    assert code == 2 and error.startswith("actome: there is no recording or result at")
    code, _, error = call("verify", tiny_path, "--against", tiny_path, "--recompute", 1)
    assert code == 2 and "--against reads no numbers and --recompute does" in error
    code, _, error = call("verify", "http://127.0.0.1:9::x")
    assert code == 2 and "chains protocols with '::'" in error
