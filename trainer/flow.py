"""Rectified flow: how noisy, which noise, and the loss.

sigma = 1 is pure noise, sigma = 0 the clean latent; the network predicts `noise - latent`
(Liu et al. 2022, Esser et al. 2024).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

TIMESTEPS = {
    "balanced": "Logit-normal, shifted by the picture's size as FLUX.1's sampler is.",
    "structure": "Logit-normal, shifted by 3: composition, shape, light. More high noise.",
    "detail": "Uniform: texture and fine flaws. As much low noise as high.",
}


def resolution_shift(tokens: int) -> float:
    """FLUX.1's timestep shift exp(mu) for this many target tokens.

    mu is linear from 0.5 at 256 tokens to 1.15 at 4096 (black-forest-labs/flux, get_schedule).
    """
    slope = (1.15 - 0.5) / (4096 - 256)
    return math.exp(0.5 + slope * (tokens - 256))


def shifted(sigma: Tensor, shift: float) -> Tensor:
    """Move noise levels towards 1 (Esser et al. 2024, eq. 23)."""
    return shift * sigma / (1 + (shift - 1) * sigma)


def sigma_quantiles(quantiles: Tensor, timesteps: str, tokens: int) -> Tensor:
    """Noise levels at these quantiles (in 0..1, exclusive) of a preset's training density."""
    if timesteps == "detail":
        return quantiles
    logit_normal = torch.sigmoid(torch.special.ndtri(quantiles.double())).to(quantiles.dtype)
    return shifted(logit_normal, 3.0 if timesteps == "structure" else resolution_shift(tokens))


def draw_quantiles(count: int, generator: torch.Generator) -> Tensor:
    """`count` quantiles, one from each equal slice of 0..1, in random order."""
    slices = torch.randperm(count, generator=generator)
    drawn = (slices + torch.rand(count, generator=generator)) / count
    return drawn.clamp(1e-5, 1 - 1e-5)


def add_noise(latent: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """(1 - sigma) · latent + sigma · noise, for latents [B, C, h, w] and sigma [B]."""
    return torch.lerp(latent, noise, sigma.view(-1, 1, 1, 1))


def velocity_loss(velocity: Tensor, noise: Tensor, latent: Tensor) -> Tensor:
    """Mean squared error of the predicted velocity, in float32, one value per sample [B]."""
    return (velocity.float() - (noise - latent)).square().mean(dim=(1, 2, 3))
