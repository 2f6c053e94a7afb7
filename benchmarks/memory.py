"""The memory of a recording beside the number of its prompts: the peak must stay where it is.

Each recording runs in a process of its own. A unit holds as many prompts as fit into a shard, so the
shards are kept small here: otherwise only thousands of prompts would fill a first unit::

    python benchmarks/memory.py
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

MIB = 2**20


def tokenizer_and_model() -> tuple[Any, Any]:
    """Return a model of 4 layers, 256 wide, with random weights, and a tokenizer for it."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from actome.ingest.models import load_model

    torch.set_num_threads(1)
    torch.manual_seed(0)
    tokenizer = load_model("demo", device="cpu").tokenizer
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=256, intermediate_size=1024, num_hidden_layers=4,
        num_attention_heads=4, max_position_embeddings=256,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval(), tokenizer


def one(n_prompts: int, shard_bytes: int) -> dict[str, float]:
    """Record so many prompts; return the peak of memory, its rise over what came before, and the size."""
    import actome
    from actome.store import layout
    from actome.store.location import Location
    from actome.store.writer import RecordingWriter

    layout._SHARD_BYTES = shard_bytes
    model = tokenizer_and_model()
    rng = np.random.default_rng(0)
    letters = np.array(list("etaoin shrdlu"))
    texts = ["".join(rng.choice(letters, rng.integers(40, 60))) for _ in range(n_prompts)]
    paradigm = actome.Paradigm([{"text": text, "condition": "ab"[i % 2]} for i, text in enumerate(texts)])
    before = peak()
    with tempfile.TemporaryDirectory() as folder:
        options = {"truncate": 32, "device": "cpu", "progress": False}  # as long in all
        ds = actome.record(model, paradigm, Path(folder) / "r.zarr", **options)
        unit = RecordingWriter(Location.of(Path(folder) / "r.zarr")).units[0]
    return {
        "prompts": n_prompts,
        "unit": unit.stop,
        "peak": peak() / MIB,
        "rise": (peak() - before) / MIB,
        "cube": int(ds["n_tokens"].sum()) * 4 * 1024 * ds["activation"].dtype.itemsize / MIB,
    }


def peak() -> int:
    """Peak of this process's memory, in bytes."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def main() -> None:
    """Print one line a recording."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prompts", type=int, default=512, help="of the smallest recording")
    parser.add_argument("--shard", type=int, default=4, help="MiB of a shard")
    parser.add_argument("--json", action="store_true", help="print the figures for a program")
    parser.add_argument("--one", action="store_true", help="the smallest recording alone, in this process")
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(one(arguments.prompts, arguments.shard * MIB)))
        return
    found = []
    for factor in (1, 4, 16):
        command = [sys.executable, __file__, "--one", "--shard", str(arguments.shard)]
        command += ["--prompts", str(factor * arguments.prompts)]
        found.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
        if not arguments.json:
            print("prompts {prompts:6d}  unit {unit:4d}  cube {cube:7.0f} MiB".format(**found[-1]), end="")
            print("  peak {peak:5.0f} MiB, {rise:4.0f} of them for recording".format(**found[-1]), flush=True)
    if arguments.json:
        print(json.dumps(found))
    else:
        print(f"growth of the peak {found[-1]['peak'] / found[0]['peak'] - 1:.1%}")


if __name__ == "__main__":
    main()
