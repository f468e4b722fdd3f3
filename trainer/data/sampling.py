"""The random choices of a step: which pairs, which noise levels, which noise."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .. import parallel
from ..batch import EncodedPair, sample_seeds, seeded
from ..config import TrainConfig
from ..loss.flow import part_of_step, sample_quantiles
from .batches import Batches


@dataclass(frozen=True)
class Share:
    """This process's part of a batch: `quantile` [B] of the timesteps, `noise` of the targets'
    shape, and `seeds` [B] of the dropout masks."""

    pairs: list[EncodedPair]
    quantile: Tensor
    noise: Tensor
    seeds: Tensor


@dataclass(frozen=True)
class StepPlan:
    """A step: the shares of its batches, and how many samples all processes have together."""

    shares: list[Share]
    samples: int
    captionless: bool
    blind: bool


def plan_step(batches: Batches, config: TrainConfig, step: int) -> StepPlan:
    """The plan of a step, which follows from (seed, step) alone.

    A resumed run therefore does the same as an unbroken one, and all processes have the same plan.
    """
    groups = [batches.at(step * config.accumulate + i) for i in range(config.accumulate)]
    sizes = [len(group) for group in groups]
    generator = seeded(config.seed, step, "step")
    part = part_of_step(config.seed, step)
    quantiles = sample_quantiles(sum(sizes), generator, *part).split(sizes)
    captionless = torch.rand((), generator=generator) < config.caption_dropout
    blind = torch.rand((), generator=generator) < config.reference_dropout
    seeds = sample_seeds(sum(sizes), seeded(config.seed, step, "dropout")).split(sizes)
    shares = []
    for place, mine in enumerate(parallel.shares(sizes)):
        group = groups[place]
        noise = torch.randn(len(group), *group[0].shape[0][1:], generator=generator)
        if mine:
            pairs = [group[i] for i in mine]
            shares.append(Share(pairs, quantiles[place][mine], noise[mine], seeds[place][mine]))
    return StepPlan(shares, sum(sizes), bool(captionless), bool(blind))
