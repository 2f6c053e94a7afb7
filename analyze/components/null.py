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
from .stability import Int

_SAMPLES = 2000  # neurons of a draw: spurious optima lie as they do among more, measured
_REPEATS = 5  # of a draw of many components: fewer make tighter clusters by chance, so this is safe
_ESTIMATES = 50  # of a draw, in all repeats: what few components are by chance is stable as it is
ALPHA = 0.05  # chance that any component of noise is called a network
LEAST_DRAWS = 19  # with which p can be as small
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
    (draw, 2): the largest stability and the largest departure of all components of each draw. A single
    spatial component is as stable in every draw as what was recorded, which says nothing: NaN.
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

    The p-value is the share of draws, and of what was seen, whose largest stability, or largest departure
    if that is more often, is as large. That it is the larger is what makes it a p-value: the departure of
    Gaussian noise that persists over tokens exceeds that of all 19 draws in one recording of six, of noise
    that is not Gaussian in more. It is corrected for the number of components, since each draw gives its
    largest, over all windows of layers; what chance gives differs between windows, so there it is first
    counted in standard deviations of the window's own draws.

    Parameters
    ----------
    components
        With `stability`, `departure`, `split_half`, and `null_stability` and `null_departure` of dims draw,
        or of_window and draw. NaN draws of a window say nothing against its components.
    """
    window = components["window"].to_numpy() if "window" in components.coords else np.zeros(1)
    of = np.broadcast_to(np.unique(window, return_inverse=True)[1], components.sizes["component"])
    shares = []
    for name in ("stability", "departure"):
        null = components[f"null_{name}"].transpose(..., "draw").to_numpy()
        shares.append(_share(components[name].to_numpy(), np.atleast_2d(null), of))
    p = np.maximum(*shares)
    apart = components["split_half"].to_numpy() < _ALIKE  # not where a half has too few dimensions to say
    return components.assign(p_value=("component", p), is_network=("component", (p <= ALPHA) & ~apart))


def _share(seen: Float64, null: Float64, of: Int) -> Float64:
    """Share of draws, and of what was seen, whose largest of all windows is as large: (component).

    `seen` (component) is of the windows `of` (component); `null` is (window, draw).
    """
    mute = np.asarray(np.all(np.isnan(null), axis=1))
    if len(null) > 1:
        seen, null = _standardised(seen, null, of)
    most: Float64 = np.fmax.reduce(null, axis=0)
    reached = np.sum(most[None] >= seen[:, None], axis=1)
    return np.asarray(np.where(mute[of], 1.0, 1.0 + reached) / (1 + null.shape[1]))


def _standardised(seen: Float64, null: Float64, of: Int) -> tuple[Float64, Float64]:
    """Count in standard deviations of the draws of the window: of all, or of all others for a draw itself."""
    others = [np.delete(null, i, axis=1) for i in range(null.shape[1])]
    mean, sd = null.mean(axis=1), null.std(axis=1, ddof=1)
    draws = [(x - o.mean(axis=1)) / o.std(axis=1, ddof=1) for x, o in zip(null.T, others, strict=True)]
    return (seen - mean[of]) / sd[of], np.stack(draws, axis=1)


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
    if n_components == 1 and isinstance(model, Spatial):
        stability = np.array([np.nan])  # nothing to rotate: as stable as what was recorded, whatever it is
    return [float(stability.max()), float(np.concatenate([e.departure for e in runs])[centres].max())]
