"""The demo model and paradigm: what the whole chain finds on a real, trained model."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import actome
from actome.demo import BASELINE, HELD_OUT_RUN, PARADIGM, run_demo


@pytest.fixture(scope="module", params=[4, pytest.param(None, marks=pytest.mark.slow)], ids=["few", "all"])
def paradigm(request):
    """All of it, or four languages and a third of the baseline."""
    whole = actome.Paradigm.read(PARADIGM)
    if request.param is None:
        return whole
    table = whole.table
    names = sorted(set(table["condition"]) - {BASELINE})[: request.param]
    baseline = table["prompt"][table["condition"] == BASELINE].tolist()[::3]
    return whole.select(prompt=[*table["prompt"][table["condition"].isin(names)], *baseline])


@pytest.fixture(scope="module")
def path(paradigm, tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "languages.zarr"
    actome.record("demo", paradigm, out)
    return out


@pytest.fixture(scope="module")
def summary(path):
    return actome.open(path, level="prompt").load()


def conditions(ds):
    return sorted(set(ds["condition"].values.tolist()) - {BASELINE})


def test_paradigm__is_a_block_design_of_at_least_eight_languages():
    table = actome.Paradigm.read(PARADIGM).table
    shown = set(table["condition"])
    assert {"ja", "ru", "el", "code", "random"} <= shown and len(shown - {"code", "random"}) >= 8
    assert table["run"].nunique() >= 3 and table["condition"].value_counts().min() >= 20
    for _, run in table.groupby("run"):
        order = run.groupby("block", sort=True)["condition"].unique()
        assert all(len(c) == 1 for c in order)
        assert order.str[0].tolist()[::3] == order.str[0].tolist()[2::3] == ["random"] * 10
    assert table["licence"].str.len().min() > 0 and table["source"].str.len().min() > 0


def test_model__predicts_held_out_passages_far_better_than_chance(path):
    ds = actome.open(path)
    loss = -ds["logprob"].mean("token").groupby(ds["condition"]).mean().to_pandas()
    assert loss.drop(BASELINE).max() < 5.0 < loss[BASELINE]  # nats per token; chance is ln 8192 = 9.0


def test_identify__networks_of_two_runs_name_the_conditions_of_the_third(summary):
    named = actome.identify(summary, n_permutations=20)
    assert float(named["accuracy"]) >= 0.9 and float(named["p_value"]) < 0.05


def test_score__each_languages_network_costs_that_language_most(paradigm, summary, tmp_path):
    select = summary.isel(prompt=np.flatnonzero(summary["run"] != HELD_OUT_RUN))
    fit = actome.fit_glm(select)
    names = conditions(summary)
    maps = [actome.compute_contrast(fit, f"{c} - mean(rest)") for c in names]
    contrasts = xr.concat(maps, pd.Index(names, dtype=object, name="network"), combine_attrs="drop_conflicts")
    masks = actome.threshold(contrasts, control="bonferroni")
    held_out = paradigm.select(run=HELD_OUT_RUN, condition=names)
    scores = actome.score("demo", held_out, tmp_path / "s.zarr", masks, reference=select, controls=1)
    effects = actome.lesion_effects(scores, n_bootstrap=200)
    effect = effects["effect"].to_pandas()
    for name in names:
        own = effect.loc[name, name]
        assert own > effect.loc[name].drop(name).max()
        assert own > float(effects["control"].sel(network=name, condition=name).max())


@pytest.mark.slow
def test_threshold__no_neuron_survives_shuffled_labels_more_often_than_it_may(summary):
    rng = np.random.default_rng(0)
    names, run = conditions(summary), summary["run"].values
    n, survived = 200, 0
    for i in range(n):
        labels = summary["condition"].values.copy()
        for r in np.unique(run):
            where = np.flatnonzero(run == r)
            labels[where] = labels[rng.permutation(where)]
        fit = actome.fit_glm(summary.assign_coords(condition=("prompt", labels)))
        contrast = actome.compute_contrast(fit, f"{names[i % len(names)]} - mean(rest)")
        survived += bool(actome.threshold(contrast, control="bonferroni", alpha=0.05).any())
    print(f"any surviving neuron in {survived} of {n} shuffles")
    assert survived / n <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / n)


@pytest.mark.slow
def test_run_demo__a_second_run_opens_what_the_first_made(tmp_path):
    report = run_demo(tmp_path / "d", controls=1)
    files = [p for p in (tmp_path / "d").rglob("*") if p.is_file() and p.suffix != ".html"]
    made = {p: p.stat().st_mtime_ns for p in files}
    assert run_demo(tmp_path / "d", controls=1) == report
    assert {p: p.stat().st_mtime_ns for p in made} == made
