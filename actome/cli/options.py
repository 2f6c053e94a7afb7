"""What the commands share: options, what they open, what is refused before any work."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from ..store.errors import InputError

Recording = Annotated[str, typer.Argument(help="A recording: a path, a URL, or a name of the catalog.")]
CatalogOption = Annotated[
    list[str] | None, typer.Option("--catalog", help="A catalog to look names up in; may be given again.")
]
Out = Annotated[str, typer.Option("--out", "-o", help="Where the result is written.")]
Site = Annotated[str | None, typer.Option(help="Site of the recording; the only one when left out.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Measure = Annotated[str, typer.Option(help="magnitude or signed.")]
Where = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        help="LABEL=VALUE,VALUE or LABEL!=VALUE: these prompts alone; given again, those that meet all.",
    ),
]
Threshold = Annotated[
    str | None,
    typer.Option(
        help="Neurons of a component that make its network: Z(3.6), Top(0.05), OfMaximum(0.5), Mixture(). "
        "[Z(3.6)]"
    ),
]
TwoSided = Annotated[bool, typer.Option("--two-sided", help="Keep the negative end of a component too.")]


def recording_of(
    name: str, site: str | None, catalog: Sequence[str] | None, where: Sequence[str] | None = None
) -> Any:
    """Open a recording, and keep the prompts that `--where` asks for.

    Raises
    ------
    InputError
        It is no recording; or as `chosen`.
    """
    from ..store.archive import open as open_recording

    ds = open_recording(name, site=site, catalog=catalog)
    if "prompt" not in ds.dims or not {"activation", "mean"} & set(ds.variables):
        kind = str(ds.attrs.get("kind", "")).replace("_", " ")
        raise InputError(
            f"{name} is no recording but a saved result{f' ({kind})' * bool(kind)}; give the recording of "
            "a model"
        )
    return chosen(ds, where)


def threshold_of(text: str | None) -> Any:
    """Read `--threshold`; the default of `networks` when it was left out."""
    from ..analyze.components.map_thresholds import FAR_OUT, read_map_threshold

    return FAR_OUT if text is None else read_map_threshold(text)


def masks_of(
    name: str, catalog: Sequence[str] | None, threshold: str | None = None, two_sided: bool = False
) -> Any:
    """Masks of a saved result: its own, as they are, or those that a threshold makes of its components."""
    from ..analyze.components.networks import networks
    from ..store.archive import open as open_result

    kept = threshold_of(threshold)
    ds = open_result(name, catalog=catalog)
    if "component_map" in ds:
        return networks(ds.load(), kept, two_sided)
    if "mask" not in ds:
        raise InputError(f"{name} holds no networks: neither `mask` nor `component_map`")
    return ds["mask"].load().assign_attrs(ds.attrs)


def refuse_threshold_of_masks(
    names: Sequence[str], catalog: Sequence[str] | None, threshold: str | None, two_sided: bool = False
) -> None:
    """Refuse a threshold where none of the results holds components."""
    from ..store.archive import open as open_result

    if threshold is None and not two_sided:
        return
    if not any("component_map" in open_result(name, catalog=catalog) for name in names):
        raise InputError(
            f"--threshold and --two-sided make networks of components, and {' and '.join(names)} holds none; "
            "leave them out, or give the components"
        )


def confounds_of(ds: Any, given: Sequence[str] | None) -> tuple[str, ...] | None:
    """Return the labels of `--confound`; None, which is the run where there is one, if none was given.

    Raises
    ------
    InputError
        The recording lacks one that was given.
    """
    labels = sorted(str(c) for c in ds.coords if ds[c].dims == ("prompt",))
    unknown = [c for c in given or () if c not in labels]
    if unknown:
        raise InputError(f"--confound takes a label of the prompts in {labels}, got {unknown[0]!r}")
    return tuple(given) if given else None


def contrasts_of(name: str, catalog: Sequence[str] | None) -> Any:
    """Open saved contrasts."""
    from ..store.archive import open as open_result

    ds = open_result(name, catalog=catalog)
    if "stat" not in ds:
        raise InputError(f"{name} holds no contrast: `stat` is missing")
    return ds


def digests(*given: Any) -> list[str]:
    """List the digests of what a result is derived from, of all that have one."""
    return [d for ds in given if (d := ds.attrs.get("manifest_digest"))]


def chosen(ds: Any, where: Sequence[str] | None) -> Any:
    """Keep the prompts of a recording whose labels are as `--where` asks.

    Raises
    ------
    InputError
        There is no such label or value, or no prompt meets all that is asked.
    """
    import numpy as np

    if not where:
        return ds
    kept = _meeting({str(c): ds[c].to_numpy() for c in ds.coords if ds[c].dims == ("prompt",)}, where)
    return ds if kept.all() else ds.isel(prompt=np.flatnonzero(kept))


def chosen_prompts(paradigm: str, where: Sequence[str] | None) -> Any:
    """Read a paradigm, and keep the prompts that `--where` asks for; what is wrong is said as by `chosen`."""
    from ..store.paradigm import as_paradigm

    read = as_paradigm(paradigm)
    if not where:
        return read
    kept = _meeting({str(c): read.table[c].to_numpy() for c in read.table}, where)
    return read if kept.all() else read.select(prompt=read.table["prompt"][kept].tolist())


def _meeting(labels: Mapping[str, Any], where: Sequence[str]) -> Any:
    """Say which prompts meet all that is asked of their labels: (prompt,) bool."""
    import numpy as np

    kept = np.ones(len(labels["prompt"]), dtype=bool)
    for asked in where:
        name, without, values = asked.partition("!=") if "!=" in asked else asked.partition("=")
        if not without or name not in labels:
            raise InputError(f"--where takes LABEL=VALUE of a label in {sorted(labels)}, got {asked!r}")
        shown = np.array([str(v) for v in labels[name].tolist()])
        wanted = [values] if values in shown else values.split(",")
        unknown = [v for v in wanted if v not in shown]
        if unknown:
            known = np.unique(shown)[:20].tolist()
            raise InputError(f"no prompt has the {name} {unknown[0]!r}; there are {known}")
        kept &= np.isin(shown, wanted) == (without == "=")
    if not kept.any():
        raise InputError(f"no prompt meets all of {list(where)}")
    return kept


def beside(out: str, what: str) -> str:
    """Name a second result beside the first: ``OUT.zarr`` -> ``OUT-what.zarr``."""
    folder, slash, name = out.rstrip("/").rpartition("/")
    stem, dot, suffix = name.partition(".")
    return f"{folder}{slash}{stem}-{what}{dot}{suffix}"


def refuse_taken(out: str) -> None:
    """Refuse before any work what would be refused after it."""
    from ..store.location import Location

    location = Location.of(out)
    if location.exists():
        raise InputError(f"{out} holds a result already; choose another path or remove it")
    location.check_new()
