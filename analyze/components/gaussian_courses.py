"""Gaussian time courses that persist from token to token, and from prompt to prompt, as recorded ones do.

Tokens of a prompt depend on each other, so that there are fewer of them than it seems: means over tokens
stray farther from those of a Gaussian than means over independent draws do. Chance has to persist as long.
"""

from dataclasses import dataclass

import numpy as np

from ...store.moments import Float64
from .repeats import Temporal
from .stability import Int
from .subject_pca import leading

_SAMPLES = 2000  # tokens of a draw
_PROMPTS = 16  # prompts of a draw, at least: what prompts differ in persists over all their tokens


@dataclass(frozen=True)
class Courses:
    """What the null needs to know of time courses.

    Attributes
    ----------
    basis
        (dimension, dimension), with the covariance of maps.
    root
        (direction, dimension), with the covariance of the scores.
    power
        (frequency, direction), of a prompt's tokens about their mean, every direction of unit variance.
    between
        (direction, direction), root of the covariance of the prompts' means.
    lengths
        (prompt,), tokens drawn of each.
    weights
        (repeat, token), how often each takes part.
    """

    basis: Float64
    root: Float64
    power: Float64
    between: Float64
    lengths: Int
    weights: Float64

    def draw(self, rng: np.random.Generator) -> Temporal:
        """Draw time courses of the same covariance, spectrum and variance between prompts."""
        width = 2 * (len(self.power) - 1)
        parts = []
        for length in self.lengths:
            mean = rng.standard_normal(len(self.root)) @ self.between
            white = np.fft.rfft(rng.standard_normal((width, len(self.root))), axis=0)
            parts.append(mean + np.fft.irfft(white * np.sqrt(self.power), n=width, axis=0)[:length])
        drawn = np.concatenate(parts)
        frame, R = np.linalg.qr(drawn - drawn.mean(axis=0))
        scores = np.sqrt(len(frame)) * (frame * np.sign(np.diag(R))) @ self.root
        return Temporal(self.basis, scores, self.weights, np.repeat(np.arange(len(parts)), self.lengths))


def courses_of(model: Temporal) -> Courses:
    """Measure how the scores of a model vary, within prompts and between them."""
    n, D = model.scores.shape
    values, E = leading(model.scores.T @ model.scores / n)
    Z = model.scores @ (E / np.sqrt(values))
    own = _places(model.prompt, max(_SAMPLES, 2 * D))
    power, means = _power(Z, own), np.zeros((len(values), len(values)))
    for places in own:
        mean = Z[places].mean(axis=0)
        means += len(places) * np.outer(mean, mean)
    n_tokens = sum(map(len, own))
    longest = -(-max(_SAMPLES, 2 * D) // len(own))
    kept = [places[:longest] for places in own]
    basis = _root(model.covariance)
    return Courses(
        basis * np.sqrt(len(basis)),
        (E * np.sqrt(values)).T,
        power / n_tokens,
        _root(means / n_tokens),
        np.array([len(k) for k in kept]),
        model.weights[:, np.concatenate(kept)],
    )


def _places(prompt: Int, n_samples: int) -> list[Int]:
    """Give the tokens of each prompt, in the order of their numbers; of some where tokens are many."""
    order = np.argsort(prompt, kind="stable")
    own = np.split(order, np.flatnonzero(np.diff(prompt[order])) + 1)
    n = min(len(own), max(_PROMPTS, -(-n_samples * len(own) // len(prompt))))
    return [own[i] for i in np.linspace(0, len(own) - 1, n).astype(np.int64)]


def _power(Z: Float64, own: list[Int]) -> Float64:
    """Sum the power of prompts about their means, at the frequencies of twice the longest."""
    width = 2 * max(map(len, own))
    power = np.zeros((width // 2 + 1, Z.shape[1]))
    for places in own:
        rows = Z[places]
        power += np.abs(np.fft.rfft(rows - rows.mean(axis=0), n=width, axis=0)) ** 2
    return power


def _root(S: Float64) -> Float64:
    values, vectors = np.linalg.eigh(S)
    return np.asarray((vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T)
