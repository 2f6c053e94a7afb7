"""Bases and moments against the same by one SVD of all rows."""

from itertools import pairwise

import numpy as np
import pytest

from actome.analyze.components.span import Plan, Span, as_subject, merge, span_of_rows


def blocks_of(X):
    return lambda: ((slice(a, a + 7), X[:, a : a + 7]) for a in range(0, X.shape[1], 7))


def made(subjects, weights, plan):
    bounds = np.cumsum([0, *map(len, subjects)])
    rows = [slice(a, b) for a, b in pairwise(bounds)]
    X = np.concatenate(subjects)
    return span_of_rows(blocks_of(X), X.shape[1], rows, weights, plan)


def covariance(span, weighting):
    """C^T C of the stacked components, which no choice of basis changes: (column, column)."""
    return span.basis.T @ span.moments[weighting] @ span.basis


@pytest.fixture
def subjects(rng):
    return [rng.standard_normal((n, 60)) * rng.uniform(0.5, 2, 60) for n in (5, 9, 3, 1, 8)]


@pytest.fixture
def weights():
    return np.array([[1, 1, 1, 1, 1], [0, 2, 1, 2, 0]], dtype=float)


def test_span__of_rows_keeps_every_weighted_covariance(subjects, weights):
    span = made(subjects, weights, Plan(20, 50, whiten=False))
    np.testing.assert_allclose(span.basis @ span.basis.T, np.eye(26), atol=1e-10)
    for w, got in zip([weights[0], *weights], range(3), strict=True):
        expected = sum(wi * s.T @ s for wi, s in zip(w, subjects, strict=True))
        np.testing.assert_allclose(covariance(span, got), expected, atol=1e-9)


def test_span__cuts_a_subject_to_its_leading_components(subjects, weights):
    span = made(subjects, weights, Plan(2, 50, whiten=False))
    expected = 0.0
    for s in subjects:
        _, d, vt = np.linalg.svd(s, full_matrices=False)
        expected = expected + (vt[:2].T * d[:2] ** 2) @ vt[:2]
    np.testing.assert_allclose(covariance(span, 1), expected, atol=1e-9)


def test_span__whitened_gives_each_component_unit_norm_and_keeps_the_variances_apart(subjects, weights):
    span = made(subjects, weights, Plan(20, 50, whiten=True))
    projections = [np.linalg.pinv(s) @ s for s in subjects]
    for w, got in zip(weights, (1, 2), strict=True):
        expected = sum(wi * p for wi, p in zip(w, projections, strict=True))
        np.testing.assert_allclose(covariance(span, got), expected, atol=1e-8)
    np.testing.assert_allclose(covariance(span, 0), sum(s.T @ s for s in subjects), atol=1e-8)


@pytest.mark.parametrize("whiten", [False, True])
def test_merge__is_what_one_span_of_all_subjects_is(whiten, subjects, weights):
    plan = Plan(4, 50, whiten)
    whole = made(subjects, weights, plan)
    parts = [made(subjects[a:b], weights[:, a:b], plan) for a, b in ((0, 2), (2, 3), (3, 5))]
    merged = merge([merge(parts[:2], 50), parts[2]], 50)
    for i in range(3):
        np.testing.assert_allclose(covariance(merged, i), covariance(whole, i), atol=1e-8)


def test_merge__cut_keeps_the_leading_directions(rng, weights):
    directions = np.linalg.qr(rng.standard_normal((60, 6)))[0].T * np.linspace(5, 3, 6)[:, None]
    subjects = [
        rng.standard_normal((15, 6)) @ directions + 0.1 * rng.standard_normal((15, 60)) for _ in range(5)
    ]
    plan = Plan(15, 16, whiten=False)
    merged = merge([made([s], weights[:, i : i + 1], plan) for i, s in enumerate(subjects)], 16)
    assert merged.basis.shape == (16, 60)
    # of all subjects once they are exact; of a bootstrap as nearly as what was left out is small, 1e-3 here
    for i, w, rtol in ((1, weights[0], 1e-12), (2, weights[1], 1e-3)):
        expected = np.linalg.svd(
            np.concatenate([np.sqrt(wi) * s for wi, s in zip(w, subjects, strict=True)]), full_matrices=False
        )
        values, vectors = np.linalg.eigh(merged.moments[i])
        ours = (vectors[:, ::-1][:, :6]).T @ merged.basis
        np.testing.assert_allclose(np.sqrt(values[::-1][:6]), expected[1][:6], rtol=rtol)
        np.testing.assert_allclose(np.linalg.svd(ours @ expected[2][:6].T)[1], 1.0, atol=rtol)


def test_as_subject__of_parts_is_the_subject(subjects):
    once, weight = np.ones((1, 1)), np.array([1.0, 3.0])
    parts = [made([s], once, Plan(50, 50, whiten=False)) for s in subjects]
    for whiten in (False, True):
        plan = Plan(4, 50, whiten)
        got = as_subject(merge(parts, 50), weight, plan)
        expected = made([np.concatenate(subjects)], weight[:, None], plan)
        for i in range(3):
            np.testing.assert_allclose(covariance(got, i), covariance(expected, i), atol=1e-8)


def test_merge__of_one_or_of_empty_spans():
    one = Span(np.eye(2, 4), np.stack([np.eye(2)] * 2))
    assert merge([one], 3) is one
    empty = Span(np.empty((0, 4)), np.empty((2, 0, 0)))
    assert merge([empty, one], 3).basis.shape == (2, 4)
    assert merge([empty, empty], 3).basis.shape == (0, 4)
