"""The next step's tensors: drawn, read and copied to the device while this step computes."""

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
from .sampling import Share, draw_step


@dataclass(frozen=True)
class ReadyShare:
    """A share of a step on its device: its batch, `sigma` [B] and `noise` of the targets' shape."""

    share: Share
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
    """As `Draw`, with everything read."""

    shares: list[ReadyShare]
    samples: int


class Ahead:
    """Prepares steps in a thread of its own, always the one after the one asked for.

    What a step is made of follows from its number alone, so being ahead changes nothing. Errors,
    also of memory, come out where the step is asked for.
    """

    def __init__(
        self, batches: Batches, family: Family, config: TrainConfig, device: torch.device
    ) -> None:
        self.batches, self.family, self.config, self.device = batches, family, config, device
        self.thread = ThreadPoolExecutor(1, "kontext-ahead")
        self.coming: dict[int, Future[ReadyStep]] = {}
        on_cuda = device.type == "cuda"
        self.stream = torch.cuda.Stream(device) if on_cuda else None
        self.consumer = torch.cuda.current_stream(device) if on_cuda else None

    def __enter__(self) -> Ahead:
        return self

    def __exit__(self, *_: object) -> None:
        self.thread.shutdown(cancel_futures=True)

    def at(self, step: int) -> ReadyStep:
        """What this step is made of; the one after it is begun."""
        asked = self.coming.pop(step, None) or self.thread.submit(self.prepared, step)
        ready, following = asked.result(), step + 1
        if following < self.config.steps:
            self.coming = {following: self.thread.submit(self.prepared, following)}
        return ready

    def prepared(self, step: int) -> ReadyStep:
        """Read a step; on a card, beside what the training's own stream computes."""
        if self.stream is None or self.consumer is None:
            return read_step(self.batches, self.family, self.config, self.device, step)
        with torch.cuda.stream(self.stream):
            ready = read_step(self.batches, self.family, self.config, self.device, step)
            for share in ready.shares:
                for tensor in share.tensors():
                    tensor.record_stream(self.consumer)  # freed no earlier than it is used there
        self.stream.synchronize()
        return ready


def read_step(
    batches: Batches, family: Family, config: TrainConfig, device: torch.device, step: int
) -> ReadyStep:
    """Draw a step and bring its tensors to the device."""
    drawn = draw_step(batches, config, step)
    shares = []
    for share in drawn.shares:
        batch = load_batch(share.pairs, "" if drawn.captionless else None, device, drawn.blind)
        shift = family.shift(batch.target.shape)
        sigma = sigma_quantiles(share.quantile, config, shift).to(device)
        shares.append(ReadyShare(share, batch, sigma, share.noise.to(device)))
    return ReadyStep(shares, drawn.samples)
