"""Commands on networks that were found: `label`, `dual-regression` and `connectivity`."""

from typing import Annotated, Any

import typer

from ..store.errors import InputError
from .options import (
    CatalogOption,
    Out,
    Recording,
    Site,
    Where,
    beside,
    confounds_of,
    contrasts_of,
    digests,
    masks_of,
    recording_of,
    refuse_taken,
    refuse_threshold_of_masks,
)

Components = Annotated[str, typer.Argument(help="Saved components, of the same layers and neurons.")]
By = Annotated[str, typer.Option(help="Label whose values are the conditions.")]
Confound = Annotated[
    list[str] | None,
    typer.Option(help="Label within whose values prompts are exchanged; may be given again [run]."),
]


def label(
    name: Recording,
    components: Components,
    out: Out,
    contrasts: Annotated[
        str | None,
        typer.Option(help="Saved contrasts to compare the maps with; of `glm --measure signed`."),
    ] = None,
    by: By = "condition",
    confound: Confound = None,
    alpha: Annotated[float, typer.Option(help="Chance that any component gets a label by luck.")] = 0.05,
    permutations: Annotated[int, typer.Option(help="Permutations of the prompts.")] = 1000,
    seed: Annotated[int, typer.Option(help="Draws the permutations.")] = 0,
    where: Where = None,
    site: Site = None,
    catalog: CatalogOption = None,
) -> None:
    """Say which condition each component follows in a recording, and which contrast it looks like."""
    from ..analyze.components.labelling import label_components
    from ..analyze.components.networks import component_names
    from ..analyze.subjects import dual_regression
    from ..store.arguments import check_seed
    from ..store.results import save_result

    refuse_taken(out)
    check_seed(seed)
    ds = recording_of(name, site, catalog, where)
    confounds = confounds_of(ds, confound)
    found = _components(components, catalog)
    result = label_components(
        found,
        dual_regression(ds, found),
        None if contrasts is None else _contrasts(contrasts, catalog),
        by=by,
        confounds=confounds,
        alpha=alpha,
        n_permutations=permutations,
        seed=seed,
    )
    save_result(result, out, derived_from=digests(ds, found))
    for i, component in enumerate(component_names(result["component"])):
        print(_labelled(component, result.isel(component=i)))


def dual_regression(
    name: Recording,
    components: Components,
    out: Out,
    subject: Annotated[str, typer.Option(help="'prompt', or a label.")] = "prompt",
    demean: Annotated[bool, typer.Option("--demean", help="Take each subject's own mean off.")] = False,
    where: Where = None,
    site: Site = None,
    catalog: CatalogOption = None,
) -> None:
    """Save each subject's maps and time courses of a group's components."""
    from ..analyze.components.networks import component_names
    from ..analyze.subjects import dual_regression as run
    from ..store.archive import open as open_result
    from ..store.results import save_result

    refuse_taken(out)
    ds = recording_of(name, site, catalog, where)
    found = _components(components, catalog)
    save_result(run(ds, found, subject=subject, demean=demean), out, derived_from=digests(ds, found))
    saved = open_result(out)
    mean = saved["similarity"].mean("subject").to_numpy()
    for component, r in zip(component_names(saved["component"]), mean.tolist(), strict=True):
        print(f"{component}: {r:.3f} correlation of a subject's map with the group's, on average")


def connectivity(
    name: Recording,
    networks: Annotated[
        str, typer.Option("--networks", "-n", help="Saved components or masks of the same neurons.")
    ],
    out: Out,
    by: By = "condition",
    contrast: Annotated[
        list[str] | None,
        typer.Option("--contrast", "-c", help="Differences to test, 'fr - en'; may be given again."),
    ] = None,
    threshold: Annotated[
        str | None,
        typer.Option(
            help="Average the neurons of each component that Z(3.6), Top(0.05), OfMaximum(0.5) or Mixture() "
            "keeps, instead of regressing on its map."
        ),
    ] = None,
    partial: Annotated[bool, typer.Option("--partial", help="Of two networks given all others.")] = False,
    shrinkage: Annotated[str | None, typer.Option(help="ledoit_wolf: for prompts of few tokens.")] = None,
    graph: Annotated[
        float | None, typer.Option(help="Measures of the graph of this share of the pairs, such as 0.2.")
    ] = None,
    confound: Confound = None,
    permutations: Annotated[int, typer.Option(help="Permutations of the prompts.")] = 1000,
    seed: Annotated[int, typer.Option(help="Draws the permutations.")] = 0,
    where: Where = None,
    site: Site = None,
    catalog: CatalogOption = None,
) -> None:
    """Correlate the time courses of networks in each condition; test contrasts, describe the graph."""
    from ..analyze.connectivity import connectivity as run
    from ..analyze.connectivity import connectivity_difference, graph_measures
    from ..analyze.report.connectivity import difference_line
    from ..store.arguments import check_seed
    from ..store.results import save_result

    paths = {"": out, "differences": beside(out, "differences"), "graph": beside(out, "graph")}
    for path in paths.values():
        refuse_taken(path)
    check_seed(seed)
    refuse_threshold_of_masks([networks], catalog, threshold)
    ds = recording_of(name, site, catalog, where)
    confounds = confounds_of(ds, confound)
    courses = _courses(ds, networks, catalog, threshold)
    connected = run(courses, by=by, partial=partial, shrinkage=shrinkage)  # type: ignore[arg-type]
    tests = [
        connectivity_difference(
            connected, c, confounds=confounds, n_permutations=permutations, seed=seed
        )
        for c in contrast or ()
    ]  # fmt: skip
    results = {"": connected}
    if tests:
        results["differences"] = _together(tests, contrast or [])
    if graph is not None:
        results["graph"] = graph_measures(connected, density=graph)
    for what, result in results.items():
        save_result(result, paths[what], derived_from=digests(ds))
        print(paths[what])
    for test in tests:
        print(difference_line(test))


def _components(name: str, catalog: list[str] | None) -> Any:
    from ..store.archive import open as open_result

    ds = open_result(name, catalog=catalog)
    if "component_map" not in ds or "component" not in ds.dims:
        raise InputError(f"{name} holds no components; make them with `actome ica`")
    return ds.load()


def _contrasts(name: str, catalog: list[str] | None) -> dict[str, Any]:
    """Read saved contrasts, one map each."""
    ds = contrasts_of(name, catalog)
    if ds.attrs.get("measure") == "magnitude":
        raise InputError(
            f"{name} is of magnitudes, which components look like none of; make it with "
            "`actome glm --measure signed`"
        )
    if "network" not in ds.dims:
        return {str(ds.attrs.get("contrast", "contrast")): ds}
    return {str(ds["network"][i].item()): ds.isel(network=i) for i in range(ds.sizes["network"])}


def _courses(ds: Any, name: str, catalog: list[str] | None, threshold: str | None) -> Any:
    """Time courses: of components those that are networks, all having been regressed together.

    With a threshold, the means of the neurons that it keeps of them.
    """
    import numpy as np

    from ..analyze.subjects import dual_regression, network_time_courses
    from ..store.archive import open as open_result

    no_network = InputError(f"{name} holds no network: none of its components beats the null")
    given = open_result(name, catalog=catalog).load()
    if "component_map" in given and threshold is None:
        if "is_network" not in given:
            return dual_regression(ds, given)
        kept = np.flatnonzero(given["is_network"].to_numpy())
        if not kept.size:
            raise no_network
        return dual_regression(ds, given)[["time_course"]].isel(component=kept)
    masks = masks_of(name, catalog, threshold)
    if not masks.size:
        raise no_network
    return network_time_courses(ds, masks)


def _together(tests: list[Any], contrasts: list[str]) -> Any:
    """Stack the tests of several contrasts."""
    import pandas as pd
    import xarray as xr

    if len(tests) == 1:
        return tests[0]
    names = pd.Index(contrasts, dtype=object, name="contrast")
    assumed = [str(t.attrs.get("exchangeability", "")) for t in tests]
    stacked = xr.concat(tests, names, combine_attrs="drop_conflicts")
    return stacked.assign(exchangeability=("contrast", assumed))


def _labelled(name: str, one: Any) -> str:
    """Say of one component what it follows and looks like."""
    text = f"{name}: "
    if label := str(one["label"].item()):
        at = {"condition": label}
        r, p = (float(one[v].sel(at)) for v in ("correlation", "p_corrected"))
        text += f"{'follows' if r > 0 else 'falls in'} {label} (r {r:.2f}, p {p:.3g})"
    else:
        text += f"follows no condition (smallest p {float(one['p_corrected'].min()):.3g})"
    if "map_label" in one and (alike := str(one["map_label"].item())):
        r = float(one["map_correlation"].sel(contrast=alike))
        text += f"; its map is most like {alike} (r {r:.2f})"
    return text
