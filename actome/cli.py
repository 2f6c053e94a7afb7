"""The command line: one function a command, the same options as the public names.

A wrong input gets one clear line on standard error and exit status 2; a defect of the program, its
traceback.
"""

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ._version import __version__
from .store.errors import ActomeError, InputError

app = typer.Typer(
    help="Analyse the activations of language models the way neuroimaging analyses brains.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Recording = Annotated[str, typer.Argument(help="A recording: a path, a URL, or a name of the catalog.")]
CatalogOption = Annotated[Path | None, typer.Option("--catalog", help="The catalog to look names up in.")]
Out = Annotated[str, typer.Option("--out", "-o", help="Where the result is written.")]
Site = Annotated[str | None, typer.Option(help="Site of the recording; the only one when left out.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Measure = Annotated[str, typer.Option(help="magnitude or signed.")]


def main() -> None:
    """Run the command line."""
    try:
        app(standalone_mode=True)
    except ActomeError as error:
        _stop(error)
    except OSError as error:
        if error.errno is None:
            raise
        _stop(error)  # the machine refused: a full disk, a file that must not be read


def _stop(error: Exception) -> None:
    print(f"actome: {' '.join(str(error).split())}", file=sys.stderr)
    sys.exit(2)


def _version(show: bool) -> None:
    if show:
        print(f"actome {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the archive.")] = Path("data/demo"),
    controls: Annotated[int, typer.Option(help="Matched random controls per lesion.")] = 9,
) -> None:
    """Run the main job on what ships: record, contrast, decompose, lesion, report."""
    from .demo import run_demo

    print(run_demo(out, controls=controls))


@app.command()
def record(
    model: Annotated[str, typer.Argument(help="'demo', a Hugging Face id, or a local folder.")],
    paradigm: Annotated[str, typer.Argument(help="The paradigm's YAML, or the name of a shipped one.")],
    out: Out,
    site: Annotated[
        list[str] | None,
        typer.Option(help="mlp, mlp_out, attention_out or residual, or SITE=MODULES; may be given again."),
    ] = None,
    layer: Annotated[
        list[str] | None, typer.Option(help="A layer, or a range 4:8; may be given again.")
    ] = None,
    neuron: Annotated[
        list[str] | None, typer.Option(help="A neuron, or a range; may be given again.")
    ] = None,
    tokens: Annotated[
        str, typer.Option(help="prompt, generated, last, or a slice: 1:, ::4, 2:10.")
    ] = "prompt",
    max_new_tokens: Annotated[int, typer.Option(help="Of generated tokens, the most a prompt.")] = 20,
    temperature: Annotated[float, typer.Option(help="Of generated tokens; 0 takes the likeliest.")] = 0.0,
    top_p: Annotated[float, typer.Option(help="Probability that the drawn tokens have together.")] = 1.0,
    chat: Annotated[bool, typer.Option("--chat", help="Use the tokenizer's chat template.")] = False,
    special_tokens: Annotated[str, typer.Option(help="tokenizer, bos or none.")] = "tokenizer",
    truncate: Annotated[int | None, typer.Option(help="Keep this many tokens of a prompt.")] = None,
    logprob: Annotated[bool, typer.Option(help="Keep the log probability of each token.")] = True,
    keep: Annotated[str, typer.Option(help="full, or summary: the moments of each prompt alone.")] = "full",
    batch_size: Annotated[int | None, typer.Option(help="Prompts in a forward pass.")] = None,
    dtype: Annotated[str | None, typer.Option(help="float16 or float32.")] = None,
    device: Annotated[
        str | None, typer.Option(help="Where the model runs: cuda:0, cpu, or auto for all.")
    ] = None,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run the code that the model brings with it.")
    ] = False,
    part: Annotated[str | None, typer.Option(help="K/N: one of N processes; torchrun sets it.")] = None,
    seed: Annotated[int, typer.Option(help="Decides the tokens that are drawn.")] = 0,
    resume: Annotated[bool, typer.Option(help="Go on with an interrupted recording.")] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what it will take, and stop.")] = False,
) -> None:
    """Show a paradigm to a model and keep its activations; the same command goes on after a stop."""
    from .ingest.forward import Sampling
    from .ingest.plan import Settings, numbers, site_names
    from .ingest.record import prepare
    from .ingest.tokens import Prompting, Selection

    share = _share(part)
    settings = Settings(
        sites=site_names(_site_modules(site or ["mlp"])),
        layers=numbers(_ranges(layer, "--layer"), "layers"),
        neurons=numbers(_ranges(neuron, "--neuron"), "neurons"),
        selection=Selection.of(tokens),
        sampling=Sampling(max_new_tokens, temperature, top_p, seed),
        prompting=Prompting(chat, special_tokens, truncate),  # type: ignore[arg-type]
        keep=keep,  # type: ignore[arg-type]
        logprob=logprob,
        batch_size=batch_size,
        dtype=dtype,
    )
    prepared = prepare(
        model, paradigm, out, settings, device=device or _local_device(share),
        trust_remote_code=trust_remote_code, part=share, resume=resume,
    )  # fmt: skip
    if not prepared.is_complete:
        print(prepared.forecast())
    if dry_run:
        return
    try:
        ds = prepared.run(progress=sys.stderr.isatty())
    except KeyboardInterrupt:
        print("actome: stopped; the same command goes on from here", file=sys.stderr)
        raise typer.Exit(130) from None
    print(f"{out}: {ds.sizes['prompt']} prompts, {ds.sizes['layer']} layers of {ds.sizes['neuron']} neurons")


def _site_modules(sites: list[str]) -> dict[str, str | None]:
    """Split SITE=MODULES."""
    return {name: modules or None for name, _, modules in (site.partition("=") for site in sites)}


def _ranges(texts: list[str] | None, option: str) -> list[int] | None:
    """Spell out numbers and ranges.

    >>> _ranges(["3", "8:11"], "--layer")
    [3, 8, 9, 10]
    """
    if texts is None:
        return None
    out: list[int] = []
    for text in texts:
        first, is_range, end = text.partition(":")
        if not first.isdecimal() or (is_range and not end.isdecimal()):
            raise InputError(f"{option} must be a number or a range such as 4:8, got {text!r}")
        out += range(int(first), int(end)) if is_range else [int(first)]
    return out


def _share(part: str | None) -> tuple[int, int] | None:
    """Which share this process takes: as it is told, or as torchrun counts its processes."""
    if part is not None:
        k, _, n = part.partition("/")
        if not (k.isdecimal() and n.isdecimal()):
            raise InputError(f"--part must be K/N, such as 0/4, got {part!r}")
        return int(k), int(n)
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    return None


def _local_device(share: tuple[int, int] | None) -> str | None:
    """Give each process of a machine its own GPU, where torchrun counts them."""
    from torch.cuda import is_available

    return (
        f"cuda:{os.environ['LOCAL_RANK']}"
        if share and "LOCAL_RANK" in os.environ and is_available()
        else None
    )


@app.command("ls")
def list_entries(catalog: CatalogOption = None, as_json: Json = False) -> None:
    """List the entries of the catalog."""
    from .store.catalog import open_catalog

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


@app.command()
def info(name: Recording, catalog: CatalogOption = None, site: Site = None, as_json: Json = False) -> None:
    """Say what a recording or a result holds and where it comes from."""
    from .store.archive import open as open_entry

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

    from .store.schema import text_array

    labels, counts = np.unique(text_array(values), return_counts=True)
    return labels.tolist(), counts.tolist()


@app.command()
def validate(name: Recording, catalog: CatalogOption = None) -> None:
    """Check a recording against the schema; exit status 1 when it departs from it."""
    from .store.archive import validate as run
    from .store.catalog import resolve

    _report_breaches(run(resolve(name, catalog)), "it fits the schema")


@app.command()
def verify(name: Recording, catalog: CatalogOption = None) -> None:
    """Compare the digests with the bytes; exit status 1 when a file is damaged, missing or foreign."""
    from .store.catalog import resolve
    from .store.integrity import verify as run

    _report_breaches(run(resolve(name, catalog)), "every byte is as it was written")


def _report_breaches(breaches: list[str], sound: str) -> None:
    print("\n".join(breaches) or sound)
    if breaches:
        raise typer.Exit(1)


@app.command("import")
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
    from .store.archive import open as open_recording
    from .store.imports import import_numpy, import_saelens, import_vllm
    from .store.location import Location
    from .store.schema import SITES

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


@app.command()
def glm(
    name: Recording,
    contrast: Annotated[
        list[str], typer.Option("--contrast", "-c", help="Such as 'fr - mean(rest)'; may be given again.")
    ],
    out: Out,
    formula: Annotated[str, typer.Option(help="A label, or a formula over the labels.")] = "condition",
    measure: Measure = "magnitude",
    noise: Annotated[str, typer.Option(help="cluster, cr2 or ols.")] = "cluster",
    unit: Annotated[str, typer.Option(help="token or prompt.")] = "token",
    control: Annotated[str, typer.Option(help="fdr, by or bonferroni.")] = "fdr",
    alpha: Annotated[float, typer.Option(help="Error rate.")] = 0.05,
    site: Site = None,
    catalog: CatalogOption = None,
) -> None:
    """Fit a GLM and save its contrasts, with the neurons that stand out."""
    import pandas as pd
    import xarray as xr

    from .analyze.contrasts import compute_contrast
    from .analyze.glm import fit_glm
    from .analyze.threshold import threshold
    from .store.archive import open as open_recording
    from .store.archive import save_result

    _refuse_taken(out)
    # the summaries hold all that these fits need
    ds = open_recording(name, site=site, level="prompt", catalog=catalog)
    fit = fit_glm(ds, formula, measure=measure, noise=noise, unit=unit)  # type: ignore[arg-type]
    maps = [compute_contrast(fit, c) for c in contrast]
    networks = pd.Index(contrast, dtype=object, name="network")
    result = xr.concat(maps, networks, combine_attrs="drop_conflicts").compute()
    result["mask"] = threshold(result, control=control, alpha=alpha)  # type: ignore[arg-type]
    save_result(
        result.assign_attrs(control=control, alpha=alpha), out, derived_from=ds.attrs.get("manifest_digest")
    )
    for c, n in zip(contrast, result["mask"].sum(("layer", "neuron")).to_numpy(), strict=True):
        print(f"{c}: {n} of {result['mask'][0].size} neurons ({control}, alpha {alpha})")


@app.command()
def ica(
    name: Recording,
    out: Out,
    components: Annotated[int, typer.Option("--components", "-k", help="Components of the group.")] = 10,
    subject: Annotated[str, typer.Option(help="'prompt', or a label.")] = "prompt",
    runs: Annotated[int, typer.Option(help="Repeats with bootstrapped subjects.")] = 10,
    seed: Annotated[int, typer.Option(help="Draws the bootstraps and the starts.")] = 0,
    standardize: Annotated[bool, typer.Option(help="Give every neuron unit variance.")] = True,
    site: Site = None,
    catalog: CatalogOption = None,
) -> None:
    """Decompose a recording into networks and say how stable each is."""
    from .analyze.ica import group_ica
    from .store.archive import open as open_recording
    from .store.archive import save_result

    _refuse_taken(out)
    ds = open_recording(name, site=site, catalog=catalog)
    result = group_ica(
        ds, n_components=components, subject=subject, n_runs=runs, seed=seed, standardize=standardize
    )
    save_result(result, out, derived_from=ds.attrs.get("manifest_digest"))
    for i, value in enumerate(result["stability"].to_numpy()):
        print(f"component {i}: stability {value:.3f}")


@app.command()
def overlap(
    first: Annotated[str, typer.Argument(help="Saved contrasts, components or masks.")],
    second: Annotated[
        str | None, typer.Argument(help="Others; the first among themselves when left out.")
    ] = None,
    metric: Annotated[str, typer.Option(help="dice, jaccard or coefficient.")] = "dice",
    catalog: CatalogOption = None,
    as_json: Json = False,
) -> None:
    """Print how far networks share their neurons."""
    from .analyze.overlap import overlap as run

    a = _masks(first, catalog)
    ds = run(a, None if second is None else _masks(second, catalog), metric=metric)  # type: ignore[arg-type]
    table = ds[metric].to_pandas()
    print(table.to_json(orient="split", indent=1) if as_json else table.round(3).to_string())


def _masks(name: str, catalog: Path | None) -> Any:
    """Masks of a saved result: its own, or those of its components at z of 3.6."""
    from .analyze.networks import networks
    from .store.archive import open as open_result

    ds = open_result(name, catalog=catalog)
    if "component_map" in ds:
        return networks(ds.load())
    if "mask" not in ds:
        raise InputError(f"{name} holds no networks: neither `mask` nor `component_map`")
    return ds["mask"].load().assign_attrs(ds.attrs)


@app.command()
def identify(
    name: Recording,
    by: Annotated[str, typer.Option(help="Label whose values are left out in turn.")] = "run",
    measure: Measure = "magnitude",
    permutations: Annotated[int, typer.Option(help="Label permutations.")] = 200,
    site: Site = None,
    catalog: CatalogOption = None,
    as_json: Json = False,
) -> None:
    """Name the condition of held-out prompts from the networks of the others."""
    from .analyze.identification import identify as run
    from .store.archive import open as open_recording

    ds = run(
        open_recording(name, site=site, level="prompt", catalog=catalog),
        by=by,
        measure=measure,  # type: ignore[arg-type]
        n_permutations=permutations,
    )
    if as_json:
        print(json.dumps({"accuracy": float(ds["accuracy"]), "p_value": float(ds["p_value"])}))
        return
    print(ds["confusion"].to_pandas().to_string())
    print(f"accuracy {float(ds['accuracy']):.3f}, p {float(ds['p_value']):.3g}")


@app.command()
def lesion(
    model: Annotated[str, typer.Argument(help="'demo', a Hugging Face id, or a local folder.")],
    paradigm: Annotated[Path, typer.Argument(help="The texts to score.")],
    masks: Annotated[str, typer.Argument(help="Saved contrasts, components or masks.")],
    out: Out,
    reference: Annotated[
        str | None, typer.Option(help="A recording that the controls are matched on.")
    ] = None,
    kind: Annotated[str, typer.Option(help="zero, mean, scale or add.")] = "zero",
    amount: Annotated[float | None, typer.Option(help="For scale and add.")] = None,
    controls: Annotated[int, typer.Option(help="Matched random controls per network.")] = 99,
    seed: Annotated[int, typer.Option(help="Draws the controls.")] = 0,
    device: Annotated[str | None, typer.Option(help="Where the model runs, such as cuda:0.")] = None,
    site: Annotated[str, typer.Option(help="Site of the neurons.")] = "mlp",
    catalog: CatalogOption = None,
) -> None:
    """Score texts under the lesion of each network and of its controls; print the rise of the loss."""
    from .analyze.effects import lesion_effects
    from .ingest.score import score
    from .store.archive import open as open_recording

    against = None
    if reference is not None:
        against = open_recording(reference, site=site, level="prompt", catalog=catalog)
    scores = score(
        model, paradigm, out, _masks(masks, catalog),
        site=site, kind=kind, amount=amount, reference=against,  # type: ignore[arg-type]
        controls=controls, seed=seed, device=device,
    )  # fmt: skip
    print(lesion_effects(scores)["effect"].to_pandas().round(3).to_string())


@app.command()
def report(
    results: Annotated[
        list[str], typer.Argument(help="Recordings and results: paths or names of the catalog.")
    ],
    out: Out,
    catalog: CatalogOption = None,
) -> None:
    """Write one self-contained HTML file from recordings and results."""
    from .analyze.report import report as run
    from .store.archive import open as open_result

    print(run(*(open_result(name, catalog=catalog) for name in results), out=out))


def _refuse_taken(out: str) -> None:
    """Refuse before any work what would be refused after it."""
    from .store.location import Location

    location = Location.of(out)
    if location.exists():
        raise InputError(f"{out} holds a result already; choose another path or remove it")
    location.check_new()
