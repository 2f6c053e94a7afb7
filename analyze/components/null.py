"""What the whole procedure finds where there is nothing but covariance: components of Gaussian scores.

Subject PCA and group PCA see inner products only. Scores that are Gaussian and have the same inner products
therefore pass through them unchanged, and what is left to repeat is ICA, over the same bootstraps, and the
clusters of what comes out. Time courses persist besides, over tokens and prompts, as those recorded do.
"""

from dataclasses import dataclass
from typing import Any

import dask.base
import numpy as np
import xarray as xr
from dask.delayed import delayed

from ...store.blocks import one_blas_thread
from ...store.moments import Float64
from .gaussian_courses import Courses, courses_of
from .repeats import Model, Spatial, clusters
from .solvers import Solver

_SAMPLES = 2000  # neurons of a draw: spurious optima lie as they do among more, measured
_REPEATS = 5  # of a draw of many components: fewer make tighter clusters by chance, so this is safe
_ESTIMATES = 50  # of a draw, in all repeats: what few components are by chance is stable as it is
_ALPHA = 0.05
_ALIKE = 0.5  # correlation of halves below which a component is of some subjects only
_TOLERANCE = 1e-4  # of the solvers that go by the gradient: far below what chance does to it


def null_of(
    model: Model, n_runs: int, n_components: int, n_draws: int, solver: Solver, seed: int, window: int = 0
) -> Float64:
    """Put Gaussian scores through the procedure, on the active Dask scheduler.

    Parameters
    ----------
    model
        Of what was recorded.
    n_runs, n_components, solver
        As for what was recorded; of the repeats the first five, or more of few components: 50 over their
        number.
    n_draws
        Scores drawn; 19 for p = .05.
    seed, window
        Draw the scores and the starts: those of windows of layers are independent.

    Returns
    -------
    (draw, 2): the largest stability and the largest departure of all components of each draw.
    """
    shape = spatial_shape(model) if isinstance(model, Spatial) else courses_of(model)
    one = delayed(one_blas_thread(_draw), pure=False)
    shared = delayed(shape, pure=False, traverse=False)
    n_runs = min(n_runs, max(_REPEATS, _ESTIMATES // n_components))
    tasks = [one(shared, n_runs, n_components, solver, [seed, i, window]) for i in range(n_draws)]
    found: Any = dask.base.compute(*tasks)  # type: ignore[no-untyped-call]
    return np.array(found).reshape(n_draws, 2)


def judged(components: xr.Dataset) -> xr.Dataset:
    """Compare components with chance: add `p_value` and `is_network`.

    The p-value is the share of draws, and of what was seen, whose largest stability, or largest departure if
    that is more often, is as large. Corrected for the number of components, over all windows of layers, since
    each draw gives its largest. That it is the larger is what makes it a p-value: the departure of Gaussian
    noise that persists over tokens exceeds that of all 19 draws in one recording of six, of noise that is not
    Gaussian in more.

    Parameters
    ----------
    components
        With `stability`, `departure`, `split_half`, and `null_stability` and `null_departure` of dims draw,
        and of_window where there are several.
    """

    def share(name: str) -> xr.DataArray:
        null = components[f"null_{name}"]
        most = null.max([d for d in null.dims if d != "draw"])
        return (1 + (most >= components[name]).sum("draw")) / (1 + most.sizes["draw"])

    stability, departure = share("stability"), share("departure")
    p = stability.where(stability > departure, departure)
    apart = components["split_half"] < _ALIKE  # not where a half has too few dimensions to say
    return components.assign(p_value=p, is_network=(p <= _ALPHA) & ~apart)


@dataclass(frozen=True)
class SpatialShape:
    """What the null needs to know of spatial scores."""

    n_samples: int
    moments: Float64

    def draw(self, rng: np.random.Generator) -> Spatial:
        """Draw Gaussian maps with the same inner products."""
        frame = np.linalg.qr(rng.standard_normal((self.n_samples, self.moments.shape[1])))[0].T
        return Spatial(frame - frame.mean(axis=1, keepdims=True), self.moments)


def spatial_shape(model: Spatial) -> SpatialShape:
    """Keep the moments."""
    dimension, n = model.basis.shape
    return SpatialShape(min(n, max(_SAMPLES, 2 * dimension)), model.moments)


def _draw(
    shape: SpatialShape | Courses, n_runs: int, n_components: int, solver: Solver, seed: list[int]
) -> list[float]:
    """Return the largest stability and the largest departure of one draw."""
    rng = np.random.default_rng(seed)
    model = shape.draw(rng)
    starts = rng.integers(2**31, size=n_runs).tolist()
    runs = [model.estimate(r, n_components, solver, starts[r], _TOLERANCE) for r in range(n_runs)]
    centres, stability, _ = clusters(runs, model.covariance, n_components)
    return [float(stability.max()), float(np.concatenate([e.departure for e in runs])[centres].max())]
