"""Rectified flow: noise levels, noise and the loss.

sigma = 1 is pure noise, sigma = 0 the clean latent; the network predicts `noise - latent`
(Liu et al. 2022, Esser et al. 2024).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..batch import seeded
from ..config import TrainConfig

ROUND = 8  # steps that cover all noise levels evenly


def shifted(sigma: Tensor, shift: float) -> Tensor:
    """Noise levels moved towards 1 (Esser et al. 2024, eq. 23)."""
    return shift * sigma / (1 + (shift - 1) * sigma)


def sigma_quantiles(quantiles: Tensor, config: TrainConfig, shift: float) -> Tensor:
    """Noise levels at these quantiles (in 0..1, exclusive) of a run's training density.

    `shift` is the model's own for pictures of this size; some values of `timesteps` replace it.
    """
    uniform, mean, spread, fixed_shift = {
        "balanced": (False, 0.0, 1.0, 0.0),
        "structure": (False, 0.0, 1.0, 3.0),
        "detail": (True, 0.0, 1.0, 1.0),
        "logit_normal": (False, config.sigma_mean, config.sigma_spread, config.sigma_shift),
        "uniform": (True, 0.0, 1.0, config.sigma_shift),
    }[config.timesteps]
    sigma = quantiles.double()
    if not uniform:
        sigma = torch.sigmoid(mean + spread * torch.special.ndtri(sigma))
    return shifted(sigma, fixed_shift or shift).to(quantiles.dtype)


def sample_quantiles(
    count: int, generator: torch.Generator, part: int = 0, parts: int = 1
) -> Tensor:
    """`count` quantiles, one from each equal slice of 0..1, in random order.

    Each slice is divided into `parts`; the quantile lies in the part numbered `part`.
    """
    slices = torch.randperm(count, generator=generator)
    quantiles = (slices + (part + torch.rand(count, generator=generator)) / parts) / count
    return quantiles.clamp(1e-5, 1 - 1e-5)


def part_of_step(seed: int, step: int) -> tuple[int, int]:
    """The part of each slice that a step samples from: every part once in ROUND steps, shuffled.

    Thus a few steps cover all noise levels evenly, even with a single sample per step.
    """
    order = torch.randperm(ROUND, generator=seeded(seed, step // ROUND, "round"))
    return int(order[step % ROUND]), ROUND


def add_noise(latent: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """(1 - sigma) · latent + sigma · noise, for latents [B, C, h, w] and sigma [B]."""
    return torch.lerp(latent, noise, sigma.view(-1, 1, 1, 1))


def velocity_loss(
    velocity: Tensor, noise: Tensor, latent: Tensor, config: TrainConfig, weight: Tensor | None
) -> Tensor:
    """Error of the predicted velocity [B], one value per sample, in float32.

    Mean square, or pseudo-Huber scaled to equal it for small errors (Song & Dhariwal 2023);
    weighted by `weight` [B, 1, h, w] if given.
    """
    error = velocity.float() - (noise - latent)
    if config.loss == "huber":
        delta = config.huber_delta
        loss = 2 * delta * ((error.square() + delta**2).sqrt() - delta)
    else:
        loss = error.square()
    return (loss if weight is None else loss * weight).mean(dim=(1, 2, 3))


def edit_weights(target: Tensor, control: Tensor, strength: float) -> Tensor:
    """Weights [B, 1, h, w] of mean 1 that grow by up to `strength` times where the edit happens.

    The edit is where target and control latents [B, C, h, w] differ, relative to the largest
    difference.
    """
    change = (target - control).square().mean(dim=1, keepdim=True).sqrt()
    weight = 1 + strength * change / change.amax(dim=(2, 3), keepdim=True).clamp_min(1e-6)
    return of_mean_one(weight)


def of_mean_one(weight: Tensor) -> Tensor:
    """Weights [B, 1, h, w] scaled to mean 1 in each sample, so that all samples count equally."""
    return weight / weight.mean(dim=(2, 3), keepdim=True).clamp_min(1e-6)
