"""The command `recurrence`: whether a group's networks come back in single subjects."""

from typing import Annotated, Any

import typer

from ..store.errors import InputError
from .options import (
    CatalogOption,
    Out,
    Recording,
    Site,
    Threshold,
    TwoSided,
    Where,
    digests,
    masks_of,
    recording_of,
    refuse_taken,
    threshold_of,
)


def recurrence(
    name: Recording,
    templates: Annotated[
        str, typer.Option("--templates", "-t", help="Saved components or masks of the same neurons.")
    ],
    out: Out,
    components: Annotated[
        int | None,
        typer.Option("--components", "-k", help="Of each subject. [as many as the templates have]"),
    ] = None,
    subject: Annotated[str, typer.Option(help="'prompt', or a label.")] = "prompt",
    mode: Annotated[
        str | None, typer.Option(help="Sources over neurons (spatial) or tokens (temporal). [the templates']")
    ] = None,
    solver: Annotated[str, typer.Option(help="quasi-newton, fastica or picard.")] = "quasi-newton",
    jaccard: Annotated[float, typer.Option(help="Above it a component matches a template.")] = 0.2,
    sweep: Annotated[
        list[float] | None, typer.Option(help="Further thresholds to count at; again. [.05 to .5]")
    ] = None,
    null: Annotated[
        str, typer.Option(help="Random templates: layers (as many neurons in each), neurons or none.")
    ] = "layers",
    threshold: Threshold = None,
    two_sided: TwoSided = False,
    draws: Annotated[int, typer.Option(help="Of random templates, for each.")] = 999,
    seed: Annotated[int, typer.Option(help="Draws the starts and the random templates.")] = 0,
    where: Where = None,
    site: Site = None,
    catalog: CatalogOption = None,
) -> None:
    """Decompose every subject alone, and count where the templates come back, beside chance."""
    from ..analyze.components.networks import networks
    from ..analyze.subjects import individual_components
    from ..analyze.subjects import recurrence as run
    from ..store.archive import open as open_result
    from ..store.results import save_result

    refuse_taken(out)
    made = open_result(templates, catalog=catalog)
    masks = masks_of(templates, catalog, threshold, two_sided)
    if not masks.size:
        raise InputError(f"{templates} holds no network; of components, none beats the null")
    ds, n_left_out = _others(recording_of(name, site, catalog, where), masks)
    individuals = individual_components(
        ds,
        n_components=made.sizes.get("component", masks.sizes["network"])
        if components is None
        else components,
        subject=subject,
        mode=mode or made.attrs.get("mode", "spatial"),  # type: ignore[arg-type]
        solver=solver,  # type: ignore[arg-type]
        standardize=bool(made.attrs.get("standardize", True)),
        seed=seed,
    )
    options: dict[str, Any] = {} if not sweep else {"sweep": sorted(sweep)}
    result = run(
        masks,
        networks(individuals, *_kept_as(masks, threshold, two_sided), keep_all=True),
        jaccard=jaccard,
        null=None if null == "none" else null,  # type: ignore[arg-type]
        n_draws=draws,
        seed=seed,
        **options,
    )
    save_result(result.assign(size=masks.sum(("layer", "neuron"))), out, derived_from=digests(ds, made))
    print(_table(result).to_string(float_format="{:.3g}".format))
    if "p_samples" in result:
        print(_above_chance(result, subject))
    if n_left_out:
        print(f"{n_left_out} prompts that made the templates were left out")


def _kept_as(masks: Any, threshold: str | None, two_sided: bool) -> tuple[Any, bool]:
    """Say how the networks of subjects are made: as asked for, or as the templates were if that is known."""
    if threshold is None and not two_sided and "components" in masks.attrs:  # made by `networks`
        return threshold_of(masks.attrs["control"]), bool(masks.attrs["two_sided"])
    return threshold_of(threshold), two_sided


def _others(ds: Any, masks: Any) -> tuple[Any, int]:
    """Leave out the prompts that the templates were made from, in which they come back too easily.

    Templates of another model say nothing of these activations, even if they were made on the same texts.
    """
    import numpy as np

    from ..store.provenance import lineage, weights_of
    from ..store.selection import Selection, joined_selection

    source, models = (_listed(masks.attrs.get(name)) for name in ("source", "weights_digest"))
    is_same = bool(source & lineage(ds.attrs))  # the recording, or what it was appended to, cast from, ...
    model = weights_of(ds.attrs)
    if not is_same and model and models and "" not in models and model not in models:
        return ds, 0
    kept = ~joined_selection(masks.attrs).shared(Selection.of(ds), by_id=is_same)
    if not kept.any():
        raise InputError(
            f"all {len(kept)} prompts made the templates, which come back in them too easily; make the "
            "templates from some prompts, such as `actome ica --where run=0`, or give another recording"
        )
    return ds.isel(prompt=np.flatnonzero(kept)), int((~kept).sum())


def _listed(noted: Any) -> set[str]:
    """Return what a result notes, one or several."""
    return {noted} if isinstance(noted, str) else {*(noted or ())}


def _table(result: Any) -> Any:
    """Tabulate the counts of every template, beside chance where it was drawn."""
    names = {
        "components": "components", "expected_components": "by chance",
        "samples": "subjects", "expected_samples": "by chance ", "p_samples": "p",
    }  # fmt: skip
    shown = [v for v in names if v in result]
    return result[shown].to_dataframe()[shown].rename(columns=names).rename_axis("template")


def _above_chance(result: Any, subject: str) -> str:
    n = result.sizes["network"]
    above = int((result["p_samples"] <= 0.05 / n).sum())
    return (
        f"{above} of {n} templates come back in more of the {result.sizes['subject']} subjects (one a "
        f"{subject}) than random ones (p of at most .05, corrected for {n})"
    )
