"""The command `ica`: the networks of a recording, and which of them are more than chance."""

from typing import Annotated, Any

import typer

from ..store.errors import InputError
from .options import CatalogOption, Out, Recording, Site, Where, chosen, refuse_taken


def ica(
    name: Recording,
    out: Out,
    components: Annotated[
        str,
        typer.Option(
            "--components",
            "-k",
            help="How many; a share of the variance (0.8); or 'parallel': as many as vary more than chance.",
        ),
    ] = "10",
    subject: Annotated[str, typer.Option(help="'prompt', or a label.")] = "prompt",
    mode: Annotated[
        str, typer.Option(help="Sources over neurons (spatial) or tokens (temporal).")
    ] = "spatial",
    group: Annotated[str, typer.Option(help="pca, or cca: what subjects have in common leads.")] = "pca",
    solver: Annotated[str, typer.Option(help="quasi-newton, fastica or picard.")] = "quasi-newton",
    window: Annotated[
        int | None, typer.Option(help="Layers decomposed together; all of them when left out.")
    ] = None,
    runs: Annotated[int, typer.Option(help="Repeats with bootstrapped subjects.")] = 10,
    null: Annotated[int, typer.Option(help="Draws of Gaussian scores to compare with; 0: none.")] = 19,
    seed: Annotated[int, typer.Option(help="Draws the bootstraps, the starts and the null.")] = 0,
    standardize: Annotated[bool, typer.Option(help="Give every neuron unit variance.")] = True,
    where: Where = None,
    site: Site = None,
    catalog: CatalogOption = None,
) -> None:
    """Decompose a recording into components; say how stable each is, and which are networks."""
    from ..analyze.components.ica import group_ica
    from ..store.archive import open as open_recording
    from ..store.results import save_result

    refuse_taken(out)
    n_components = _number(components)
    ds = chosen(open_recording(name, site=site, catalog=catalog), where)
    result = group_ica(
        ds,
        n_components=n_components,
        subject=subject,
        mode=mode,  # type: ignore[arg-type]
        group=group,  # type: ignore[arg-type]
        solver=solver,  # type: ignore[arg-type]
        window=window,
        n_runs=runs,
        null=null,
        seed=seed,
        standardize=standardize,
    )
    save_result(result, out, derived_from=ds.attrs.get("manifest_digest"))
    for i in range(result.sizes["component"]):
        print(_line(result.isel(component=i)))
    if "is_network" in result:
        found = int(result["is_network"].sum())
        print(
            f"{found} of {result.sizes['component']} components are networks (p of at most .05, and alike in "
            "two halves of the subjects)"
        )
    else:
        print(f"taken for granted: {result.attrs['assumption']}")


def _number(text: str) -> int | float | str:
    """Read the number of components: an integer, a share or a criterion."""
    if text == "parallel":
        return text
    try:
        return float(text) if "." in text else int(text)
    except ValueError:
        raise InputError(
            f"--components must be a number, a share of the variance below 1 or 'parallel', got {text!r}"
        ) from None


def _line(component: Any) -> str:
    """Say what is known of one component; of a window of layers, its first layer too."""
    import numpy as np

    text = f"component {int(component['component'])}"
    if "window" in component.coords:
        text += f" (layers from {int(component['window'])})"
    text += f": explained variance {float(component['explained_variance']):.3f}"
    for name, wording in (("stability", "stability"), ("split_half", "halves"), ("p_value", "p")):
        if name in component and np.isfinite(component[name]):
            text += f", {wording} {float(component[name]):.3g}"
    if "is_network" in component:
        text += ", network" if bool(component["is_network"]) else ", not a network"
    return text
