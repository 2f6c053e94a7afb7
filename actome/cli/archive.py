"""Commands on the archive: `ls`, `info`, `validate`, `verify` and `import`."""

import json
from typing import Annotated, Any

import typer

from ..store.errors import InputError
from .options import CatalogOption, Json, Out, Recording, Site


def list_entries(catalog: CatalogOption = None, as_json: Json = False) -> None:
    """List the entries of the catalog."""
    from ..store.catalog import open_catalog

    entries = open_catalog(catalog or "catalog.yaml")
    rows = [
        {
            "name": n,
            "built": entries.is_built(n),
            "location": entries.location(n),
            "description": e.description,
        }
        for n, e in entries.items()
    ]
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    width = max(map(len, entries), default=0)
    for row in rows:
        print(f"{row['name']:<{width}}  {'built' if row['built'] else 'not built':<9}  {row['description']}")


def info(name: Recording, catalog: CatalogOption = None, site: Site = None, as_json: Json = False) -> None:
    """Say what a recording or a result holds and where it comes from."""
    from ..store.archive import open as open_entry

    ds = open_entry(name, site=site, catalog=catalog)
    content: dict[str, Any] = {
        "kind": ds.attrs.get("kind", "result"),
        "sizes": {str(d): n for d, n in ds.sizes.items()},
        "variables": {str(v): f"{ds[v].dtype} {ds[v].dims}" for v in ds.variables},
        "attrs": ds.attrs,
    }
    if "condition" in ds.coords and ds["condition"].dims == ("prompt",):
        labels, counts = _count(ds["condition"].to_numpy())
        content["conditions"] = dict(zip(labels, counts, strict=True))
    if as_json:
        print(json.dumps(content, indent=1, default=str))
        return
    for key, value in content.items():
        print(f"{key}:")
        for k, v in value.items() if isinstance(value, dict) else [("", value)]:
            print(f"  {k:<14} {json.dumps(v, default=str) if isinstance(v, (dict, list)) else v}")


def _count(values: Any) -> tuple[list[str], list[int]]:
    import numpy as np

    from ..store.schema import text_array

    labels, counts = np.unique(text_array(values), return_counts=True)
    return labels.tolist(), counts.tolist()


def validate(name: Recording, catalog: CatalogOption = None) -> None:
    """Check a recording against the schema; exit status 1 when it departs from it."""
    from ..store.catalog import resolve
    from ..store.validation import validate as run

    _report_breaches(run(resolve(name, catalog)), "it fits the schema")


def verify(name: Recording, catalog: CatalogOption = None) -> None:
    """Compare the digests with the bytes; exit status 1 when a file is damaged, missing or foreign."""
    from ..store.catalog import resolve
    from ..store.integrity import verify as run

    _report_breaches(run(resolve(name, catalog)), "every byte is as it was written")


def _report_breaches(breaches: list[str], sound: str) -> None:
    print("\n".join(breaches) or sound)
    if breaches:
        raise typer.Exit(1)


def import_(
    sources: Annotated[
        list[str], typer.Argument(help="A .npy file, a folder of vLLM, or caches of SAELens, one a hook.")
    ],
    out: Out,
    kind: Annotated[str, typer.Option("--format", help="numpy, saelens or vllm.")],
    labels: Annotated[str | None, typer.Option(help="Table of labels: csv, jsonl or parquet.")] = None,
    site: Annotated[str | None, typer.Option(help="Site of the activations.")] = None,
    layer: Annotated[
        list[int] | None, typer.Option(help="numpy, saelens: number of a layer; may be given again.")
    ] = None,
    layer_id: Annotated[
        list[int] | None, typer.Option(help="vllm: a layer id of its run; may be given again.")
    ] = None,
    dtype: Annotated[str | None, typer.Option(help="float16 or float32.")] = None,
) -> None:
    """Make a recording of activations made elsewhere; goes on with an interrupted one."""
    from ..store.archive import open as open_recording
    from ..store.imports import import_numpy, import_saelens, import_vllm
    from ..store.location import Location
    from ..store.schema import SITES

    given = {"--labels": labels, "--site": site, "--layer": layer, "--layer-id": layer_id}
    _check_import(kind, sources, [option for option, value in given.items() if value])
    if kind == "numpy":
        import_numpy(sources[0], labels or "", out, site=site or "", layers=layer or None, dtype=dtype)
    elif kind == "saelens":
        import_saelens(sources, out, labels=labels, site=site, layers=layer or None, dtype=dtype)
    else:
        import_vllm(
            sources[0], out, layer_ids=layer_id or (), labels=labels, site=site or "residual", dtype=dtype
        )
    group = Location.of(out).group()
    for name in (name for name in SITES if name in group):
        sizes = open_recording(out, site=name).sizes
        print(
            f"{out}: {sizes['prompt']} prompts, {name}: {sizes['layer']} layers of {sizes['neuron']} neurons"
        )


def _check_import(kind: str, sources: list[str], given: list[str]) -> None:
    """Refuse options that a format lacks or has no use for."""
    needed = {"numpy": ["--labels", "--site"], "saelens": [], "vllm": ["--layer-id"]}
    if kind not in needed:
        raise InputError(f"--format must be one of {list(needed)}, got {kind!r}")
    lacking = [option for option in needed[kind] if option not in given]
    useless = [option for option in given if option == ("--layer" if kind == "vllm" else "--layer-id")]
    if lacking or useless:
        raise InputError(
            f"--format {kind} {'needs' if lacking else 'has no use for'} {(lacking or useless)[0]}"
        )
    if kind != "saelens" and len(sources) > 1:
        raise InputError(f"--format {kind} takes one source, got {len(sources)}")
