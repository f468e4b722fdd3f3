"""Loss on held-out pairs, with the same noise at every measurement."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..batch import EncodedPair, load_batch, seeded
from ..config import TrainConfig
from ..families import Family
from .flow import sigma_quantiles
from .objective import sample_losses

MOST_PAIRS = 8
LEVELS = 4


def held_out_losses(
    family: Family,
    pairs: Sequence[EncodedPair],
    config: TrainConfig,
    dtype: torch.dtype,
    device: torch.device,
    levels: int = LEVELS,
    draws: int = 1,
    seed: int = 0,
) -> Tensor:
    """Velocity loss [pairs, levels, draws], float32 on the CPU.

    Noise levels are evenly spaced quantiles of the training density: the mean loss estimates the
    training objective. The noise depends on (seed, stem, level, draw) alone, so that the losses of
    the base model and of every checkpoint can be compared pair by pair.
    """
    quantiles = (torch.arange(levels) + 0.5) / levels
    losses = torch.empty(len(pairs), levels, draws)
    with torch.no_grad():
        for i, pair in enumerate(pairs):
            batch = load_batch([pair], None, device)
            sigmas = sigma_quantiles(quantiles, config, family.shift(batch.target.shape))
            for j, sigma in enumerate(sigmas):
                for k in range(draws):
                    generator = seeded(seed, j * draws + k, f"held out {pair.stem}")
                    noise = torch.randn(batch.target.shape, generator=generator).to(device)
                    level = sigma.view(1).to(device)
                    loss = sample_losses(family, batch, level, noise, config, dtype)
                    losses[i, j, k] = loss.item()
    return losses
