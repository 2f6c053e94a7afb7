"""The pass over recordings against the same subjects in memory."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actome.analyze.components.group_pca import _groups, group_pca
from actome.analyze.components.order import random_signs
from actome.analyze.components.scaling import scaling
from actome.analyze.components.span import Plan
from actome.analyze.components.subjects import draw_weights, subjects_of
from actome.store.phantom import phantom
from tests.strategies import chunkings

DS = phantom(n_prompts=2, n_tokens=(3, 9), n_layers=2, n_neurons=6, fraction=0.1, seed=1)


def reduced(ds, subject, plan, **options):
    subjects = subjects_of([ds], subject)
    weights = draw_weights(len(subjects), 3, 0)
    return group_pca([ds], [scaling(ds, standardize=True)], subjects, weights, plan, **options)


def rows_of(ds):
    valid = (ds["token_id"] != -1).to_numpy()
    rows = ds["activation"].to_numpy().astype(float)[valid].reshape(valid.sum(), -1)
    return (rows - rows.mean(axis=0)) / rows.std(axis=0), np.nonzero(valid)[0]


def covariances(span):
    return np.einsum("dv,rde,ew->rvw", span.basis, span.moments, span.basis)


@pytest.mark.parametrize("subject", ["prompt", "condition", "run"])
def test_group_pca__of_all_components_is_the_covariance_of_all_tokens(subject):
    rows, prompt = rows_of(DS)
    span = reduced(DS, subject, Plan(1000, 1000, whiten=False))
    names = DS[subject].to_numpy().astype(str)
    known = sorted(set(names))
    weights = draw_weights(len(known), 3, 0)
    got = covariances(span)
    for i, w in enumerate([np.ones(len(known)), *weights]):
        each = w[np.searchsorted(known, names[prompt])]
        np.testing.assert_allclose(got[i], (rows * each[:, None]).T @ rows, atol=1e-8)


@settings(max_examples=8)
@given(st.data())
def test_group_pca__does_not_depend_on_chunks(data):
    plan = Plan(4, 60, whiten=data.draw(st.booleans()))
    subject = data.draw(st.sampled_from(["prompt", "run"]))
    chunks = data.draw(chunkings(DS[["activation"]]))
    a, b = (reduced(ds, subject, plan) for ds in (DS, DS.chunk(chunks)))
    if subject == "prompt":  # nothing is cut but the subjects, each on its own
        np.testing.assert_allclose(covariances(a), covariances(b), atol=1e-7)
    else:  # parts of a subject were cut before they were put together
        values = [np.linalg.eigvalsh(x.moments[0])[-4:] for x in (a, b)]
        np.testing.assert_allclose(*values, rtol=0.05)


def test_group_pca__does_not_depend_on_the_order_of_prompts(rng):
    plan = Plan(4, 60, whiten=False)
    a, b = (reduced(ds, "prompt", plan) for ds in (DS, DS.isel(prompt=rng.permutation(6)).chunk(prompt=4)))
    np.testing.assert_allclose(covariances(a), covariances(b), atol=1e-8)


def test_group_pca__with_random_signs_keeps_variances_and_loses_the_rest():
    ds = phantom(n_prompts=12, n_tokens=(20, 30), n_layers=2, n_neurons=20, n_networks=2, network_gain=3.0)
    plan = Plan(1000, 1000, whiten=False)
    a = covariances(reduced(ds, "prompt", plan))[0]
    b, again = (
        covariances(reduced(x, "prompt", plan, signs=random_signs([x], 0, 0)))[0]
        for x in (ds, ds.chunk(prompt=7, layer=1))
    )
    np.testing.assert_allclose(np.diag(a), np.diag(b), rtol=1e-9)
    np.testing.assert_allclose(b, again, atol=1e-8)
    network = ds["true_network"].to_numpy().reshape(2, -1)
    together = (network.T @ network.astype(int) > 0) & ~np.eye(len(a), dtype=bool)
    assert abs(b[together].mean()) < 0.1 * a[together].mean()


def test_groups__hold_at_most_so_many_rows_or_one_member():
    assert list(_groups([3, 3, 9, 2, 2, 2], 6)) == [[0, 1], [2], [3, 4, 5]]
    assert list(_groups([], 6)) == []
