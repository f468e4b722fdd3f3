"""The training objective on one batch, as training and scoring both use it."""

from __future__ import annotations

import torch
from torch import Tensor

from . import host
from .batches import Batch
from .flow import add_noise, velocity_loss


def sample_losses(
    flux: host.Flux,
    batch: Batch,
    sigma: Tensor,
    noise: Tensor,
    guidance: float,
    dtype: torch.dtype,
) -> Tensor:
    """Squared velocity error of each sample [B]; the target is noised, references stay clean.

    `sigma` [B] and `noise` [B, 16, h, w] are float32 on the batch's device.
    """
    velocity = host.predict_velocity(
        flux,
        add_noise(batch.target, noise, sigma).to(dtype),
        sigma,
        batch.text,
        [reference.to(dtype) for reference in batch.references],
        guidance,
    )
    return velocity_loss(velocity, noise, batch.target)
