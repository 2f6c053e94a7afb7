"""Commands that run a model to make a recording: `demo` and `record`."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from ..store.errors import InputError
from .options import Out


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the archive.")] = Path("data/demo"),
    controls: Annotated[int, typer.Option(help="Matched random controls per lesion.")] = 9,
) -> None:
    """Run the main job on what ships: record, contrast, decompose, lesion, report."""
    from ..demo import run_demo

    print(run_demo(out, controls=controls))


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
    index: Annotated[
        bool, typer.Option(help="Find what each neuron answers to, when all is recorded.")
    ] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what it will take, and stop.")] = False,
) -> None:
    """Show a paradigm to a model and keep its activations; the same command goes on after a stop."""
    from ..ingest.forward import Sampling
    from ..ingest.plan import Settings, site_names
    from ..ingest.recorder import prepare
    from ..ingest.tokens import Prompting, Selection
    from ..store.arguments import whole_numbers

    share = share_of(part)
    settings = Settings(
        sites=site_names(_site_modules(site or ["mlp"])),
        layers=whole_numbers(_ranges(layer, "--layer"), "layers"),
        neurons=whole_numbers(_ranges(neuron, "--neuron"), "neurons"),
        selection=Selection.of(tokens),
        sampling=Sampling(max_new_tokens, temperature, top_p, seed),
        prompting=Prompting(chat, special_tokens, truncate),  # type: ignore[arg-type]
        keep=keep,  # type: ignore[arg-type]
        logprob=logprob,
        batch_size=batch_size,
        dtype=dtype,
    )
    recorder = prepare(
        model, paradigm, out, settings, device=device or local_device(share),
        trust_remote_code=trust_remote_code, part=share, resume=resume,
    )  # fmt: skip
    if not recorder.is_complete:
        print(recorder.forecast())
    if dry_run:
        return
    try:
        ds = recorder.run(progress=sys.stderr.isatty(), index=index)
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


def share_of(part: str | None) -> tuple[int, int] | None:
    """Which share this process takes: as it is told, or as torchrun counts its processes."""
    if part is not None:
        k, _, n = part.partition("/")
        if not (k.isdecimal() and n.isdecimal()):
            raise InputError(f"--part must be K/N, such as 0/4, got {part!r}")
        return int(k), int(n)
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    return None


def local_device(share: tuple[int, int] | None) -> str | None:
    """Give each process of a machine its own GPU, where torchrun counts them."""
    from torch.cuda import is_available

    return (
        f"cuda:{os.environ['LOCAL_RANK']}"
        if share and "LOCAL_RANK" in os.environ and is_available()
        else None
    )
