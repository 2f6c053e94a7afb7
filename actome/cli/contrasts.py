"""The command `glm`."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ..store.errors import InputError
from .options import CatalogOption, Measure, Out, Recording, Site, Where, chosen, recording_of, refuse_taken

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

_SHOWN: Final = 5  # neurons of each contrast that are printed


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
        typer.Option(
            help="A label, token_position, log_frequency or n_tokens; again. Takes the place of run, the "
            "default: name run too to keep it. [run, where there is one]"
        ),
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
    control: Annotated[
        str,
        typer.Option(help="fdr, by, bonferroni, maxt (permutations); or P(0.001), Z(3.1) or Top(0.01)."),
    ] = "fdr",
    alpha: Annotated[float, typer.Option(help="Error rate of a named control.")] = 0.05,
    permutations: Annotated[int, typer.Option(help="Permutations of the prompts for maxt.")] = 1000,
    scheme: Annotated[str, typer.Option(help="What maxt exchanges: labels or signs.")] = "labels",
    seed: Annotated[int, typer.Option(help="Draws the permutations.")] = 0,
    csv: Annotated[
        str | None, typer.Option(help="A file for all neurons that stand out, with their tests.")
    ] = None,
    where: Where = None,
    site: Site = None,
    catalog: CatalogOption = None,
) -> None:
    """Fit a GLM and save its contrasts; print how many neurons stand out, and the first of them."""
    import pandas as pd
    import xarray as xr

    from ..analyze.contrasts import compute_contrast
    from ..analyze.glm import fit_glm
    from ..analyze.threshold import check_fraction, read_control, threshold
    from ..store.results import save_result

    refuse_taken(out)
    _refuse_taken_file(csv)
    _refuse_repeated(contrast)
    rule = read_control(control)
    check_fraction("--alpha", alpha)
    if control == "maxt":
        _refuse_no_permutation(noise, {"drift": drift, "kernel": kernel, "weights": weights})
    options: dict[str, Any] = {
        "confounds": tuple(confound) if confound else None,
        "drift": drift,
        "kernel": None if kernel is None else _numbers(kernel),
    }
    ds = _opened(
        name, site, catalog, where, formula, options, skip_first=skip_first, needs_tokens=noise == "ar1"
    )
    fit = fit_glm(ds, formula, measure=measure, noise=noise, unit=unit, weights=weights, **options)  # type: ignore[arg-type]
    maps = [compute_contrast(fit, c) for c in contrast]
    if control == "maxt":
        draws = {"scheme": scheme, "n_permutations": permutations, "seed": seed}
        draws["confounds"] = options["confounds"]  # as given: within those that the formula names, too
        maps = [_permuted(m, c, ds, fit, draws) for m, c in zip(maps, contrast, strict=True)]
    networks = pd.Index(contrast, dtype=object, name="network")
    result = xr.concat(maps, networks, combine_attrs="drop_conflicts").compute()
    result["mask"] = threshold(result, control=rule, alpha=alpha)
    terms = {k: v for k, v in result["mask"].attrs.items() if k in ("control", "alpha")}
    save_result(result.assign_attrs(terms), out, derived_from=ds.attrs.get("manifest_digest"))
    _tell(result, f"{control}, alpha {alpha}" if "alpha" in terms else control, csv)


def _tell(result: "xr.Dataset", rule: str, csv: str | None) -> None:
    """Print of each contrast how many neurons stand out, and the strongest; write all to a file if asked."""
    import pandas as pd

    from ..analyze.kept_neurons import kept_neurons

    tables: dict[str, pd.DataFrame] = {}
    for i, name in enumerate(result["network"].to_numpy().tolist()):
        one = result.isel(network=i)
        tables[name] = found = kept_neurons(one, one["mask"])
        print(f"{name}: {len(found)} of {one['mask'].size} neurons ({rule})")
        if len(found):
            print(_shown(found))
        if len(found) > _SHOWN and csv is None:
            print(f"  and {len(found) - _SHOWN} more; --csv FILE writes all")
    if csv is not None:
        Path(csv).parent.mkdir(parents=True, exist_ok=True)
        table = pd.concat(tables, names=["contrast"]).reset_index("contrast")
        table.to_csv(csv, index=False)
        print(csv)


def _shown(found: "pd.DataFrame") -> str:
    """Tabulate the first neurons: effect, z (or the statistic), p."""
    columns = {
        "layer": "layer", "neuron": "neuron", "effect": "effect",
        "z_score" if "z_score" in found else "stat": "z" if "z_score" in found else "statistic",
        "p_value": "p", "p_corrected": "p corrected",
    }  # fmt: skip
    first = found.head(_SHOWN).rename(columns=columns)[[c for k, c in columns.items() if k in found]]
    text: str = first.to_string(index=False, float_format="{:.3g}".format)
    return "\n".join(f"  {line}" for line in text.splitlines())


def _refuse_taken_file(path: str | None) -> None:
    if path is None:
        return
    if "://" in path:
        raise InputError(f"--csv writes a file of this machine, got {path}")
    if Path(path).exists():
        raise InputError(f"{path} is there already; choose another file for --csv or remove it")


def _refuse_repeated(contrasts: Sequence[str]) -> None:
    """Refuse what would be two networks of one name, which no lesion could tell apart."""
    plain = [" ".join(c.split()) for c in contrasts]
    if repeated := [c for c in plain if plain.count(c) > 1]:
        raise InputError(f"--contrast {repeated[0]!r} is given more than once; give each once")


def _permuted(
    tested: "xr.Dataset", contrast: str, ds: "xr.Dataset", fit: "xr.Dataset", draws: dict[str, Any]
) -> "xr.Dataset":
    """Add the p that permutations correct for all neurons."""
    from ..analyze.permutation import permutation_test

    plain = ("formula", "measure", "unit")
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
    where: list[str] | None,
    formula: str,
    options: dict[str, Any],
    *,
    skip_first: int,
    needs_tokens: bool,
) -> "xr.Dataset":
    """Open the cube where the fit needs it, or else the moments of the prompts, which hold as much."""
    from ..analyze.design import design_matrix
    from ..store.archive import open_so_far

    if skip_first < 0:
        raise InputError(f"--skip-first must not be negative, got {skip_first}")
    ds: xr.Dataset = recording_of(name, site, catalog, where)
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
    # of what is missing it was said
    ds = chosen(open_so_far(name, site=site, level="prompt", catalog=catalog), where)
    return ds
