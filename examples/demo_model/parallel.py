"""Two or more workers with one thread each, that average their gradients once a step.

Threads inside each operation wait for one another thousands of times a step, which on a shared machine makes
a step ten times longer; workers that meet once a step lose no more than their share of the processor.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn


def _work(rank: int, workers: int, meeting: str, job: Callable[[int], None]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{meeting}", rank=rank, world_size=workers, timeout=timedelta(minutes=10)
    )
    job(rank)
    dist.destroy_process_group()


def run_workers(job: Callable[[int], None], workers: int) -> None:
    """Run ``job(rank)`` in `workers` forked processes, which see what this one has in memory."""
    with tempfile.TemporaryDirectory() as folder:
        meeting = str(Path(folder) / "meeting")
        torch.multiprocessing.start_processes(
            _work, args=(workers, meeting, job), nprocs=workers, start_method="fork"
        )


def average_gradients(model: nn.Module, *, progress: float, loss: float) -> tuple[float, float]:
    """Replace the gradients of every worker by their mean.

    Parameters
    ----------
    model
        This worker's copy, after its backward pass.
    progress
        How much of the time has passed, of which the first worker's word counts for all.
    loss
        This worker's loss.

    Returns
    -------
    progress, loss : float
        The first worker's progress, the mean loss; the same for every worker.
    """
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    first = progress if dist.get_rank() == 0 else 0.0
    flat = torch.cat([torch.tensor([first, loss]), *(gradient.flatten() for gradient in gradients)])
    dist.all_reduce(flat)
    workers = dist.get_world_size()
    at = 2
    for gradient in gradients:
        gradient.copy_(flat[at : at + gradient.numel()].view_as(gradient) / workers)
        at += gradient.numel()
    return flat[0].item(), flat[1].item() / workers
