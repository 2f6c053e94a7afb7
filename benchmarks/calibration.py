"""Whether p-values keep their promise: false positives on nulls, and power on planted effects.

    python benchmarks/calibration.py [--neurons 100000] [--power]

Nulls have what tokens of real text have: prompts that differ (a variance of a quarter of the noise's),
tokens that remember the one before (r = .5), prompts of unequal length. Neurons are independent, so the
count of false ones is binomial; a rate outside the central 99 % of its binomial is marked with a star.
"""

import argparse
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.stats
import xarray as xr

import actome
from actome.store.phantom import phantom

ALPHAS = (0.05, 1e-3, 1e-5)
AT_ONCE = 2_000  # neurons of one phantom
TEXT: dict[str, Any] = {
    "conditions": ("a", "rest"),
    "n_runs": 2,
    "n_tokens": (8, 24),
    "n_layers": 1,
    "prompt_sd": 0.5,
    "autocorrelation": 0.5,
}
DESIGNS = {"20 and 20": (20, 20), "6 and 6": (6, 6), "30 and 8": (30, 8), "100 and 100": (100, 100)}
METHODS: Mapping[str, Mapping[str, Any]] = {
    "cluster": {"noise": "cluster"},
    "cr2": {"noise": "cr2"},
    "prompts' means, OLS": {"noise": "ols", "unit": "prompt"},
    "tokens, AR(1)": {"noise": "ar1"},
    "tokens, OLS": {"noise": "ols"},
}


def recordings(sizes: tuple[int, int], n_neurons: int, effect: float = 0.0) -> Iterator[xr.Dataset]:
    """Make phantoms of two conditions, some thousands of neurons at a time."""
    for seed in range(max(1, n_neurons // AT_ONCE)):
        ds = phantom(**TEXT, n_prompts=max(sizes), n_neurons=AT_ONCE, effect=effect, fraction=0.1, seed=seed)
        kept = [np.flatnonzero(ds["condition"] == c)[:n] for c, n in zip(("a", "rest"), sizes, strict=True)]
        yield ds.isel(prompt=np.sort(np.concatenate(kept)))


def p_values(ds: xr.Dataset, measure: str, options: Mapping[str, Any]) -> npt.NDArray[np.float64]:
    fit = actome.fit_glm(ds, measure=measure, **options)  # type: ignore[arg-type]
    return actome.compute_contrast(fit, "a - rest")["p_value"].to_numpy().ravel()


def false_positives(n_neurons: int) -> None:
    print(
        f"false positives over their nominal rate, {n_neurons:,} neurons; alpha "
        + ", ".join(map(str, ALPHAS))
    )
    for measure in ("signed", "magnitude"):
        for design, sizes in DESIGNS.items():
            found: dict[str, list[npt.NDArray[np.float64]]] = {name: [] for name in METHODS}
            for ds in recordings(sizes, n_neurons):
                for name, options in METHODS.items():
                    found[name].append(p_values(ds, measure, options))
            for name, parts in found.items():
                rates = "  ".join(f"{_rate(np.concatenate(parts), alpha):>8}" for alpha in ALPHAS)
                print(f"{measure:<10} {design:<12} {name:<20} {rates}", flush=True)


def _rate(p: npt.NDArray[np.float64], alpha: float) -> str:
    """Return the share of p at most alpha, over alpha; a star where chance does not explain it."""
    n = int((p <= alpha).sum())
    low, high = scipy.stats.binom.interval(0.99, len(p), alpha)
    return f"{n / len(p) / alpha:.2f}{' ' if low <= n <= high else '*'}"


def family_wise(n_families: int) -> None:
    """Print how often any of 200 neurons of a null is kept at .05."""
    print(f"families of 200 neurons with any false one, of {n_families}, at .05")
    kept = {name: 0 for name in ("bonferroni", "maxt, labels", "maxt, signs")}
    for seed in range(n_families):
        ds = phantom(**TEXT, n_prompts=20, n_neurons=200, effect=0.0, seed=seed)
        contrast = actome.compute_contrast(actome.fit_glm(ds), "a - rest")
        kept["bonferroni"] += bool(actome.threshold(contrast, control="bonferroni").any())
        for scheme in ("labels", "signs"):
            test = actome.permutation_test(ds, "a - rest", scheme=scheme, n_permutations=200, seed=seed)
            kept[f"maxt, {scheme}"] += bool(actome.threshold(test, control="maxt").any())
    for name, n in kept.items():
        interval = scipy.stats.binomtest(n, n_families).proportion_ci()
        print(f"{name:<16} {n / n_families:.3f}  ({interval.low:.3f} to {interval.high:.3f})")


def power(n_neurons: int) -> None:
    """Print what share of planted neurons is found, and what share of those found is not planted."""
    print("planted effect in standard deviations of the noise; found / false among found, 10 % planted")
    for effect in (0.25, 0.5, 1.0):
        for name, options in METHODS.items():
            found = planted = false = 0
            for ds in recordings((20, 20), n_neurons, effect):
                contrast = actome.compute_contrast(
                    actome.fit_glm(ds, measure="signed", **options), "a - rest"
                )
                mask = actome.threshold(contrast, control="fdr").to_numpy()
                truth = ds["true_effect"].sel(condition_name="a").to_numpy() > 0
                found, planted = found + (mask & truth).sum(), planted + truth.sum()
                false += (mask & ~truth).sum()
            print(
                f"{effect:<5} {name:<20} {found / planted:.2f}  {false / max(1, found + false):.3f}",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--neurons", type=int, default=100_000)
    parser.add_argument("--families", type=int, default=0)
    parser.add_argument("--power", action="store_true")
    options = parser.parse_args()
    if options.families:
        family_wise(options.families)
    elif options.power:
        power(options.neurons)
    else:
        false_positives(options.neurons)


if __name__ == "__main__":
    main()
