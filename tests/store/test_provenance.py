import hashlib
import re

from actome.store import provenance


def test_digest_bytes__is_sha256_of_the_concatenation():
    expected = f"sha256:{hashlib.sha256(b'onetwo').hexdigest()}"
    assert provenance.digest_bytes(b"onetwo") == provenance.digest_bytes(b"one", b"two") == expected


def test_digest_json__ignores_the_order_of_keys_only():
    assert provenance.digest_json({"a": [1, 2], "b": "é"}) == provenance.digest_json({"b": "é", "a": [1, 2]})
    assert provenance.digest_json({"a": [1, 2]}) != provenance.digest_json({"a": [2, 1]})


def test_canonical_json__has_one_form():
    assert provenance.canonical_json({"b": 1, "a": "é"}) == '{"a":"é","b":1}'.encode()


def test_library_versions__leaves_out_what_is_not_installed(monkeypatch):
    monkeypatch.setattr(provenance, "_LIBRARIES", ("numpy", "no-such-library"))
    assert set(provenance.library_versions()) == {"python", "actome", "numpy"}


def test_source_attrs__an_unfinished_recording_stays_known_as_one():
    given = {"name": "r", "unfinished": "4 of 9 prompts of r"}
    assert provenance.source_attrs(given)["unfinished"] == "4 of 9 prompts of r"
    assert "unfinished" in provenance.ORIGIN and "unfinished" not in provenance.source_attrs({"name": "r"})
    other = {"unfinished": "1 of 2 prompts of s"}
    told = provenance.unfinished_of(given, {}, other, given)
    assert told == {"unfinished": "4 of 9 prompts of r; 1 of 2 prompts of s"}


def test_now__is_utc_to_the_second():
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", provenance.now())
