"""The command `glm`."""

import warnings
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..store.errors import InputError
from .options import CatalogOption, Measure, Out, Recording, Site, refuse_taken

if TYPE_CHECKING:
    import xarray as xr


def glm(
    name: Recording,
    contrast: Annotated[
        list[str], typer.Option("--contrast", "-c", help="Such as 'fr - mean(rest)'; may be given again.")
    ],
    out: Out,
    formula: Annotated[
        str, typer.Option(help="A label, or a formula over labels and variables of tokens.")
    ] = "condition",
    confound: Annotated[
        list[str] | None,
        typer.Option(help="A label, token_position, log_frequency or n_tokens; may be given again [run]."),
    ] = None,
    drift: Annotated[
        str | None, typer.Option(help="linear, quadratic or cosine, over the prompts of a run.")
    ] = None,
    kernel: Annotated[
        str | None, typer.Option(help="Weights of a token and of those before it, such as 1,0.5,0.25.")
    ] = None,
    weights: Annotated[str | None, typer.Option(help="A label with the precision of each prompt.")] = None,
    skip_first: Annotated[
        int, typer.Option(help="Tokens left out at the start of each prompt, where attention sinks lie.")
    ] = 0,
    measure: Measure = "magnitude",
    noise: Annotated[str, typer.Option(help="cluster, cr2, ols or ar1.")] = "cluster",
    unit: Annotated[str, typer.Option(help="token or prompt.")] = "token",
    control: Annotated[str, typer.Option(help="fdr, by, bonferroni or maxt (permutations).")] = "fdr",
    alpha: Annotated[float, typer.Option(help="Error rate.")] = 0.05,
    permutations: Annotated[int, typer.Option(help="Permutations of the prompts for maxt.")] = 1000,
    scheme: Annotated[str, typer.Option(help="What maxt exchanges: labels or signs.")] = "labels",
    seed: Annotated[int, typer.Option(help="Draws the permutations.")] = 0,
    site: Site = None,
    catalog: CatalogOption = None,
) -> None:
    """Fit a GLM and save its contrasts, with the neurons that stand out."""
    import pandas as pd
    import xarray as xr

    from ..analyze.contrasts import compute_contrast
    from ..analyze.glm import fit_glm
    from ..analyze.threshold import threshold
    from ..store.results import save_result

    refuse_taken(out)
    if control == "maxt":
        _refuse_no_permutation(noise, {"drift": drift, "kernel": kernel, "weights": weights})
    options: dict[str, Any] = {
        "confounds": tuple(confound) if confound else ("run",),
        "drift": drift,
        "kernel": None if kernel is None else _numbers(kernel),
    }
    ds = _opened(name, site, catalog, formula, options, skip_first=skip_first, needs_tokens=noise == "ar1")
    fit = fit_glm(ds, formula, measure=measure, noise=noise, unit=unit, weights=weights, **options)  # type: ignore[arg-type]
    maps = [compute_contrast(fit, c) for c in contrast]
    if control == "maxt":
        draws = {"scheme": scheme, "n_permutations": permutations, "seed": seed}
        maps = [_permuted(m, c, ds, fit, draws) for m, c in zip(maps, contrast, strict=True)]
    networks = pd.Index(contrast, dtype=object, name="network")
    result = xr.concat(maps, networks, combine_attrs="drop_conflicts").compute()
    result["mask"] = threshold(result, control=control, alpha=alpha)  # type: ignore[arg-type]
    save_result(
        result.assign_attrs(control=control, alpha=alpha), out, derived_from=ds.attrs.get("manifest_digest")
    )
    for c, n in zip(contrast, result["mask"].sum(("layer", "neuron")).to_numpy(), strict=True):
        print(f"{c}: {n} of {result['mask'][0].size} neurons ({control}, alpha {alpha})")


def _permuted(
    tested: "xr.Dataset", contrast: str, ds: "xr.Dataset", fit: "xr.Dataset", draws: dict[str, Any]
) -> "xr.Dataset":
    """Add the p that permutations correct for all neurons."""
    from ..analyze.permutation import permutation_test

    plain = ("formula", "measure", "unit", "confounds")
    test = permutation_test(ds, contrast, **{k: fit.attrs[k] for k in plain}, **draws)
    return tested.assign(p_corrected=test["p_corrected"]).assign_attrs(
        {k: test.attrs[k] for k in ("exchangeability", "n_distinct", "two_sided")}
    )


def _refuse_no_permutation(noise: str, options: dict[str, Any]) -> None:
    """Refuse for maxt what `permutation_test` has no part of."""
    given = [f"--{k}" for k, v in options.items() if v is not None]
    if noise != "cluster":
        given.append(f"--noise {noise}")
    if given:
        raise InputError(
            f"--control maxt permutes the t of clustered noise; leave out {', '.join(given)}, or choose "
            "another control"
        )


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise InputError(f"--kernel takes numbers with commas between them, got {text!r}") from error


def _opened(
    name: str,
    site: str | None,
    catalog: list[str] | None,
    formula: str,
    options: dict[str, Any],
    *,
    skip_first: int,
    needs_tokens: bool,
) -> "xr.Dataset":
    """Open the cube where the fit needs it, or else the moments of the prompts, which hold as much."""
    from ..analyze.design import design_matrix
    from ..store.archive import open as open_recording

    if skip_first < 0:
        raise InputError(f"--skip-first must not be negative, got {skip_first}")
    ds = open_recording(name, site=site, catalog=catalog)
    if "token" not in ds.dims:
        if skip_first:
            raise InputError(f"{name} holds the moments of each prompt; no token of it can be left out")
        return ds
    ds = ds.isel(token=slice(skip_first, None))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the fit gives them again
        by_token = "token" in design_matrix(ds, formula, **options)["design"].dims
    if skip_first or needs_tokens or by_token:
        return ds
    return open_recording(name, site=site, level="prompt", catalog=catalog)
