"""The next step's tensors, read and copied to the device while this step computes."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from ..batch import Batch, load_batch
from ..config import TrainConfig
from ..families import Family
from ..loss.flow import sigma_quantiles
from .batches import Batches
from .sampling import Share, plan_step


@dataclass(frozen=True)
class ReadyShare:
    """A share of a step on its device: its batch, `sigma` [B] and `noise` of the targets' shape."""

    plan: Share
    batch: Batch
    sigma: Tensor
    noise: Tensor

    def tensors(self) -> list[Tensor]:
        batch = self.batch
        masks = [batch.mask] if batch.mask is not None else []
        latents = batch.target, *batch.references
        return [*latents, *batch.text.tensors(), *masks, self.sigma, self.noise]


@dataclass(frozen=True)
class ReadyStep:
    """A `StepPlan` with its tensors."""

    shares: list[ReadyShare]
    samples: int


class Prefetch:
    """Prepares the next step in a thread of its own.

    A step follows from its number alone, so preparing it early changes nothing. Errors, including
    out of memory, are raised by `at`.
    """

    def __init__(
        self, batches: Batches, family: Family, config: TrainConfig, device: torch.device
    ) -> None:
        self.batches, self.family, self.config, self.device = batches, family, config, device
        self.thread = ThreadPoolExecutor(1, "kontext-prefetch")
        self.futures: dict[int, Future[ReadyStep]] = {}
        on_cuda = device.type == "cuda"
        self.stream = torch.cuda.Stream(device) if on_cuda else None
        self.consumer = torch.cuda.current_stream(device) if on_cuda else None

    def __enter__(self) -> Prefetch:
        return self

    def __exit__(self, *_: object) -> None:
        self.thread.shutdown(cancel_futures=True)

    def at(self, step: int) -> ReadyStep:
        """The tensors of this step; begins to prepare the one after it."""
        future = self.futures.pop(step, None) or self.thread.submit(self.prepare, step)
        ready, following = future.result(), step + 1
        if following < self.config.steps:
            self.futures = {following: self.thread.submit(self.prepare, following)}
        return ready

    def prepare(self, step: int) -> ReadyStep:
        """Read a step; on a graphics card, in a stream parallel to the training."""
        if self.stream is None or self.consumer is None:
            return read_step(self.batches, self.family, self.config, self.device, step)
        with torch.cuda.stream(self.stream):
            ready = read_step(self.batches, self.family, self.config, self.device, step)
            for share in ready.shares:
                for tensor in share.tensors():
                    tensor.record_stream(self.consumer)  # not freed before it has been used there
        self.stream.synchronize()
        return ready


def read_step(
    batches: Batches, family: Family, config: TrainConfig, device: torch.device, step: int
) -> ReadyStep:
    """Plan a step and load its tensors to the device."""
    plan = plan_step(batches, config, step)
    shares = []
    for share in plan.shares:
        batch = load_batch(share.pairs, "" if plan.captionless else None, device, plan.blind)
        shift = family.shift(batch.target.shape)
        sigma = sigma_quantiles(share.quantile, config, shift).to(device)
        shares.append(ReadyShare(share, batch, sigma, share.noise.to(device)))
    return ReadyStep(shares, plan.samples)
