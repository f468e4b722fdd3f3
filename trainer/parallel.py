"""One run on several devices: torchrun starts a process for each, and all take every step together.

The result of a step does not depend on their number: each process computes gradients for its share
of the batch, and the gradients are added up. Without torchrun, all of this does nothing.
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

from ..language import say
from .config import ConfigError, TrainConfig

# How long processes wait for one that encodes, saves or samples. If it dies, they notice at once
PATIENCE = timedelta(hours=2)

Item = TypeVar("Item")


@contextmanager
def joined() -> Iterator[None]:
    """Inside, this process is connected to the others that torchrun started, if any."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    on_gpus = torch.cuda.is_available() and dist.is_nccl_available()
    store, here, count = next(dist.rendezvous("env://", timeout=PATIENCE))
    if os.environ.get("LOCAL_WORLD_SIZE") == os.environ["WORLD_SIZE"]:
        # after a restart, torchrun's store still has the addresses of the processes that died. On
        # several machines it is used as it is: each may count restarts differently
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
    """Whether this is the process that saves and logs."""
    return rank() == 0


def wait() -> None:
    """Return when all processes have called this."""
    if processes() > 1:
        dist.all_reduce(torch.zeros(1))


def check_batch(config: TrainConfig) -> None:
    """Raise ConfigError if a step has too few pairs to give every process one."""
    pairs = config.batch_size * config.accumulate
    if pairs < processes():
        raise ConfigError(
            say(
                "{processes} processes share the batch of a step, which has {pairs} pairs "
                "(batch_size × accumulate). Set batch_size to {processes}, or start fewer.",
                processes=processes(),
                pairs=pairs,
            )
        )


def mine(items: Sequence[Item]) -> Sequence[Item]:
    """This process's share of the items."""
    return items[rank() :: processes()]


def gathered(values: Tensor, count: int) -> Tensor:
    """The values of all `count` items in order; each process passes those of its share (`mine`)."""
    whole = values.new_zeros(count, *values.shape[1:])
    whole[rank() :: processes()] = values
    if processes() > 1:
        dist.all_reduce(whole)
    return whole


def shares(sizes: Sequence[int]) -> list[list[int]]:
    """This process's samples in each group of a step, by index.

    Dealt like cards over all groups, so that both batches and accumulation are shared.
    """
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return [
        [i for i in range(size) if (start + i) % processes() == rank()]
        for start, size in zip(starts, sizes, strict=True)
    ]


def add_up(parameters: Sequence[nn.Parameter], loss: float) -> float:
    """Add up gradients over all processes, in one message; returns the sum of losses."""
    if processes() == 1:
        return loss
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    flat = torch.cat([*(each.flatten() for each in gradients), gradients[0].new_tensor([loss])])
    dist.all_reduce(flat)
    *sums, total = flat.split([*(each.numel() for each in gradients), 1])
    for parameter, gradient in zip(parameters, sums, strict=True):
        parameter.grad = gradient.view_as(parameter)
    return total.item()
