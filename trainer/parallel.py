"""One run on several devices: torchrun starts a process for each, and they meet at every step.

A step is the same whatever their number: each process learns from its share of the batch, the
gradients are added up. Without torchrun there is one process, and nothing here does anything.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .config import ConfigError, TrainConfig

# For how long the others wait while one process encodes, saves or samples. A process that has
# died is noticed at once.
PATIENCE = timedelta(hours=2)

Item = TypeVar("Item")


@contextmanager
def joined() -> Iterator[None]:
    """Meet the other processes of this torchrun; alone if there is none."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    on_gpus = torch.cuda.is_available() and dist.is_nccl_available()
    store, here, count = next(dist.rendezvous("env://", timeout=PATIENCE))
    if os.environ.get("LOCAL_WORLD_SIZE") == os.environ["WORLD_SIZE"]:
        # torchrun keeps its store when it starts again: addresses of the dead are still in it.
        # Several machines may each count their restarts differently
        store = dist.PrefixStore(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"), store)
    backend = "cpu:gloo,cuda:nccl" if on_gpus else "gloo"
    dist.init_process_group(backend, timeout=PATIENCE, store=store, rank=here, world_size=count)
    try:
        yield
    finally:
        dist.destroy_process_group()


def processes() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if processes() > 1 else 0


def is_first() -> bool:
    """Whether this process is the one that saves and logs."""
    return rank() == 0


def wait() -> None:
    """Return once all processes have come here."""
    if processes() > 1:
        dist.all_reduce(torch.zeros(1))


def check_batch(config: TrainConfig) -> None:
    """Raise ConfigError if a step has too few pairs to give every process one."""
    pairs = config.batch_size * config.accumulate
    if pairs < processes():
        raise ConfigError(
            f"{processes()} processes share the batch of a step, which has {pairs} pairs "
            f"(batch_size × accumulate). Set batch_size to {processes()}, or start fewer."
        )


def mine(items: Sequence[Item]) -> Sequence[Item]:
    """This process's share of some work."""
    return items[rank() :: processes()]


def gathered(values: Tensor, count: int) -> Tensor:
    """Values of all `count` items in their order, from what each process has of `mine` of them."""
    whole = values.new_zeros(count, *values.shape[1:])
    whole[rank() :: processes()] = values
    if processes() > 1:
        dist.all_reduce(whole)
    return whole


def shares(sizes: Sequence[int]) -> list[list[int]]:
    """For each group of a step's samples, which of them this process learns from.

    Dealt out like cards over all groups, so that batches and accumulation are both shared.
    """
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return [
        [i for i in range(size) if (start + i) % processes() == rank()]
        for start, size in zip(starts, sizes, strict=True)
    ]


def add_up(parameters: Sequence[nn.Parameter], loss: float) -> float:
    """Give every process the sum of all gradients, in one message; returns the sum of losses."""
    if processes() == 1:
        return loss
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    flat = torch.cat([*(each.flatten() for each in gradients), gradients[0].new_tensor([loss])])
    dist.all_reduce(flat)
    *sums, total = flat.split([*(each.numel() for each in gradients), 1])
    for parameter, gradient in zip(parameters, sums, strict=True):
        parameter.grad = gradient.view_as(parameter)
    return total.item()
