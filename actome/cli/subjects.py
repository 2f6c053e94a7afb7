"""The command `recurrence`: whether a group's networks come back in single subjects."""

from typing import Annotated, Any

import typer

from ..store.errors import InputError
from .options import CatalogOption, Out, Recording, Site, Where, chosen, digests, masks_of, refuse_taken


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
    from ..store.archive import open as open_recording
    from ..store.results import save_result

    refuse_taken(out)
    masks, made = masks_of(templates, catalog), open_recording(templates, catalog=catalog)
    if not masks.size:
        raise InputError(f"{templates} holds no network; of components, none beats the null")
    ds, n_left_out = _others(chosen(open_recording(name, site=site, catalog=catalog), where), masks)
    individuals = individual_components(
        ds,
        n_components=components or made.sizes.get("component", masks.sizes["network"]),
        subject=subject,
        mode=mode or made.attrs.get("mode", "spatial"),  # type: ignore[arg-type]
        solver=solver,  # type: ignore[arg-type]
        standardize=bool(made.attrs.get("standardize", True)),
        seed=seed,
    )
    options: dict[str, Any] = {} if not sweep else {"sweep": sorted(sweep)}
    result = run(
        masks,
        networks(individuals, keep_all=True),
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


def _others(ds: Any, masks: Any) -> tuple[Any, int]:
    """Leave out the prompts that the templates were made from, in which they come back too easily."""
    import numpy as np

    if ds.attrs.get("manifest_digest", "") not in masks.attrs.get("source", []):
        return ds, 0
    made = set(masks.attrs.get("selected_on", []))
    kept = np.array([str(p) not in made for p in ds["prompt"].to_numpy()])
    if not kept.any():
        raise InputError(
            f"all {len(kept)} prompts made the templates, which come back in them too easily; make the "
            "templates from some prompts, such as `actome ica --where run=0`, or give another recording"
        )
    return ds.isel(prompt=np.flatnonzero(kept)), int((~kept).sum())


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
