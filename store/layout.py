"""How a recording is cut into units, shards and chunks.

The *unit* is a run of consecutive prompts: what the recorder flushes, the chunk along ``prompt`` of
every array, and so the grain of writing, resuming and reading. A shard holds one unit of one layer
and is written exactly once; inside it, chunks of some 64-128 tokens by 128 neurons make padding
cheap and a few neurons quick to read.
"""

from dataclasses import dataclass
from math import ceil

_SHARD_BYTES = 64 * 2**20  # aimed at, where the data allow it
_SHARD_MAX_BYTES = 256 * 2**20
_UNIT_BYTES = 2**30  # a unit of all layers and sites waits in memory until it is written
_MIN_UNITS = 8  # a small recording is still cut, so that it resumes, shows progress and runs in parallel
_SUMMARY_BYTES = 4 * 2**20  # a chunk of the moments: few files, and still quick to read for one layer
_CHUNK_NEURONS = 128
_CHUNK_TOKENS = 128


@dataclass(frozen=True)
class Layout:
    """Shapes along (prompt, token, layer, neuron).

    Attributes
    ----------
    unit
        Prompts in a unit.
    shard, chunk
        Shape of a shard (one object in the store), and of the compressed chunks inside it.
    """

    unit: int
    shard: tuple[int, int, int, int]
    chunk: tuple[int, int, int, int]

    def units(self, n_prompts: int) -> list[slice]:
        """Return the prompts of each unit, in order."""
        return [slice(i, min(i + self.unit, n_prompts)) for i in range(0, n_prompts, self.unit)]


@dataclass(frozen=True)
class Grain:
    """What a user asks of the layout; None is chosen from the data.

    Attributes
    ----------
    unit
        Prompts in a unit.
    tokens, neurons
        Of a chunk inside a shard.
    """

    unit: int | None = None
    tokens: int | None = None
    neurons: int | None = None


AUTOMATIC = Grain()


def choose_unit(n_prompts: int, bytes_per_prompt_layer: int, bytes_per_prompt: int) -> int:
    """Choose how many prompts make a unit.

    Parameters
    ----------
    n_prompts
        Prompts in the recording.
    bytes_per_prompt_layer
        Bytes of one prompt in one layer of the widest site, padding included.
    bytes_per_prompt
        Bytes of one prompt in all layers of all sites, its moments included.
    """
    for_shard = _SHARD_BYTES // max(bytes_per_prompt_layer, 1)
    for_memory = _UNIT_BYTES // max(bytes_per_prompt, 1)
    return max(1, min(for_shard, for_memory, ceil(n_prompts / _MIN_UNITS)))


def site_layout(unit: int, n_tokens: int, n_neurons: int, itemsize: int, grain: Grain = AUTOMATIC) -> Layout:
    """Shape the shards and chunks of one site for a given unit.

    >>> site_layout(32, 96, 512, 2)
    Layout(unit=32, shard=(32, 96, 1, 512), chunk=(32, 96, 1, 128))
    """
    t = grain.tokens or (n_tokens if n_tokens <= _CHUNK_TOKENS else _CHUNK_TOKENS // 2)
    n_tokens = ceil(n_tokens / t) * t
    f = min(grain.neurons or _CHUNK_NEURONS, n_neurons)
    most = max(1, _SHARD_MAX_BYTES // (unit * n_tokens * itemsize * f))
    n_neurons = f * min(most, ceil(n_neurons / f))
    return Layout(unit, (unit, n_tokens, 1, n_neurons), (unit, t, 1, f))


def summary_chunk(unit: int, n_layers: int, n_neurons: int) -> tuple[int, int, int]:
    """Shape a chunk (prompt, layer, neuron) of the per-prompt moments.

    >>> summary_chunk(32, 48, 4096)
    (32, 4, 4096)
    """
    layers = min(n_layers, max(1, _SUMMARY_BYTES // (unit * n_neurons * 8)))
    neurons = n_neurons if layers > 1 else min(n_neurons, max(_CHUNK_NEURONS, _SUMMARY_BYTES // (unit * 8)))
    return (unit, layers, neurons)
