"""Commands that find networks: `ica`, the components there are, and `networks`, the neurons of each."""

from typing import Annotated, Any

import typer

from ..store.errors import InputError
from .options import (
    CatalogOption,
    Out,
    Site,
    Threshold,
    TwoSided,
    Where,
    digests,
    recording_of,
    refuse_taken,
    threshold_of,
)

_TAKES = {"sparsity": "dictionary", "epochs": "nmf"}


def ica(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME...",
            help="Recordings: paths, URLs, names of the catalog; several, such as data sets, have the same "
            "layers and neurons.",
        ),
    ],
    out: Out,
    method: Annotated[
        str, typer.Option(help="ica; or to compare with it pca, nmf or dictionary, without a null.")
    ] = "ica",
    components: Annotated[
        str,
        typer.Option(
            "--components",
            "-k",
            help="How many; a share of the variance (0.8); or 'parallel': as many as vary more than chance.",
        ),
    ] = "10",
    subject: Annotated[
        str, typer.Option(help="'prompt', a label, or 'recording' where several are given.")
    ] = "prompt",
    mode: Annotated[
        str | None, typer.Option(help="Sources over neurons (spatial) or tokens (temporal). [spatial]")
    ] = None,
    group: Annotated[
        str | None, typer.Option(help="pca, or cca: what subjects have in common leads. [pca]")
    ] = None,
    solver: Annotated[
        str | None, typer.Option(help="quasi-newton, fastica or picard. [quasi-newton]")
    ] = None,
    window: Annotated[
        int | None, typer.Option(help="Layers decomposed together; all of them when left out.")
    ] = None,
    runs: Annotated[int, typer.Option(help="Repeats with bootstrapped subjects.")] = 10,
    null: Annotated[
        int | None, typer.Option(help="Draws of Gaussian scores to compare with; 0: none. [19]")
    ] = None,
    sparsity: Annotated[
        float | None, typer.Option(help="Of dictionary: penalty on the values of a map. [1]")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Of nmf: how often it goes through the recording. [20]")
    ] = None,
    seed: Annotated[int, typer.Option(help="Draws the bootstraps, the starts and the null.")] = 0,
    standardize: Annotated[bool, typer.Option(help="Give every neuron unit variance.")] = True,
    where: Where = None,
    site: Site = None,
    catalog: CatalogOption = None,
) -> None:
    """Decompose recordings into components; say how stable each is, and which are networks."""
    from ..analyze.components.decompose import decompose
    from ..store.results import save_result

    refuse_taken(out)
    n_components = _number(components)
    asked = {
        "mode": mode, "group": group, "solver": solver, "window": window, "null": null,
        **_of_method(method, sparsity=sparsity, epochs=epochs),
    }  # fmt: skip
    recordings = [recording_of(name, site, catalog, where) for name in names]
    result = decompose(
        recordings,
        method=method,  # type: ignore[arg-type]
        n_components=n_components,  # type: ignore[arg-type]
        subject=subject,
        n_runs=runs,
        seed=seed,
        standardize=standardize,
        **{name: value for name, value in asked.items() if value is not None},  # type: ignore[arg-type]
    )
    save_result(result, out, derived_from=digests(*recordings))
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


def networks(
    components: Annotated[str, typer.Argument(help="Saved components.")],
    out: Out,
    threshold: Threshold = None,
    two_sided: TwoSided = False,
    keep_all: Annotated[
        bool, typer.Option("--all", help="Of the components too that did not beat the null.")
    ] = False,
    catalog: CatalogOption = None,
) -> None:
    """Save the neurons that make up the networks of components; print how large they are, and where."""
    from ..analyze.components.descriptions import describe_networks
    from ..analyze.components.networks import networks as run
    from ..store.archive import open as open_result
    from ..store.results import save_result

    refuse_taken(out)
    kept = threshold_of(threshold)
    found = open_result(components, catalog=catalog)
    if "component_map" not in found or "subject" in found["component_map"].dims:
        raise InputError(f"{components} holds no components of a group; make them with `actome ica`")
    masks = run(found.load(), kept, two_sided, keep_all=keep_all)
    if not masks.size:
        raise InputError(
            f"{components} holds no network: none of its components beats the null; --all takes all"
        )
    save_result(masks, out, derived_from=digests(found))
    described = describe_networks(masks)
    print(_table(described).to_string())
    print(f"hubs, in more networks than chance gives: {int(described['hub'].sum())} neurons")


def _table(described: Any) -> Any:
    """Tabulate the size of every network, its fullest layer, and the other that it shares the most with."""
    import numpy as np
    import pandas as pd

    names, size = described["network"].to_numpy(), described["size"].to_numpy()
    profile = described["profile"].fillna(0.0).to_numpy()  # (network, layer)
    dice = described["dice"].fillna(0.0).to_numpy() * (1 - np.eye(len(names)))
    nearest = dice.argmax(axis=1)
    layer = described["layer"].to_numpy()[profile.argmax(axis=1)]
    rows = {
        "neurons": size,
        "most in layer": [str(one) if n else "" for one, n in zip(layer, size, strict=True)],
        "share": [f"{p:.2f}" for p in profile.max(axis=1)],
        "nearest": [names[j] if dice[i, j] > 0 else "" for i, j in enumerate(nearest)],
        "dice": [f"{d:.2f}" for d in dice.max(axis=1)],
    }
    return pd.DataFrame(rows, index=pd.Index(names, name="network"))


def _of_method(method: str, **given: float | None) -> dict[str, float | None]:
    """Name the options of one method as `decompose` does; refuse them for another."""
    for name, value in given.items():
        if value is not None and method != _TAKES[name]:
            raise InputError(f"--{name} is for --method {_TAKES[name]}, not {method}")
    return {"sparsity": given["sparsity"], "n_epochs": given["epochs"]}


def _number(text: str) -> int | float | str:
    """Read the number of components: an integer, a share or a criterion."""
    if text == "parallel":
        return text
    try:
        return int(text) if text.strip().lstrip("+-").isdecimal() else float(text)
    except ValueError:
        raise InputError(
            f"--components must be a number, a share of the variance below 1 or 'parallel', got {text!r}"
        ) from None


def _line(component: Any) -> str:
    """Say what is known of one component; of a window of layers, its first layer too."""
    import numpy as np

    text = f"component {component['component'].item()}"
    if "window" in component.coords:
        text += f" (layers from {int(component['window'])})"
    text += f": explained variance {float(component['explained_variance']):.3f}"
    for name, wording in (("stability", "stability"), ("split_half", "halves"), ("p_value", "p")):
        if name in component and np.isfinite(component[name]):
            text += f", {wording} {float(component[name]):.3g}"
    if "is_network" in component:
        text += ", network" if bool(component["is_network"]) else ", not a network"
    return text
