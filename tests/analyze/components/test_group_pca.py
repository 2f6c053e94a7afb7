"""Group PCA against the SVD of all rows."""

import dask
import numpy as np
import pytest
import scipy.linalg

from actome.analyze.components.group_pca import _group_part, _merge_groups, principal
from actome.store.blocks import tree_reduce


@pytest.mark.parametrize("shape", [(7, 30), (30, 7), (1, 5)])
def test_principal__is_the_leading_part_of_the_svd(shape, rng):
    rows = rng.standard_normal(shape)
    _, s, vt = np.linalg.svd(rows, full_matrices=False)
    for k in (1, 4, 100):
        ours = principal(rows, k)
        kept = min(k, shape[0])
        assert len(ours) == kept
        expected = (vt.T[:, :k] * s[:k] ** 2) @ vt[:k]
        np.testing.assert_allclose(ours.T @ ours, expected, atol=1e-10)


@pytest.mark.parametrize(("rows", "k"), [(0, 3), (4, 0)])
def test_principal__of_nothing_is_nothing(rows, k):
    assert principal(np.ones((rows, 5)), k).shape == (0, 5)


def test_merge__spans_what_one_svd_of_all_rows_spans(rng):
    # eight strong directions in sixty, seen by twenty subjects
    directions = np.linalg.qr(rng.standard_normal((60, 8)))[0].T * np.linspace(5, 3, 8)[:, None]
    subjects = [
        rng.standard_normal((15, 8)) @ directions + 0.1 * rng.standard_normal((15, 60)) for _ in range(20)
    ]
    weights = np.stack([np.ones(20), rng.multinomial(20, np.full(20, 0.05))]).astype(int)
    parts = [
        dask.delayed(_group_part)([principal(s, 12) for s in subjects[i : i + 2]], weights[:, i : i + 2], 16)
        for i in range(0, 20, 2)
    ]
    merged = tree_reduce(parts, _merge_groups).compute(scheduler="synchronous")
    for weight, ours in zip(weights, merged, strict=True):
        rows = np.concatenate([s for s, w in zip(subjects, weight, strict=True) for _ in range(w)])
        _, s, vt = np.linalg.svd(rows, full_matrices=False)
        assert scipy.linalg.subspace_angles(ours[:8].T, vt[:8].T).max() < 0.01
        np.testing.assert_allclose(np.linalg.norm(ours[:8], axis=1), s[:8], rtol=1e-3)
