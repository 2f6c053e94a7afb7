"""How fast an archive is written and read, beside plain zarr, .npy, safetensors and torch.save.

``python benchmarks/store.py [--prompts N] [--rounds N] [--folder F] [--large]``

One cube (prompt, 128 tokens, 8 layers, 1,536 neurons) of float16 that holds bfloat16 values, as a
recording of a bfloat16 model does. Each round runs every contender once, in an order drawn anew;
medians are printed. Files are in the page cache when they are read, so this times the formats and
not the disk. "raw decode" reads the shards of a layer and decompresses every chunk into an array
that is there already, with as many threads: no reader can be faster.

``--large`` then writes an archive of 5.2 GB, indexes it, and times questions about single neurons,
each from a new process, with nothing of the index read before.
"""

import argparse
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr
import zarr
from numcodecs import blosc
from safetensors import safe_open
from safetensors.numpy import save_file

import actome
from actome.store.location import Location

N_TOKENS, N_LAYERS, N_NEURONS = 128, 8, 1536
NEURONS = [10, 700, 1500]
N_LARGE = 1664

Read = Callable[[int], Any]


def make_cube(n_prompts: int) -> npt.NDArray[np.float16]:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(n_prompts, N_TOKENS, N_LAYERS, N_NEURONS, generator=generator)
    return values.to(torch.bfloat16).to(torch.float16).numpy()


def writers(cube: npt.NDArray[Any], folder: Path) -> dict[str, Callable[[], Any]]:
    ds = xr.Dataset({"activation": (("prompt", "token", "layer", "neuron"), cube)})

    def plain_zarr() -> None:
        array = zarr.create_array(folder / "plain.zarr", shape=cube.shape, dtype=cube.dtype, chunks="auto")
        array[:] = cube

    return {
        "actome": lambda: actome.save(ds, folder / "actome.zarr"),
        "zarr, automatic chunks": plain_zarr,
        ".npy": lambda: np.save(folder / "cube.npy", cube),
        "safetensors": lambda: save_file({"activation": cube}, folder / "cube.safetensors"),
        "torch.save": lambda: torch.save(torch.from_numpy(cube), folder / "cube.pt"),
    }


def readers(folder: Path) -> dict[str, dict[str, Read]]:
    """One layer, three neurons of it, one prompt: by contender."""
    ds = actome.open(folder / "actome.zarr")["activation"]
    plain = zarr.open_array(folder / "plain.zarr", mode="r")
    few = [slice(n, n + 1) for n in NEURONS]

    def three(layer: int) -> list[Any]:
        return [ds.isel(layer=layer, neuron=n).to_numpy() for n in few]

    def tensors(take: Callable[[Any, Any], Any]) -> Read:
        def read(i: int) -> Any:
            with safe_open(folder / "cube.safetensors", "np") as file:
                return take(file.get_slice("activation"), i)

        return read

    def torch_load(take: Callable[[Any, Any], Any]) -> Read:
        return lambda i: take(torch.load(folder / "cube.pt", mmap=True, weights_only=True).numpy(), i)

    def memmap(take: Callable[[Any, Any], Any]) -> Read:
        return lambda i: take(np.load(folder / "cube.npy", mmap_mode="r"), i)

    return {
        "actome": {
            "layer": lambda i: ds.isel(layer=i).to_numpy(),
            "neurons": three,
            "prompt": lambda i: ds.isel(prompt=i).to_numpy(),
        },
        "zarr, automatic chunks": {
            "layer": lambda i: plain[:, :, i],
            "neurons": lambda i: plain.oindex[:, :, i, NEURONS],
            "prompt": lambda i: plain[i],
        },
        ".npy": _taking(memmap),
        "safetensors": _taking(tensors),
        "torch.save": _taking(torch_load),
        "raw decode": {"layer": raw_decode(folder / "actome.zarr")},
    }


def _taking(opened: Callable[[Callable[[Any, Any], Any]], Read]) -> dict[str, Read]:
    return {
        "layer": opened(lambda x, i: np.array(x[:, :, i])),
        "neurons": opened(lambda x, i: [np.array(x[:, :, i, n]) for n in NEURONS]),
        "prompt": opened(lambda x, i: np.array(x[i])),
    }


def raw_decode(path: Path) -> Read:
    """Read and decompress all of a layer with as many threads as Dask takes, and do nothing else."""
    array: Any = zarr.open_group(path, mode="r")["mlp/activation"]
    n_chunks = int(np.prod([s // c for s, c in zip(array.shards, array.chunks, strict=True)]))
    out = np.zeros((array.shape[0] // array.shards[0] + 1, n_chunks, *array.chunks), array.dtype)

    def decode(file: Path, target: npt.NDArray[Any]) -> None:
        content = file.read_bytes()
        index = np.frombuffer(content[-16 * n_chunks - 4 : -4], "<u8").reshape(n_chunks, 2)
        view = memoryview(content)
        for (offset, length), chunk in zip(index.tolist(), target, strict=True):
            blosc.decompress(view[offset : offset + length - 4], chunk)

    def read(layer: int) -> None:
        files = sorted((path / "mlp/activation/c").glob(f"*/0/{layer}/0"))
        with ThreadPoolExecutor(_n_threads()) as pool:
            list(pool.map(decode, files, out))

    return read


def _n_threads() -> int:
    from dask.system import CPU_COUNT

    return int(CPU_COUNT)


def amplification(path: Path) -> float:
    """Bytes decoded for three neurons of one layer, over the bytes asked for."""
    array: Any = zarr.open_group(path, mode="r")["mlp/activation"]
    ranges: list[int] = []
    read_range = Location.read_range

    def counted(self: Location, key: str, *place: Any) -> bytes:
        if "/activation/" in key and place and place[0] is not None and place[0] >= 0:
            ranges.append(1)  # one inner chunk; a negative start is the index of the shard
        return read_range(self, key, *place)

    Location.read_range = counted  # type: ignore[method-assign]
    try:
        ds = actome.open(path)["activation"]
        asked = sum(ds.isel(layer=0, neuron=slice(n, n + 1)).to_numpy().nbytes for n in NEURONS)
    finally:
        Location.read_range = read_range  # type: ignore[method-assign]
    return len(ranges) * int(np.prod(array.chunks)) * array.dtype.itemsize / asked


def timed(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def footprint(path: Path) -> tuple[float, int]:
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return sum(p.stat().st_size for p in files) / 1e6, len(files)


def compare(n_prompts: int, rounds: int, folder: Path) -> None:
    cube, order = make_cube(n_prompts), random.Random(0)
    mb = cube.nbytes / 1e6
    seconds: dict[tuple[str, str], list[float]] = {}
    for i in range(rounds + 1):  # the first round warms up
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        contenders = writers(cube, folder)
        for name in order.sample(list(contenders), len(contenders)):
            elapsed = timed(contenders[name])
            if i:
                seconds.setdefault((name, "write"), []).append(elapsed)
    reading = readers(folder)
    calls = [(name, what) for name, reads in reading.items() for what in reads]
    for i in range(3 * rounds + 1):
        for name, what in order.sample(calls, len(calls)):
            elapsed = timed(partial(reading[name][what], i % N_LAYERS))
            if i:
                seconds.setdefault((name, what), []).append(elapsed)
    median = {key: statistics.median(values) for key, values in seconds.items()}
    paths = dict(
        zip(
            writers(cube, folder),
            ("actome.zarr", "plain.zarr", "cube.npy", "cube.safetensors", "cube.pt"),
            strict=True,
        )
    )
    print(f"{mb:.0f} MB of float16, {rounds} rounds, {_n_threads()} threads")
    print("                          write MB/s  layer MB/s  3 neurons ms  1 prompt ms     MB  files")
    for name, path in paths.items():
        size, n_files = footprint(folder / path)
        speeds = mb / median[name, "write"], mb / N_LAYERS / median[name, "layer"]
        waits = 1e3 * median[name, "neurons"], 1e3 * median[name, "prompt"]
        print(f"{name:<25} {speeds[0]:>10.0f} {speeds[1]:>11.0f} ", end="")
        print(f"{waits[0]:>13.1f} {waits[1]:>12.1f} {size:>6.0f} {n_files:>6}")
    raw, ours = median["raw decode", "layer"], median["actome", "layer"]
    print(f"raw decode of a layer: {mb / N_LAYERS / raw:.0f} MB/s; actome reads at {raw / ours:.2f} of it")
    print(
        f"3 neurons of a layer: {amplification(folder / 'actome.zarr'):.0f} bytes decoded for each asked for"
    )


ASK = """
import sys, time
import actome
ds, top_tokens = actome.open(sys.argv[1]), actome.top_tokens
before = time.perf_counter()
top_tokens(ds, layer=int(sys.argv[2]), neuron=int(sys.argv[3]))
first = time.perf_counter()
top_tokens(ds, layer=int(sys.argv[2]), neuron=int(sys.argv[3]) + 1)
print(first - before, time.perf_counter() - first)
"""


def ask_large(rounds: int, folder: Path) -> None:
    """Questions about single neurons of an archive of 5.2 GB, with an index that was not read before."""
    path = folder / "large.zarr"
    print(f"writing {N_LARGE * N_TOKENS * N_LAYERS * N_NEURONS * 2 / 1e9:.1f} GB")
    cube = np.tile(make_cube(N_LARGE // 13), (13, 1, 1, 1))
    words = [f"w{i}" for i in range(N_TOKENS)]
    starts = np.cumsum([0, *(len(w) + 1 for w in words)])
    spans = [np.tile(x, (N_LARGE, 1)).astype(np.int32) for x in (starts[:-1], starts[1:] - 1)]
    ds = xr.Dataset(
        {"activation": (("prompt", "token", "layer", "neuron"), cube)},
        coords={
            "text": ("prompt", np.array([" ".join(words)] * N_LARGE, dtype=object)),
            "char_start": (("prompt", "token"), spans[0]),
            "char_end": (("prompt", "token"), spans[1]),
            "token_id": (("prompt", "token"), np.tile(np.arange(N_TOKENS, dtype=np.int32), (N_LARGE, 1))),
        },
    )
    actome.save(ds, path)
    del ds, cube
    print(f"indexed in {timed(lambda: actome.build_index(path)):.0f} s")
    order = random.Random(0)
    places = [(order.randrange(N_LAYERS), order.randrange(N_NEURONS - 1)) for _ in range(rounds)]
    times = []
    for layer, neuron in places:
        _forget(path / "actome" / "index")
        command = [sys.executable, "-c", ASK, str(path), str(layer), str(neuron)]
        out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        times.append([float(x) * 1e3 for x in out.split()])
    for what, part in zip(("first question of a process", "second"), zip(*times, strict=True), strict=True):
        print(f"top tokens, {what}: median {statistics.median(part):.0f} ms, most {max(part):.0f}")


def _forget(folder: Path) -> None:
    """Ask the kernel to drop the files of a folder from the page cache."""
    for file in (p for p in folder.rglob("*") if p.is_file()):
        handle = os.open(file, os.O_RDONLY)
        os.fsync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", help="on the disk to write to")
    parser.add_argument("--large", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        if options.large:
            ask_large(4 * options.rounds, Path(folder))
        else:
            compare(options.prompts, options.rounds, Path(folder) / "cube")


if __name__ == "__main__":
    main()
