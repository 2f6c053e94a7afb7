"""Concentration in rows and columns: against definitions by hand; planted lines are found, chance is not."""

import dask.array as da
import numpy as np
import pytest

from actome.analyze.regions.concentration import concentration
from actome.store.errors import InputError, InputTypeError

from .synthetic import regions


def gini(counts):
    """Half the mean absolute difference over all pairs, over the mean."""
    return np.abs(counts[:, None] - counts).mean() / (2 * counts.mean())


def test_concentration__is_that_of_the_definitions(rng):
    mask = rng.random((2, 12, 30)) < [[[0.1]], [[0.4]]]
    found = concentration(regions({"w": mask}, ("x", "y")), lines=0.25, n_draws=3)
    for r in range(2):
        for line, counts in (("row", mask[r].sum(axis=1)), ("column", mask[r].sum(axis=0))):
            fullest = np.sort(counts)[::-1][: round(0.25 * len(counts))].sum()
            assert float(found[f"{line}_share"][0, r]) == pytest.approx(fullest / counts.sum())
            assert float(found[f"{line}_gini"][0, r]) == pytest.approx(gini(counts))
    assert found["size"].to_numpy().tolist() == [mask.sum(axis=(1, 2)).tolist()]


def test_concentration__the_null_is_that_of_regions_drawn_place_by_place(rng):
    size = 40
    mask = np.zeros((1, 10, 20), dtype=bool)
    mask.reshape(-1)[:size] = True
    found = concentration(regions({"w": mask}, ("x",)), lines=0.1, n_draws=2000)
    drawn = np.array(
        [
            np.bincount(rng.choice(200, size, replace=False) // 20, minlength=10).max() / size
            for _ in range(2000)
        ]
    )
    null = found["row_share_null"].to_numpy().ravel()
    assert null.mean() == pytest.approx(drawn.mean(), abs=4 * drawn.std() / np.sqrt(1000))
    assert null.std() == pytest.approx(drawn.std(), rel=0.15)


def test_concentration__planted_rows_are_found_and_chance_is_calibrated(rng):
    """A random region is as likely as not in the upper half of its null; a planted row never is by chance."""
    masks = np.zeros((60, 20, 30), dtype=bool)
    for m in masks:
        m.reshape(-1)[rng.choice(600, 30, replace=False)] = True
    p = concentration(regions({"w": masks}, tuple(map(str, range(60)))), n_draws=99)[
        "column_gini_p"
    ].to_numpy()
    assert 1 <= (p <= 0.1).sum() <= 13  # 6 expected, more where draws tie; binomial 99.8 %
    planted = np.zeros((1, 20, 30), dtype=bool)
    planted[0, 3] = True
    found = concentration(regions({"w": planted}, ("x",)), n_draws=99)
    assert float(found["row_share"][0, 0]) == 1 and float(found["row_share_p"][0, 0]) == 0.01
    assert float(found["column_share_p"][0, 0]) > 0.5


def test_concentration__an_empty_region_has_none_and_bad_numbers_are_refused():
    tree = regions({"w": np.zeros((1, 3, 4), dtype=bool)}, ("x",))
    found = concentration(tree, n_draws=2)
    assert np.isnan(found["row_gini"]).all() and np.isnan(found["row_gini_p"]).all()
    assert np.isnan(concentration(tree, n_draws=0)["row_share_p"]).all()
    for options, message in (
        ({"lines": 0}, "lines must be above 0"),
        ({"lines": "x"}, "lines must be a number"),
        ({"n_draws": -1}, "n_draws must be at least 0"),
        ({"n_draws": 2.5}, "n_draws must be a whole number"),
        ({"seed": -1}, "seed must be at least 0"),
    ):
        with pytest.raises((InputError, InputTypeError), match=message):
            concentration(tree, **options)


def test_concentration__of_a_tensor_of_more_than_a_billion_values():
    shape = (2**15, 2**15 + 1)
    lazy = da.map_blocks(
        lambda block_info=None: _first_row(block_info[None]["array-location"]),
        chunks=((1,), (2**10,) * 32, (shape[1],)), dtype=bool, meta=np.empty((0, 0, 0), dtype=bool),
    )  # fmt: skip
    found = concentration(regions({"w": lazy}, ("x",)), lines=1e-4, n_draws=9)
    assert found["size"].item() == 1000 and found["row_share"].item() == 1
    assert found["row_share_p"].item() == 0.1 and float(found["row_share_null"].max()) < 0.1


def _first_row(place):
    """The first thousand values of the first row are in the region."""
    out = np.zeros([last - first for first, last in place], dtype=bool)
    if place[1][0] == 0:
        out[0, 0, :1000] = True
    return out
