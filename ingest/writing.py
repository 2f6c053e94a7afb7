"""Writing in the background: the model runs on while finished units are compressed and committed."""

import os
import queue
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch

Buffers = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Threads:
    """How many units are written at once beside the model, and how many threads compress each.

    Where the model itself runs on the CPU none is written beside it: a second thread would take a
    core from each of its matrix products in turn, which costs it several times what it gains.
    """

    writers: int
    encoders: int

    @classmethod
    def beside(cls, device: torch.device) -> "Threads":
        """Choose for a model on this device."""
        cores = os.cpu_count() or 1
        if device.type == "cpu":
            return cls(0, cores)
        writers = max(1, min(4, cores // 4))
        return cls(writers, max(1, (cores - 1) // writers))


class Background:
    """Threads that write units, and the host buffers that travel between the model and them.

    There is one buffer more than there are writers, so the memory is bounded; when all are full the
    model waits, and `waited` says for how long, in seconds. Without a writer each unit is written
    where it is submitted.

    Parameters
    ----------
    make
        Makes the buffers of one unit.
    writers
        Units that are written at once.
    """

    def __init__(self, make: Callable[[], Buffers], *, writers: int) -> None:
        self._free: queue.SimpleQueue[Buffers | None] = queue.SimpleQueue()
        for _ in range(writers + 1):
            self._free.put(None)  # made when first needed
        self._make = make
        self._pool = ThreadPoolExecutor(writers, "write") if writers else None
        self._writing: list[Future[None]] = []
        self.waited = 0.0

    def __enter__(self) -> "Background":
        """Start."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Let what has begun end; after an error, drop what has not."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=kind is not None)
        if kind is None:
            self._raise_errors(self._writing)

    def buffers(self) -> Buffers:
        """Return free buffers; waits for them. An error of a writer is raised here."""
        begun = time.perf_counter()
        free = self._free.get()
        self.waited += time.perf_counter() - begun
        self._raise_errors([task for task in self._writing if task.done()])
        return self._make() if free is None else free

    def submit(self, write: Callable[[], None], buffers: Buffers) -> None:
        """Write, then take the buffers back."""

        def run() -> None:
            try:
                write()
            finally:
                self._free.put(buffers)

        begun = time.perf_counter()
        if self._pool is None:
            run()
            self.waited += time.perf_counter() - begun
        else:
            self._writing.append(self._pool.submit(run))

    def _raise_errors(self, ended: list[Future[None]]) -> None:
        self._writing = [task for task in self._writing if task not in ended]
        for task in ended:
            task.result()


def host_buffer(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Allocate on the host; page-locked where a GPU will copy into it while it computes."""
    return torch.empty(shape, dtype=dtype, pin_memory=device.type == "cuda")


class Transfer:
    """Copies from devices to the host that run beside the computation, on a stream of their own."""

    def __init__(self) -> None:
        self._streams: dict[torch.device, Any] = {}

    def begin(self, copies: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> Callable[[], None]:
        """Start to copy (source, target) pairs; the function that comes back waits for their end."""
        events = []
        for device in {source.device for source, _ in copies}:
            pairs = [(source, target) for source, target in copies if source.device == device]
            if device.type != "cuda":
                for source, target in pairs:
                    target.copy_(source)
                continue
            stream = self._streams.setdefault(device, torch.cuda.Stream(device))
            stream.wait_stream(torch.cuda.current_stream(device))
            with torch.cuda.stream(stream):
                for source, target in pairs:
                    target.copy_(source, non_blocking=True)
                    source.record_stream(stream)  # its memory is not reused before it was read
                event = torch.cuda.Event()
                event.record(stream)
            events.append(event)

        def wait() -> None:
            for event in events:
                event.synchronize()

        return wait
