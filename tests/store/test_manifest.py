"""The manifest is read once, and no place waits for another."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest

from actome.store.archive import save
from actome.store.location import Location
from actome.store.manifest import MANIFEST, manifest_files, noted_root
from actome.store.phantom import phantom


@pytest.fixture
def recordings(tmp_path) -> list[tuple[Location, str]]:
    """Ten recordings, each with the digest of its manifest."""
    first = save(phantom(n_prompts=1, n_layers=1, n_neurons=8), tmp_path / "0.zarr")
    locations = [Location.of(first)]
    for i in range(1, 10):
        (tmp_path / f"{i}.zarr").symlink_to(first, target_is_directory=True)
        locations.append(Location.of(tmp_path / f"{i}.zarr"))
    root = noted_root(Path(first, "zarr.json").read_bytes())
    return [(location, root["attributes"]["manifest_digest"]) for location in locations]


@pytest.fixture
def fetched(monkeypatch) -> list[str]:
    """Where each manifest was fetched from."""
    places, inner = [], Location.fetch

    def fetch(self, key, *args):
        if key == MANIFEST:
            places.append(self.name)
        return inner(self, key, *args)

    monkeypatch.setattr(Location, "fetch", fetch)
    return places


def test_manifest_files__many_are_kept(recordings, fetched):
    for _ in range(3):
        assert all("zarr.json" in manifest_files(*recording) for recording in recordings)
    assert fetched == [location.name for location, _ in recordings]


def test_manifest_files__many_that_ask_at_once_read_it_once(recordings, fetched):
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: manifest_files(*recordings[0]), range(50)))
    assert len(fetched) == 1 and all(files is found[0] for files in found)


def test_manifest_files__a_slow_place_holds_no_other_up(recordings, monkeypatch):
    started, go_on, inner = Event(), Event(), Location.fetch

    def fetch(self, key, *args):
        if self.name == "0.zarr":
            started.set()
            go_on.wait(10)
        return inner(self, key, *args)

    monkeypatch.setattr(Location, "fetch", fetch)
    with ThreadPoolExecutor(2) as pool:
        slow = pool.submit(manifest_files, *recordings[0])
        try:
            assert started.wait(10)
            other = pool.submit(manifest_files, *recordings[1])
            assert "zarr.json" in other.result(timeout=5) and not slow.done()
        finally:
            go_on.set()
        assert slow.result(timeout=5) == other.result()
