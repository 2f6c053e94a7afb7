import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from statsmodels.stats.anova import anova_lm

from actome.analyze.reliability.intraclass import Intraclass


def of_statsmodels(x):
    """ICC(2,1) and ICC(3,1) of effects (fold, neuron), by Shrout and Fleiss from a two-way table."""
    k, n = x.shape
    fold, neuron = np.indices(x.shape)
    table = pd.DataFrame({"y": x.ravel(), "fold": fold.ravel(), "neuron": neuron.ravel()})
    squares = anova_lm(smf.ols("y ~ C(neuron) + C(fold)", table).fit())
    mean = squares["sum_sq"] / squares["df"]
    rows, columns, error = mean["C(neuron)"], mean["C(fold)"], mean["Residual"]
    return [
        (rows - error) / (rows + (k - 1) * error + k * (columns - error) / n),
        (rows - error) / (rows + (k - 1) * error),
    ]


@pytest.mark.parametrize("offset", [0.0, 300.0])
def test_intraclass__agrees_with_statsmodels(offset, rng):
    effect = (
        rng.standard_normal((2, 30)) + 0.7 * rng.standard_normal((4, 2, 30)) + rng.standard_normal((4, 2, 1))
    )
    effect += offset
    usable = rng.random((2, 30)) < 0.8
    effect[:, ~usable] = np.nan
    icc = Intraclass(4, 2)
    for part in np.split(np.arange(30), [3, 20]):
        icc.add(effect[:, :, part], usable[:, part])
    expected = [of_statsmodels(effect[:, c, usable[c]]) for c in range(2)]
    np.testing.assert_allclose(icc.result().T, expected, rtol=1e-9)


def test_intraclass__agreement_is_lost_to_a_shift_and_consistency_is_not(rng):
    effect = np.broadcast_to(rng.standard_normal(50), (3, 1, 50)).copy()
    same = Intraclass(3, 1)
    same.add(effect, np.ones((1, 50), dtype=bool))
    np.testing.assert_allclose(same.result()[:, 0], [1, 1])
    effect += np.array([0.0, 2.0, 4.0])[:, None, None]
    shifted = Intraclass(3, 1)
    shifted.add(effect, np.ones((1, 50), dtype=bool))
    assert shifted.result()[0, 0] < 0.5 and shifted.result()[1, 0] == pytest.approx(1)


def test_intraclass__is_nan_below_two_neurons():
    icc = Intraclass(3, 1)
    icc.add(np.ones((3, 1, 4)), np.array([[True, False, False, False]]))
    assert np.isnan(icc.result()).all()
