"""Several single-threaded processes that train one model: a step waits for the others only once."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors


def join(rank: int, processes: int, rendezvous: Path) -> None:
    if processes > 1:
        torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=rendezvous.resolve().as_uri(), rank=rank, world_size=processes
    )


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace every gradient by its mean over the processes."""
    if dist.get_world_size() == 1:
        return
    gradients = [w.grad for w in parameters if w.grad is not None]
    together = _flatten_dense_tensors(gradients)
    dist.all_reduce(together)
    together /= dist.get_world_size()
    for gradient, mean in zip(
        gradients, _unflatten_dense_tensors(together, gradients), strict=True
    ):
        gradient.copy_(mean)


def step_seed(seed: int, step: int) -> int:
    """What this process draws a step from: different in every process and every step."""
    return (seed * 1_000_003 + step * dist.get_world_size() + dist.get_rank()) % 2**32


def share(batch: int) -> int:
    """This process's part of a batch."""
    rank, processes = dist.get_rank(), dist.get_world_size()
    return (batch + rank) // processes


def is_first() -> bool:
    return dist.get_rank() == 0
