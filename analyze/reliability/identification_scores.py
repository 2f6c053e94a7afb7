"""How far held-out maps resemble the networks of the other folds, under many labellings at once."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import scipy.sparse

from ...store.moments import Float64
from ..condition_maps import FoldSums, Labels, PromptMeans, Rule, StreamedNetworks, against_the_others

Int = npt.NDArray[np.int64]
Score = Literal["difference", "dice", "correlation"]
Level = Literal["prompt", "run"]


@dataclass(frozen=True)
class Task:
    """The maps to be compared, fold by fold, under some labellings."""

    means: PromptMeans
    labels: Labels
    rule: Rule
    level: Level

    @property
    def shape(self) -> tuple[int, int, int]:
        """Folds, labellings, conditions."""
        return len(self.labels.folds), len(self.labels.code), len(self.labels.conditions)

    @property
    def truth(self) -> list[Int]:
        """Condition of every held-out item, of each fold: (draw, item)."""
        n_draws = self.shape[1]
        if self.level == "prompt":
            return [self.labels.code[:, rows] for rows in self.labels.rows]
        return [np.tile(np.flatnonzero(counts), (n_draws, 1)) for counts in self.labels.count]

    def blocks(self) -> Iterator[tuple[int, Int, FoldSums]]:
        """Go through the folds of every block of neurons: number, places (neuron,), sums."""
        for places, values in self.means.blocks():
            sums = FoldSums(values, self.labels)
            for fold in range(self.shape[0]):
                yield fold, places, sums

    def learnt(self, fold: int, sums: FoldSums) -> Float64:
        """Return t of every condition over the other folds: (draw, condition, neuron)."""
        return sums.without(fold).maps(against_the_others(self.labels.count.sum(axis=0)))[1]

    def held_out(self, fold: int, sums: FoldSums) -> Float64:
        """Map of every held-out item, NaN where there is none: (draw, or 1 for all, item, neuron)."""
        own = sums.within(fold)
        if self.level == "prompt":
            others = sums.without(fold)
            return np.asarray((own.values - others.mean) / others.spread)[None]
        return own.maps(against_the_others(own.n)[own.n > 0])[1]

    def networks(self, n_maps: int) -> StreamedNetworks:
        """Return networks that are to be found, of so many maps."""
        return StreamedNetworks(self.rule, np.ones(n_maps), self.means.n_neurons)

    def learnt_networks(self) -> "scipy.sparse.csr_array":
        """Find the networks of all folds: (fold * draw * condition, neuron)."""
        n_maps = self.shape[1] * self.shape[2]  # of a fold
        found = self.networks(self.shape[0] * n_maps)
        for fold, places, sums in self.blocks():
            found.add(fold * n_maps, self.learnt(fold, sums).reshape(n_maps, -1), places)
        return found.masks()


def _by_difference(task: Task) -> list[Float64]:
    """Mean inside less mean outside each network, of each fold: (draw, condition, item)."""
    n_folds, n_draws, n_conditions = task.shape
    masks = task.learnt_networks()
    size = np.asarray(masks.sum(axis=1)).reshape(n_folds, n_draws, n_conditions, 1)
    by_neuron = masks.tocsc()
    inside = [np.zeros((n_draws, n_conditions, t.shape[1])) for t in task.truth]
    everywhere = [np.zeros((n_draws, 1, t.shape[1])) for t in task.truth]
    n_neurons = 0
    one = task if task.level == "run" else replace(task, labels=task.labels.batch(slice(1)))
    for fold, places, sums in one.blocks():  # prompts are the same under every labelling
        items = np.nan_to_num(one.held_out(fold, sums))
        rows = slice(fold * n_draws * n_conditions, (fold + 1) * n_draws * n_conditions)
        own = by_neuron[:, places].tocsr()[rows]
        if len(items) == 1:
            inside[fold] += (own @ items[0].T).reshape(inside[fold].shape)
        else:
            inside[fold] += own.toarray().reshape(n_draws, n_conditions, -1) @ items.swapaxes(1, 2)
        everywhere[fold] += items.sum(axis=2)[:, None, :]
        n_neurons += len(places) if fold == 0 else 0
    return [
        i / np.maximum(s, 1) - (e - i) / np.maximum(n_neurons - s, 1)
        for i, e, s in zip(inside, everywhere, size, strict=True)
    ]


def _by_correlation(task: Task) -> list[Float64]:
    """Pearson's correlation with the map of each condition, of each fold: (draw, condition, item)."""
    n_folds, n_draws, n_conditions = task.shape
    product = [np.zeros((n_draws, n_conditions, t.shape[1])) for t in task.truth]
    learnt = np.zeros((2, n_folds, n_draws, n_conditions, 1))  # sum, and sum of squares
    held_out = [np.zeros((2, n_draws, 1, t.shape[1])) for t in task.truth]
    n_neurons = 0
    for fold, places, sums in task.blocks():
        maps, items = (np.nan_to_num(m(fold, sums)) for m in (task.learnt, task.held_out))
        product[fold] += maps @ items.swapaxes(1, 2)
        for power in (1, 2):
            learnt[power - 1, fold] += (maps**power).sum(axis=2)[:, :, None]
            held_out[fold][power - 1] += (items**power).sum(axis=2)[:, None, :]
        n_neurons += len(places) if fold == 0 else 0
    out = []
    for fold in range(n_folds):
        (x, xx), (y, yy) = learnt[:, fold], held_out[fold]
        spread = (n_neurons * xx - x**2) * (n_neurons * yy - y**2)
        covariance = n_neurons * product[fold] - x * y
        out.append(np.where(spread > 0, covariance / np.sqrt(np.where(spread > 0, spread, 1.0)), 0.0))
    return out


def _by_dice(task: Task) -> list[Float64]:
    """Dice of the item's own network with each condition's, of each fold: (draw, condition, item)."""
    n_folds, n_draws, n_conditions = task.shape
    found = [task.networks(n_draws * n_conditions) for _ in range(n_folds)]
    n_own = n_draws if task.level == "run" else 1
    own = [task.networks(n_own * t.shape[1]) for t in task.truth]
    for fold, places, sums in task.blocks():
        for networks, maps in ((found, task.learnt), (own, task.held_out)):
            networks[fold].add(0, maps(fold, sums).reshape(-1, len(places)), places)
    out = []
    for fold, truth in enumerate(task.truth):
        A, B = found[fold].masks(), own[fold].masks()
        size, size_own = (np.asarray(m.sum(axis=1)) for m in (A, B))
        size = size.reshape(n_draws, n_conditions, 1)
        size_own = size_own.reshape(n_own, 1, truth.shape[1])
        if n_own == 1:
            both = (A @ B.T).toarray().reshape(n_draws, n_conditions, -1)
        else:
            a, b = n_conditions, truth.shape[1]
            products = [A[i * a : (i + 1) * a] @ B[i * b : (i + 1) * b].T for i in range(n_draws)]
            both = np.stack([product.toarray() for product in products])
        out.append(2 * both / np.maximum(size + size_own, 1))
    return out


SCORES: dict[str, Callable[[Task], list[Float64]]] = {
    "difference": _by_difference,
    "dice": _by_dice,
    "correlation": _by_correlation,
}
