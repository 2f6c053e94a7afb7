"""How long a recording takes, as a ratio to the bare forward pass of the same batches.

``python benchmarks/ingest.py [--prompts N] [--rounds N] [--device cuda] [--large]``

Each round runs every contender once, in an order drawn anew, so that whatever else the machine does,
and what the one before left to the disk, falls on all of them; a ratio is to the bare forward of its
own round, and the median over the rounds is printed. What happens once a recording, and not once a
batch, is outside: loading, the digest of the weights. Nobody syncs the disk. Peers that are not
installed are left out: transformer-lens, nnsight.

``--large`` is a Llama of the shape of 7 B parameters with random weights in bfloat16, for a GPU.
"""

import argparse
import copy
import importlib.util
import random
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import actome
from actome.ingest.models import LoadedModel, load_model
from actome.ingest.plan import Settings
from actome.ingest.recorder import prepare

SMALL = {"hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 8, "num_attention_heads": 8}
LARGE = {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32}
N_TOKENS = 128

Run = Callable[[Path], None]


def make_model(shape: dict[str, int], vocabulary: int, device: str) -> LoadedModel:
    torch.manual_seed(0)
    dtype = torch.bfloat16 if device != "cpu" else torch.float32
    with torch.device(device):
        torch.set_default_dtype(dtype)
        module = LlamaForCausalLM(LlamaConfig(vocab_size=vocabulary, tie_word_embeddings=False, **shape))
        torch.set_default_dtype(torch.float32)
    words = {f"w{i}": i for i in range(vocabulary)}
    raw = Tokenizer(models.WordLevel(words, unk_token="w0"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return load_model((module.eval(), PreTrainedTokenizerFast(tokenizer_object=raw)))


def contenders(
    model: LoadedModel, paradigm: actome.Paradigm, ids: torch.Tensor, batch: int
) -> dict[str, Run]:
    module: Any = model.module
    downs = [layer.mlp.down_proj for layer in module.model.layers]

    def forward(rows: torch.Tensor, head: bool = True) -> None:
        with torch.inference_mode():
            (module if head else module.model)(
                input_ids=rows, attention_mask=torch.ones_like(rows), use_cache=False
            )
        if rows.device.type == "cuda":
            torch.cuda.synchronize()

    def hooked(rows: torch.Tensor, dtype: torch.dtype = torch.float16) -> list[torch.Tensor]:
        kept: list[torch.Tensor] = []
        handles = [d.register_forward_pre_hook(lambda m, a: kept.append(a[0].to(dtype).cpu())) for d in downs]
        forward(rows)
        for handle in handles:
            handle.remove()
        return kept

    def bare(folder: Path) -> None:
        for rows in ids.split(batch):
            forward(rows)

    def without_head(folder: Path) -> None:
        for rows in ids.split(batch):
            forward(rows, head=False)

    def ours(**options: Any) -> Run:
        def run(folder: Path) -> None:
            settings = Settings(sites={"mlp": None}, batch_size=batch, dtype="float16", **options)
            prepared = prepare(model, paradigm, folder / "r.zarr", settings)
            _ = prepared.plan.inputs  # the digest of the weights
            begun.append(time.perf_counter())
            prepared.run(index=False)

        return run

    def naive(folder: Path) -> None:
        """As the code of 2502.20408 does it: one text at a time, all in memory, saved at the end."""
        everything = [torch.stack(hooked(row[None], torch.float32)) for row in ids]
        torch.save(everything, folder / "all.pt")

    def numpy_save(folder: Path) -> None:
        for i, rows in enumerate(ids.split(batch)):
            np.save(folder / f"{i}.npy", torch.stack(hooked(rows)).numpy())

    def safetensors(folder: Path) -> None:
        for i, rows in enumerate(ids.split(batch)):
            save_file({str(k): x for k, x in enumerate(hooked(rows))}, folder / f"{i}.safetensors")

    config = module.config
    block = np.random.default_rng(0).bytes(
        2 * batch * N_TOKENS * config.num_hidden_layers * config.intermediate_size
    )

    def raw_write(folder: Path) -> None:
        with (folder / "raw").open("wb") as file:
            for _ in ids.split(batch):
                file.write(block)

    out = {
        "bare forward": bare,
        "bare forward, no head": without_head,
        "actome": ours(),
        "actome, logprob=False": ours(logprob=False),
        "actome, keep='summary'": ours(keep="summary"),
        "actome, keep='summary', logprob=False": ours(keep="summary", logprob=False),
        "np.save": numpy_save,
        "safetensors": safetensors,
        "one text at a time, torch.save": naive,
        "no model: raw write of as many bytes": raw_write,
    }
    return out | _peers(module, ids, batch)


def _peers(module: Any, ids: torch.Tensor, batch: int) -> dict[str, Run]:
    out: dict[str, Run] = {}
    if importlib.util.find_spec("nnsight"):
        import nnsight

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            traced = nnsight.NNsight(module)

        def nnsight_save(folder: Path) -> None:
            for i, rows in enumerate(ids.split(batch)):
                with torch.inference_mode(), traced.trace(input_ids=rows, use_cache=False):
                    kept = nnsight.save([layer.mlp.down_proj.input for layer in traced.model.layers])
                half = {str(k): x.to(torch.float16).cpu() for k, x in enumerate(kept)}
                save_file(half, folder / f"{i}.safetensors")

        out["nnsight trace, safetensors"] = nnsight_save
    if importlib.util.find_spec("transformer_lens"):
        from transformer_lens.model_bridge import TransformerBridge

        with tempfile.TemporaryDirectory() as folder:
            module.config.save_pretrained(folder)
            bridge = TransformerBridge.boot_transformers(
                folder, hf_model=copy.deepcopy(module), tokenizer=_any_tokenizer()
            )

        def lens(folder: Path) -> None:
            for rows in ids.split(batch):
                with torch.inference_mode():
                    bridge.run_with_cache(rows)

        def lens_save(folder: Path) -> None:
            for i, rows in enumerate(ids.split(batch)):
                with torch.inference_mode():
                    _, cache = bridge.run_with_cache(rows, names_filter=lambda n: n.endswith("mlp.hook_post"))
                half = {name: x.to(torch.float16).cpu() for name, x in cache.items()}
                save_file(half, folder / f"{i}.safetensors")

        out["TransformerLens, full cache, nothing written"] = lens
        out["TransformerLens, this site, safetensors"] = lens_save
    return out


def _any_tokenizer() -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"w": 0}, unk_token="w")))


begun: list[float] = []  # when our contenders, after what happens once, have begun


def timed(run: Run, folder: Path) -> float:
    begun.clear()
    start = time.perf_counter()
    run(folder)
    return time.perf_counter() - (begun[-1] if begun else start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--folder", help="on the disk to write to")
    parser.add_argument("--large", action="store_true")
    options = parser.parse_args()
    model = make_model(LARGE if options.large else SMALL, 32000 if options.large else 8192, options.device)
    ids = torch.from_numpy(np.random.default_rng(0).integers(0, 8192, (options.prompts, N_TOKENS)))
    paradigm = actome.Paradigm([{"text": " ".join(f"w{i}" for i in row)} for row in ids.tolist()])
    runs = contenders(model, paradigm, ids.to(options.device), options.batch)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    order = random.Random(0)
    for i in range(options.rounds + 1):
        for name, run in order.sample(list(runs.items()), len(runs)):
            with tempfile.TemporaryDirectory(dir=options.folder) as folder:
                elapsed = timed(run, Path(folder))
            if i:  # the first round warms up
                seconds[name].append(elapsed)
    bare = seconds["bare forward"]
    values = ids.numel() * model.module.config.num_hidden_layers * model.module.config.intermediate_size
    print(f"{ids.numel()} tokens, {values * 2 / 1e6:.0f} MB of float16, {options.rounds} rounds")
    print(f"bare forward: median {statistics.median(bare):.2f} s, {min(bare):.2f} to {max(bare):.2f}")
    for name, times in seconds.items():
        ratios = sorted(t / b for t, b in zip(times, bare, strict=True))
        print(f"{statistics.median(ratios):6.2f}  ({ratios[0]:.2f} to {ratios[-1]:.2f})  {name}")


if __name__ == "__main__":
    main()
