"""Commands between archives: `export`, `import`, `push` and `pull`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ..store.errors import InputError
from .options import CatalogOption

Layers = Annotated[list[int] | None, typer.Option("--layer", help="A layer; may be given again.")]


def export(
    names: Annotated[list[str], typer.Argument(help="Recordings and results: paths or names.")],
    out: Annotated[str, typer.Option("--out", "-o", help="A folder, or a .zip.")],
    layers: Layers = None,
    conditions: Annotated[
        list[str] | None, typer.Option("--condition", help="A condition; may be given again.")
    ] = None,
    dtype: Annotated[str | None, typer.Option(help="float16 or float32.")] = None,
    text: Annotated[str, typer.Option(help="keep, or digest: replace texts by their SHA-256.")] = "keep",
    keep_labels: Annotated[
        list[str] | None,
        typer.Option("--keep-label", help="With --text digest, a label that stays; may be given again."),
    ] = None,
    packed: Annotated[bool, typer.Option("--packed", help="One ZIP file an entry, opened in place.")] = False,
    title: Annotated[str | None, typer.Option(help="One line.")] = None,
    authors: Annotated[
        list[str] | None, typer.Option("--author", help="Who made the data; may be given again.")
    ] = None,
    citation: Annotated[str | None, typer.Option(help="A text, or a CITATION.cff.")] = None,
    licence: Annotated[str | None, typer.Option(help="SPDX expression.")] = None,
    licence_text: Annotated[Path | None, typer.Option(help="File with the licence in full.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be written, and its size.")
    ] = False,
    catalog: CatalogOption = None,
) -> None:
    """Write recordings and results as a package that another lab can check, cite and open."""
    from ..store.sharing import export as run
    from ..store.sharing.container import check_free
    from ..store.sharing.cut import Cut
    from ..store.sharing.package import forecast

    if dry_run:
        check_free(Path(out))
        cut = Cut.of(layers or None, conditions or None, dtype, text, keep_labels or ())
        _print_forecast(forecast(names, cut, catalog), out, exact=cut.is_whole)
        return
    path = run(
        names, out, catalog=catalog, layers=layers or None, conditions=conditions or None, dtype=dtype,
        text=text, keep_labels=keep_labels or (), packed=packed, title=title,  # type: ignore[arg-type]
        authors=authors or (), citation=citation, licence=licence, licence_text=licence_text, progress=True,
    )  # fmt: skip
    print(path)


def push(
    source: Annotated[str, typer.Argument(help="A package, or a recording or result: a path or a name.")],
    url: Annotated[str, typer.Argument(help="s3://BUCKET/PREFIX or hf://datasets/ORG/NAME.")],
    public: Annotated[
        bool, typer.Option("--public", help="Make a new repository of the Hub public.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be sent, and its size.")
    ] = False,
    catalog: CatalogOption = None,
) -> None:
    """Send a package to a bucket or to the Hugging Face Hub; goes on after a break."""
    from ..store.sharing import push as run
    from ..store.sharing.transfer import forecast_push

    if dry_run:
        _print_forecast(forecast_push(source, url, catalog=catalog), url, exact=True)
        return
    names = run(source, url, catalog=catalog, private=not public, progress=True)
    print(f"{url}: {len(names)} files")


def pull(
    url: Annotated[str, typer.Argument(help="s3://BUCKET/PREFIX or hf://datasets/ORG/NAME.")],
    out: Annotated[str, typer.Option("--out", "-o", help="A folder that does not exist yet.")],
) -> None:
    """Fetch a package; goes on after a break. `actome import` enters it."""
    from ..store.sharing import pull as run

    print(run(url, out, progress=True))


def _print_forecast(sizes: Any, where: str, *, exact: bool) -> None:
    for name, n_bytes in sizes.items():
        print(f"{name:<24} {'' if exact else 'up to '}{n_bytes:,} bytes")
    print(f"{where}: {'' if exact else 'up to '}{sum(sizes.values()):,} bytes, beside the metadata")


def import_(
    sources: Annotated[
        list[str],
        typer.Argument(help="A package; or a .npy file, a folder of vLLM, or caches of SAELens, one a hook."),
    ],
    out: Annotated[
        str, typer.Option("--out", "-o", help="The archive's folder for a package; else the recording.")
    ],
    kind: Annotated[
        str | None, typer.Option("--format", help="numpy, saelens or vllm; not for a package.")
    ] = None,
    labels: Annotated[str | None, typer.Option(help="Table of labels: csv, jsonl or parquet.")] = None,
    site: Annotated[str | None, typer.Option(help="Site of the activations.")] = None,
    layer: Annotated[
        list[int] | None, typer.Option(help="numpy, saelens: number of a layer; may be given again.")
    ] = None,
    layer_id: Annotated[
        list[int] | None, typer.Option(help="vllm: a layer id of its run; may be given again.")
    ] = None,
    dtype: Annotated[str | None, typer.Option(help="float16 or float32.")] = None,
    rename: Annotated[
        list[str] | None, typer.Option(help="Package: NAME=OTHER for an entry; may be given again.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Package: replace entries of the same name.")
    ] = False,
    catalog: Annotated[
        Path | None, typer.Option("--catalog", help="Package: the catalog that it is entered in.")
    ] = None,
) -> None:
    """Enter a package into an archive, or make a recording of activations made elsewhere."""
    from ..store.sharing.contents import is_package

    of_package = {"--rename": rename, "--overwrite": overwrite, "--catalog": catalog}
    of_format = {
        "--labels": labels,
        "--site": site,
        "--layer": layer,
        "--layer-id": layer_id,
        "--dtype": dtype,
    }
    given = [option for option, value in (of_package | of_format).items() if value]
    if kind is None and len(sources) == 1 and is_package(sources[0]):
        _refuse("a package", [option for option in given if option in of_format])
        _import_package(sources[0], out, catalog, rename or [], overwrite)
        return
    _check_import(kind, sources, given)
    _import_format(str(kind), sources, out, labels, site, layer or None, layer_id or (), dtype)


def _import_package(source: str, out: str, catalog: Path | None, rename: list[str], overwrite: bool) -> None:
    from ..store.sharing import receive

    pairs = [pair.partition("=") for pair in rename]
    wrong = ["".join(pair) for pair in pairs if not (pair[0] and pair[2])]
    if wrong:
        raise InputError(f"--rename takes NAME=OTHER, got {wrong[0]!r}")
    names = {name: other for name, _, other in pairs}
    for entry in receive(source, out, catalog=catalog, overwrite=overwrite, rename=names):
        print(f"{entry.name}: {entry.path}{'' if entry.is_new else ', there already'}")


def _import_format(
    kind: str,
    sources: list[str],
    out: str,
    labels: str | None,
    site: str | None,
    layers: list[int] | None,
    layer_ids: Any,
    dtype: str | None,
) -> None:
    from ..store.archive import open as open_recording
    from ..store.imports import import_numpy, import_saelens, import_vllm
    from ..store.location import Location
    from ..store.schema import SITES

    if kind == "numpy":
        import_numpy(sources[0], labels or "", out, site=site or "", layers=layers, dtype=dtype)
    elif kind == "saelens":
        import_saelens(sources, out, labels=labels, site=site, layers=layers, dtype=dtype)
    else:
        import_vllm(sources[0], out, layer_ids=layer_ids, labels=labels, site=site or "residual", dtype=dtype)
    group = Location.of(out).group()
    for name in (name for name in SITES if name in group):
        sizes = open_recording(out, site=name).sizes
        print(
            f"{out}: {sizes['prompt']} prompts, {name}: {sizes['layer']} layers of {sizes['neuron']} neurons"
        )


def _check_import(kind: str | None, sources: list[str], given: list[str]) -> None:
    """Refuse options that a format lacks or has no use for."""
    needed = {"numpy": ["--labels", "--site"], "saelens": [], "vllm": ["--layer-id"]}
    if kind is None:
        raise InputError(
            f"{sources[0]} is no package (a folder or .zip with catalog.yaml and SHA256SUMS); "
            f"for anything else, --format must be one of {list(needed)}"
        )
    if kind not in needed:
        raise InputError(f"--format must be one of {list(needed)}, got {kind!r}")
    lacking = [option for option in needed[kind] if option not in given]
    if lacking:
        raise InputError(f"--format {kind} needs {lacking[0]}")
    other = "--layer" if kind == "vllm" else "--layer-id"
    _refuse(f"--format {kind}", [o for o in given if o in (other, "--rename", "--overwrite", "--catalog")])
    if kind != "saelens" and len(sources) > 1:
        raise InputError(f"--format {kind} takes one source, got {len(sources)}")


def _refuse(what: str, useless: list[str]) -> None:
    if useless:
        raise InputError(f"{what} has no use for {useless[0]}")
