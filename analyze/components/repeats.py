"""One ICA of a group, in the coordinates of a common basis: sources over neurons, or over tokens."""

from dataclasses import dataclass

import numpy as np

from ...store.errors import InputError
from ...store.moments import Float64
from .solvers import Solver, rotate
from .stability import Int, correlation, icasso
from .subject_pca import leading

_SMALL = 1e-10  # of a map's mean square: if its variance over neurons is less, it is the same everywhere


@dataclass(frozen=True)
class Estimate:
    """The components of one repeat.

    Attributes
    ----------
    coordinates
        (component, dimension): times the centred basis they are maps of unit variance.
    departure
        (component,): |E[1 - tanh(y)^2] - E[y tanh y]| of the source y, 0 for a Gaussian, times the root of
        the number of samples.
    converged, n_iterations
        Of the solver.
    """

    coordinates: Float64
    departure: Float64
    converged: bool
    n_iterations: int


@dataclass(frozen=True)
class Spatial:
    """Sources are maps over neurons.

    Attributes
    ----------
    basis
        (dimension, column), centred over columns.
    moments
        (weighting, dimension, dimension), of the subjects' components in the basis as it was before, as in
        `Span`: each subject once with its variances, then one of each repeat.
    """

    basis: Float64
    moments: Float64

    @property
    def covariance(self) -> Float64:
        """Return that of the basis over columns: (dimension, dimension)."""
        return np.asarray(self.basis @ self.basis.T / self.basis.shape[1])

    @property
    def of_tokens(self) -> Float64:
        """Return the inner products of the tokens' scores: (dimension, dimension)."""
        return np.asarray(self.moments[0])

    def rank(self, repeat: int, n_components: int) -> int:
        """Count the dimensions that a repeat's leading components have, as maps of zero mean."""
        _, E = leading(self.moments[1 + repeat], n_components)
        values = np.linalg.eigvalsh(E.T @ self.covariance @ E) if E.size else np.zeros(0)
        return int((values * self.basis.shape[1] > _SMALL).sum())

    def white(self, repeat: int, n_components: int) -> Float64:
        """Return W with W @ basis the white leading components of a repeat: (component, dimension)."""
        _, E = leading(self.moments[1 + repeat], n_components)
        values, U = np.linalg.eigh(E.T @ self.covariance @ E)
        return np.asarray((U / np.sqrt(values)).T @ E.T)

    def estimate(
        self, repeat: int, n_components: int, solver: Solver, seed: int, tolerance: float | None = None
    ) -> Estimate:
        """Decompose one repeat, to the tolerance of `rotate`."""
        white = self.white(repeat, n_components)
        X = white @ self.basis
        found = rotate(X, _start(self.basis, n_components, seed) @ white.T, solver, tolerance)
        return Estimate(found.W @ white, _departure(found.W @ X), found.converged, found.n_iterations)


@dataclass(frozen=True)
class Temporal:
    """Sources are time courses over tokens; maps are how much of each every neuron has.

    Attributes
    ----------
    basis
        (dimension, column), centred over columns.
    scores
        (token, dimension), of every token in the basis as it was before.
    weights
        (repeat, token), how often each token takes part.
    prompt
        (token,), a number for the prompt of each.
    """

    basis: Float64
    scores: Float64
    weights: Float64
    prompt: Int

    @property
    def covariance(self) -> Float64:
        """Return that of the basis over columns: (dimension, dimension)."""
        return np.asarray(self.basis @ self.basis.T / self.basis.shape[1])

    @property
    def of_tokens(self) -> Float64:
        """Return the inner products of the tokens' scores: (dimension, dimension)."""
        return np.asarray(self.scores.T @ self.scores)

    def _drawn(self, repeat: int) -> tuple[Float64, Float64]:
        """Scores of the tokens of a repeat, without their mean, and their covariance."""
        rows = np.repeat(self.scores, self.weights[repeat].astype(np.int64), axis=0)
        rows -= rows.mean(axis=0)
        return rows, rows.T @ rows / len(rows)

    def rank(self, repeat: int, n_components: int) -> int:
        """Count the dimensions that a repeat's leading components have."""
        return len(leading(self._drawn(repeat)[1], n_components)[0])

    def estimate(
        self, repeat: int, n_components: int, solver: Solver, seed: int, tolerance: float | None = None
    ) -> Estimate:
        """Decompose one repeat, to the tolerance of `rotate`."""
        rows, S = self._drawn(repeat)
        values, E = leading(S, n_components)
        X = (E / np.sqrt(values)).T @ rows.T
        found = rotate(X, _start(self.basis, n_components, seed) @ E, solver, tolerance)
        maps = found.W @ (E * np.sqrt(values)).T
        maps /= np.sqrt(np.einsum("ij,jk,ik->i", maps, self.covariance, maps))[:, None]
        return Estimate(maps, _departure(found.W @ X), found.converged, found.n_iterations)


Model = Spatial | Temporal


def _start(basis: Float64, n_components: int, seed: int) -> Float64:
    """Random maps in the coordinates of the basis: (component, dimension).

    Drawn for the neurons, so that it does not matter how the basis happens to be turned.
    """
    rng = np.random.default_rng(seed)
    return np.asarray(rng.standard_normal((n_components, basis.shape[1])) @ basis.T)


def _departure(sources: Float64) -> Float64:
    """How far sources (component, sample), of unit variance, are from Gaussian."""
    out = np.empty(len(sources))
    for i, y in enumerate(sources):
        t = np.tanh(y)
        out[i] = abs(1 - np.mean(t * t) - np.mean(t * y)) * np.sqrt(len(y))
    return out


def sum_of_squares(model: Model, maps: Float64) -> Float64:
    """Sum the squares of the tokens' values along maps of unit variance (component, dimension)."""
    along = maps @ model.covariance  # each map's share of every dimension
    n_columns = model.basis.shape[1]
    return np.asarray(n_columns * np.einsum("ij,jk,ik->i", along, model.of_tokens, along))


def check_rank(model: Model, n_runs: int, n_components: int) -> None:
    """Refuse if the group, or a bootstrap of it, has too few dimensions."""
    rank = min(model.rank(r, n_components) for r in range(n_runs))
    if rank < n_components:
        raise InputError(
            f"the subjects, or a bootstrap of them, hold {rank} dimensions, "
            f"too few for {n_components} components; ask for fewer, or give more subjects or tokens"
        )


def clusters(runs: list[Estimate], covariance: Float64, n_components: int) -> tuple[Int, Float64, Int]:
    """Cluster the estimates of all repeats: see `icasso`."""
    every = np.concatenate([e.coordinates for e in runs])
    return icasso(np.abs(correlation(every, every, covariance)), n_components)
