"""The time course of a neuron: its tokens in order, beside the fitted mean of their condition."""

import numpy as np
import pytest
import scipy.stats

import actome
from actome.analyze.time_course import time_course
from actome.store.errors import InputError, InputTypeError
from actome.store.phantom import phantom


@pytest.fixture(scope="module")
def ds():
    return phantom(n_prompts=6, n_tokens=(2, 5), n_layers=2, n_neurons=6, fraction=0.1, effect=2.0)


def parts(ds):
    """The last run, and the others."""
    last = ds["run"].to_numpy() == ds["run"].to_numpy().max()
    return ds.isel(prompt=np.flatnonzero(last)), ds.isel(prompt=np.flatnonzero(~last))


@pytest.mark.parametrize("measure", ["magnitude", "signed"])
def test_time_course__holds_the_tokens_in_order_and_the_means_of_other_prompts(ds, measure):
    shown, others = parts(ds)
    fit = actome.fit_glm(others, measure=measure, confounds=())
    course = time_course(shown, fit, layer=1, neuron=4)

    def tokens(part):
        """Values of all tokens, with condition and prompt, read with nothing but a loop."""
        out = []
        for i in range(part.sizes["prompt"]):
            one = part.isel(prompt=i)
            x = one["activation"].sel(layer=1, neuron=4).to_numpy().astype(float)
            x = x[~np.isnan(x)]
            label = (str(one["condition"].item()), str(one["prompt"].item()))
            out += [(abs(v) if measure == "magnitude" else v, *label) for v in x.tolist()]
        return out

    expected = tokens(shown)
    np.testing.assert_array_equal(course["value"], [v for v, _, _ in expected])
    assert course["prompt"].to_numpy().tolist() == [p for _, _, p in expected]
    fitted = tokens(others)
    means = {c: np.mean([v for v, d, _ in fitted if d == c]) for c in {c for _, c, _ in fitted}}
    np.testing.assert_allclose(course["prediction"], [means[c] for _, c, _ in expected], rtol=1e-9)
    r = scipy.stats.pearsonr(course["value"], course["prediction"])[0]
    assert float(course["correlation"]) == pytest.approx(r, rel=1e-9)
    assert course.attrs["selected_on"] == [str(p) for p in others["prompt"].to_numpy()]


def test_time_course__does_not_depend_on_chunks(ds):
    shown, others = parts(ds)
    fit = actome.fit_glm(others)
    whole = time_course(shown, fit, layer=0, neuron=2)
    cut = time_course(shown.chunk(prompt=2, token=1, neuron=4), fit, layer=0, neuron=2)
    assert whole.identical(cut)


def test_time_course__of_a_silent_neuron_has_no_correlation(ds):
    shown, others = parts(ds.assign(activation=ds["activation"].where(ds["activation"].isnull(), 1.0)))
    course = time_course(shown, actome.fit_glm(others), layer=0, neuron=0)
    assert np.isnan(course["correlation"]) and set(course["value"].to_numpy().tolist()) == {1.0}


def test_time_course__refuses_what_it_cannot_show(ds, tmp_path):
    fit = actome.fit_glm(ds)
    with pytest.raises(InputError, match="there is no layer 9; there are 2"):
        time_course(ds, fit, layer=9, neuron=0)
    with pytest.raises(InputError, match="there is no neuron 9; there are 6"):
        time_course(ds, fit, layer=0, neuron=9)
    with pytest.raises(InputTypeError, match="takes a fit"):
        time_course(ds, ds, layer=0, neuron=0)
    moments = actome.open(actome.save(ds, tmp_path / "r.zarr"), level="prompt")
    with pytest.raises(InputError, match="open the recording with level='token'"):
        time_course(moments, fit, layer=0, neuron=0)
    few = ds.isel(prompt=np.flatnonzero(ds["condition"] != "a"))
    with pytest.raises(
        InputError, match=r"no mean of the conditions \['a'\]; it has those of \['b', 'rest'\]"
    ):
        time_course(ds, actome.fit_glm(few), layer=0, neuron=0)
    with pytest.raises(InputError, match="no label 'condition'"):
        time_course(ds.drop_vars("condition"), fit, layer=0, neuron=0)
