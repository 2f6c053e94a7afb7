"""A history that others write to as well: nothing of theirs is replaced, nothing of ours is lost unsaid."""

import errno
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import zarr

from actome.store.archive import save
from actome.store.errors import InputError
from actome.store.integrity import verify
from actome.store.location import Location
from actome.store.phantom import phantom
from actome.store.versions import commit, history, log, tag

icechunk = pytest.importorskip("icechunk")


@pytest.fixture
def two(tmp_path: Path) -> tuple[str, str]:
    """Two recordings of the same shape and other numbers."""
    made = [phantom(n_prompts=2, n_layers=1, n_neurons=8, seed=seed) for seed in (1, 2)]
    return save(made[0], tmp_path / "a.zarr"), save(made[1], tmp_path / "b.zarr")


def repository(path: Path, *, create: bool = False) -> "icechunk.Repository":
    storage = icechunk.local_filesystem_storage(str(path))
    return icechunk.Repository.create(storage) if create else icechunk.Repository.open(storage)


@pytest.mark.parametrize("branch", ["main", "trial"])
def test_commit__a_repository_of_somebody_else_is_left_as_it_is(two, tmp_path, branch):
    path = tmp_path / "x.icechunk"
    session = repository(path, create=True).writable_session("main")
    zarr.create_array(session.store, name="weather", data=np.arange(5))
    theirs = session.commit("observations")
    with pytest.raises(
        InputError, match=rf"the newest version, {theirs}, was not committed by Actome, and what it holds"
    ):
        commit(two[0], path, message="x", branch=branch)
    assert repository(path).list_branches() == {"main"}
    store = repository(path).readonly_session("main").store
    np.testing.assert_array_equal(zarr.open_array(store, path="weather", mode="r")[:], np.arange(5))


def test_commit__goes_on_only_from_a_version_of_its_own(two, tmp_path):
    path = tmp_path / "x.icechunk"
    first = commit(two[0], path, message="first")
    session = repository(path).writable_session("main")
    zarr.open_group(session.store)["mlp/activation"][0] = 0
    session.commit("by hand")
    assert log(path)[0].manifest_digest == ""
    assert any(line.startswith("damaged: mlp/activation/c/0") for line in verify(path))
    with pytest.raises(InputError, match="or reset the branch to a version of Actome with Icechunk"):
        commit(two[1], path, message="second")
    repository(path).reset_branch("main", first)
    commit(two[1], path, message="second")
    assert [v.message for v in log(path)] == ["second", "first"] and verify(path) == []


@pytest.mark.parametrize("is_seen", [True, False])
def test_commit__says_that_another_process_took_the_tag(two, tmp_path, monkeypatch, is_seen):
    path = tmp_path / "x.icechunk"
    first = commit(two[0], path, message="first")
    inner, listed = history._commit, icechunk.Repository.list_tags

    def taken_in_between(repo, *args):
        snapshot = inner(repo, *args)
        tag(path, "v1", first)
        if not is_seen:  # it is made between the look and the making
            stale = [set()]
            patched = lambda self: stale.pop() if stale else listed(self)  # noqa: E731
            monkeypatch.setattr(icechunk.Repository, "list_tags", patched)
        return snapshot

    monkeypatch.setattr(history, "_commit", taken_in_between)
    monkeypatch.setattr(history, "single_writer", lambda folder: nullcontext())  # as on S3
    with pytest.raises(
        InputError, match=rf"without its tag: another process gave the tag 'v1' to {first} just"
    ):
        commit(two[1], path, message="second", tag="v1")
    assert [(v.message, v.tags) for v in log(path)] == [("second", ()), ("first", ("v1",))]


def test_commit__a_tag_that_another_process_gave_to_the_same_version_is_fine(two, tmp_path, monkeypatch):
    path, inner = tmp_path / "x.icechunk", history._commit

    def tagged(repo, *args):
        snapshot = inner(repo, *args)
        repo.create_tag("v1", snapshot)
        return snapshot

    monkeypatch.setattr(history, "_commit", tagged)
    commit(two[0], path, message="first", tag="v1")
    assert log(path)[0].tags == ("v1",)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.EINVAL])
def test_commit__a_disk_without_locks_is_refused(two, tmp_path, monkeypatch, number):
    def flock(descriptor, kind):
        raise OSError(number, "no locks")

    monkeypatch.setattr("actome.store.location.claim.fcntl.flock", flock)
    with Location.of(tmp_path).claimed():
        pass  # what is lost there by two at once is found
    with pytest.raises(
        InputError, match=r"x\.icechunk is on a local disk that has no file locks, so that two"
    ):
        commit(two[0], tmp_path / "x.icechunk", message="x")
    assert not list((tmp_path / "x.icechunk").iterdir())


def test_commit__a_system_without_locks_is_refused(two, tmp_path, monkeypatch):
    monkeypatch.setattr("actome.store.location.claim.fcntl", None)
    with pytest.raises(InputError, match="is on a local disk that has no file locks, so that two processes"):
        commit(two[0], tmp_path / "x.icechunk", message="x")
