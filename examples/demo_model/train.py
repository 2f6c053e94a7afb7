"""Train the demo model: a small Llama on Debian's manuals in nine languages and Python's library.

Run from the root of the repository; ``--minutes`` is how long the training itself lasts (the text, the
tokenizer and the last evaluation take about three more). The learning rate follows the clock, so a busy
machine gives a weaker model, not a later one::

    python examples/demo_model/train.py --minutes 90
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import corpus
import numpy as np
import torch
from evaluation import bits_per_byte, token_bytes
from objective import cross_entropy, optimisers, rate
from parallel import average_gradients, run_workers
from streams import Stream, batches, build_stream, held_out_passages
from tokenizer import BOS, EOS, PAD, train_tokenizer
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging

LATIN = ("en", "de", "fr", "es", "it", "pt")
SPLITS = ("paragraphs", "documents")
HeldOut = dict[tuple[str, str], list[list[int]]]


def build_model(vocabulary: int, seed: int) -> LlamaForCausalLM:
    """Make the untrained model: 6 layers, 3.9 million parameters."""
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=192,
            intermediate_size=512,
            num_hidden_layers=6,
            num_attention_heads=6,
            num_key_value_heads=2,
            max_position_embeddings=256,
            tie_word_embeddings=True,
            bos_token_id=BOS,
            eos_token_id=EOS,
            pad_token_id=PAD,
            attn_implementation="eager",
        )
    )


def export(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write the model in the Hugging Face layout: weights in float16, to be loaded as float32."""
    twin = build_model(model.config.vocab_size, seed=0)
    twin.load_state_dict(model.state_dict())
    twin.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for name, change in (
        ("config.json", {"dtype": "float32"}),
        ("tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast"}),
    ):
        content = json.loads((folder / name).read_text()) | change
        (folder / name).write_text(json.dumps(content, indent=2) + "\n")


def evaluate(
    model: LlamaForCausalLM, held_out: HeldOut, sizes: torch.Tensor, *, limit: int | None = None
) -> dict[str, dict[str, float]]:
    """Split -> domain -> bits per byte, of at most `limit` passages each."""
    result: dict[str, dict[str, float]] = {split: {} for split in SPLITS}
    for (domain, split), passages in held_out.items():
        result[split][domain] = bits_per_byte(model, passages[:limit], sizes)
    return result


def latin_mean(result: dict[str, float]) -> float:
    """Mean bits per byte over the languages in Latin script."""
    return sum(result[language] for language in LATIN) / len(LATIN)


@dataclass
class Run:
    """One training run: what it trains on and measures, and what it has seen so far."""

    arguments: argparse.Namespace
    model: LlamaForCausalLM
    tokenizer: PreTrainedTokenizerFast
    streams: dict[str, Stream]
    held_out: HeldOut
    log: list[dict[str, str]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    steps: int = 0
    tokens: int = 0
    minutes: float = 0.0

    def resume(self, folder: Path) -> None:
        """Go on from the weights and the log of a checkpoint; the optimisers start anew."""
        saved = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
        self.model.load_state_dict(saved.state_dict())
        with (folder / "log.csv").open(newline="") as stream:
            self.log = list(csv.DictReader(stream))
        last = self.log[-1]
        self.steps, self.tokens, self.minutes = int(last["step"]), int(last["tokens"]), float(last["minutes"])

    def note(self, minutes: float, *, checkpoint: bool) -> None:
        """Add a row to the log; with `checkpoint`, also measure a part of the held-out text and export."""
        row = {
            "step": str(self.steps),
            "minutes": f"{self.minutes + minutes:.2f}",
            "tokens": str(self.tokens),
            "train_loss": f"{sum(self.losses) / max(1, len(self.losses)):.4f}",
            "heldout_bits_per_byte": "",
        }
        self.losses.clear()
        self.log.append(row)
        if checkpoint:
            latin = {(language, "paragraphs"): self.held_out[language, "paragraphs"] for language in LATIN}
            result = evaluate(self.model, latin, token_bytes(self.tokenizer), limit=48)
            row["heldout_bits_per_byte"] = f"{latin_mean(result['paragraphs']):.4f}"
            export(self.model, self.tokenizer, self.arguments.checkpoints)
            self.write_log(self.arguments.checkpoints)
        print(*row.values(), flush=True)

    def write_log(self, folder: Path) -> None:
        """Write the log as CSV."""
        with (folder / "log.csv").open("w", newline="") as stream:
            writer = csv.DictWriter(stream, fieldnames=list(self.log[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.log)


def train(run: Run, rank: int) -> None:
    """Train as one of several workers: products in bfloat16, weights in float32."""
    arguments = run.arguments
    inner = run.model.model if arguments.no_compile else torch.compile(run.model.model)
    steppers = optimisers(run.model, muon=arguments.muon, adam=arguments.adam)
    peaks = [stepper.param_groups[0]["lr"] for stepper in steppers]
    for domain, stream in run.streams.items():
        stream.rng = np.random.default_rng([arguments.seed, rank, run.steps, len(domain)])
    drawn = batches(
        run.streams,
        tokens=arguments.batch // arguments.workers,
        temperature=arguments.temperature,
        seed=arguments.seed + run.steps,
        rank=rank,
    )
    started = noted = saved = time.monotonic()
    progress = 0.0
    while progress < 1:
        batch = next(drawn)
        with torch.autocast("cpu", torch.bfloat16):
            hidden = inner(batch[:, :-1], use_cache=False).last_hidden_state
        loss = cross_entropy(hidden, run.model.lm_head.weight, batch[:, 1:])
        loss.backward()
        now = time.monotonic()
        progress, mean = average_gradients(
            run.model, progress=(now - started) / (60 * arguments.minutes), loss=loss.item()
        )
        torch.nn.utils.clip_grad_norm_(run.model.parameters(), 1.0)
        for stepper, peak in zip(steppers, peaks, strict=True):
            stepper.param_groups[0]["lr"] = peak * rate(progress, flat=arguments.flat)
            stepper.step()
            stepper.zero_grad()
        run.steps, run.tokens = run.steps + 1, run.tokens + arguments.workers * batch[:, 1:].numel()
        run.losses.append(mean)
        if rank == 0 and now - noted > 30:
            checkpoint = now - saved > 60 * arguments.every
            run.note((now - started) / 60, checkpoint=checkpoint)
            noted, saved = now, now if checkpoint else saved
    if rank == 0:
        run.note((time.monotonic() - started) / 60, checkpoint=True)


def prepare(
    arguments: argparse.Namespace,
) -> tuple[PreTrainedTokenizerFast, dict[str, Stream], HeldOut, dict[str, str]]:
    """Read the corpus, train the tokenizer, build the streams and the held-out passages."""
    versions = corpus.fetch(arguments.cache)
    paragraphs = list(corpus.read_all(arguments.cache))
    seen = [p for p in paragraphs if p.split == "train"]
    tokenizer = train_tokenizer(seen, vocabulary=arguments.vocabulary)
    streams: dict[str, Stream] = {}
    held_out: HeldOut = {}
    for domain in corpus.DOMAINS:
        own = [p for p in paragraphs if p.domain == domain]
        stream = build_stream([p for p in seen if p.domain == domain], tokenizer, seed=arguments.seed)
        streams[domain] = stream
        print(f"{domain}: {len(stream.tokens)} tokens, {len(stream.starts)} paragraphs", flush=True)
        for split in SPLITS:
            chosen = [p for p in own if p.split == split]
            if split == "paragraphs":  # neighbours in this list are no neighbours in their document
                passages = [x for p in chosen for x in held_out_passages([p], tokenizer)]
            else:
                passages = held_out_passages(chosen, tokenizer)
            order = torch.randperm(len(passages), generator=torch.Generator().manual_seed(0)).tolist()
            held_out[domain, split] = [passages[i] for i in order]
    return tokenizer, streams, held_out, versions


def finish(run: Run, versions: dict[str, str]) -> None:
    """Publish the last checkpoint, evaluate it on the held-out text, write log and figures."""
    arguments = run.arguments
    torch.set_num_threads(1)
    run.resume(arguments.checkpoints)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for file in arguments.checkpoints.glob("*.*"):
        if file.name != "log.csv":
            (arguments.out / file.name).write_bytes(file.read_bytes())
    exported = LlamaForCausalLM.from_pretrained(arguments.out, dtype=torch.float32)
    sizes = token_bytes(run.tokenizer)
    result = evaluate(exported, run.held_out, sizes, limit=arguments.evaluated)
    figures = {
        "bits_per_byte": {split: {d: round(x, 4) for d, x in result[split].items()} for split in SPLITS},
        "latin_mean": {split: round(latin_mean(result[split]), 4) for split in SPLITS},
        "parameters": sum(p.numel() for p in run.model.parameters()),
        "tokens": run.tokens,
        "steps": run.steps,
        "minutes": run.minutes,
        "packages": versions,
    }
    arguments.records.mkdir(parents=True, exist_ok=True)
    run.write_log(arguments.records)
    (arguments.records / "heldout.json").write_text(json.dumps(figures, indent=2) + "\n")
    print(json.dumps(figures["bits_per_byte"], indent=1), flush=True)


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    add, here, cache = parser.add_argument, Path(__file__).resolve().parent, Path(".cache/demo_model")
    add("--minutes", type=float, default=90.0, help="how long to train; 0 with --resume: only evaluate")
    add("--cache", type=Path, default=cache, help="where packages are kept")
    add("--checkpoints", type=Path, default=cache / "checkpoint")
    add("--every", type=float, default=5.0, help="minutes between checkpoints")
    add("--evaluated", type=int, default=200, help="passages of a domain and split, at the end")
    add("--out", type=Path, default=here.parents[1] / "actome" / "demo" / "model")
    add("--records", type=Path, default=here, help="folder of log.csv and heldout.json")
    add("--vocabulary", type=int, default=8192)
    add("--batch", type=int, default=6144, help="tokens a step, of all workers")
    add("--workers", type=int, default=2, help="processes, one for each core")
    add("--resume", action="store_true", help="go on from the checkpoint")
    add("--flat", type=float, default=0.3, help="share of the time before the learning rate falls")
    add("--muon", type=float, default=0.02, help="peak learning rate of the matrices")
    add("--adam", type=float, default=0.004, help="peak learning rate of embeddings and norms")
    add("--temperature", type=float, default=0.5, help="power of a domain's size in its share")
    add("--seed", type=int, default=0)
    add("--no-compile", action="store_true", help="do without torch.compile, which needs a C++ compiler")
    return parser.parse_args()


def main() -> None:
    """Make the demo model."""
    arguments = options()
    logging.disable_progress_bar()
    tokenizer, streams, held_out, versions = prepare(arguments)
    run = Run(arguments, build_model(arguments.vocabulary, arguments.seed), tokenizer, streams, held_out)
    if arguments.resume:
        run.resume(arguments.checkpoints)
    if arguments.minutes > 0:
        run_workers(partial(train, run), arguments.workers)
    finish(run, versions)


if __name__ == "__main__":
    main()
