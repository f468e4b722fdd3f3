"""The loss of a batch, for training and scoring alike."""

from __future__ import annotations

import torch
from torch import Tensor

from ..batch import Batch
from ..config import TrainConfig
from ..families import Family
from .flow import add_noise, edit_weights, of_mean_one, velocity_loss


def sample_losses(
    family: Family,
    batch: Batch,
    sigma: Tensor,
    noise: Tensor,
    config: TrainConfig,
    dtype: torch.dtype,
) -> Tensor:
    """The loss of each sample [B]; the target is noised, references stay clean.

    `sigma` [B] and `noise` [B, C, h, w] are float32 on the batch's device.
    """
    velocity = family.predict(
        add_noise(batch.target, noise, sigma).to(dtype),
        sigma,
        batch.text,
        [reference.to(dtype) for reference in batch.references],
        config.guidance,
    )
    return velocity_loss(velocity, noise, batch.target, config, place_weights(batch, config))


def place_weights(batch: Batch, config: TrainConfig) -> Tensor | None:
    """Weights of the target's latent pixels, [B, 1, h, w] of mean 1; None if all are equal."""
    weight = None
    if config.edit_weight and batch.references:
        weight = edit_weights(batch.target, batch.references[0], config.edit_weight)
    if batch.mask is not None and config.outside_mask < 1:
        masked = config.outside_mask + (1 - config.outside_mask) * batch.mask
        weight = of_mean_one(masked if weight is None else weight * masked)
    return weight
