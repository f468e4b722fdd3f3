"""Keeping what the base model does on other instructions, so that the LoRA stays out of them.

Prior preservation in the sense of Ruiz et al. 2023, but against the base model itself: it is there,
at LoRA strength 0, so no pictures need to be made first.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from ...dataset.pair import DatasetError, Pair
from ..batch import Batch, EncodedPair, load_batch, seeded
from ..config import TrainConfig
from ..families import Family
from ..network.lora import Lora
from .flow import add_noise, draw_quantiles, sigma_quantiles


class Preservation:
    """Off-task instructions, and how far the LoRA moves the model's answers to them."""

    def __init__(self, config: TrainConfig) -> None:
        self.config = config

    def due(self, step: int) -> bool:
        return bool(self.config.preserve) and step % self.config.preserve_every == 0

    def drift(
        self,
        family: Family,
        lora: Lora,
        pair: EncodedPair,
        step: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> Tensor:
        """`prediction_drift` on this pair, with an instruction, noise and level of the step.

        They follow from (seed, step) through a generator of their own: what the training itself
        draws is the same with and without.
        """
        generator = seeded(self.config.seed, step, "preserve")
        instructions = self.config.preserved
        place = int(torch.randint(len(instructions), (), generator=generator))
        batch = load_batch([pair], instructions[place], device)
        shift = family.shift(batch.target.shape)
        sigma = sigma_quantiles(draw_quantiles(1, generator), self.config, shift)
        noise = torch.randn(edited(batch).shape, generator=generator).to(device)
        given = batch, sigma.to(device), noise
        (drift,) = prediction_drift(family, lora, *given, self.config, dtype)
        return drift


def edited(batch: Batch) -> Tensor:
    """What another edit would start from and mostly keep: the control, never the target."""
    return batch.references[0] if batch.references else batch.target


def prediction_drift(
    family: Family,
    lora: Lora,
    batch: Batch,
    sigma: Tensor,
    noise: Tensor,
    config: TrainConfig,
    dtype: torch.dtype,
) -> Tensor:
    """Mean square [B] of what the LoRA changes in the predicted velocity.

    `sigma` [B] and `noise`, of the control's shape, are float32 on the batch's device.
    """
    noised = add_noise(edited(batch), noise, sigma).to(dtype)
    references = [reference.to(dtype) for reference in batch.references]

    def predict() -> Tensor:
        return family.predict(noised, sigma, batch.text, references, config.guidance)

    with lora.at_strength(0.0), torch.no_grad():
        base = predict().float()
    return (predict().float() - base).square().mean(dim=(1, 2, 3))


def require_off_task(config: TrainConfig, pairs: Iterable[Pair]) -> None:
    """Raise DatasetError if an instruction is to be learnt and preserved at once."""
    both = {pair.caption.strip() for pair in pairs} & set(config.preserved)
    if config.preserve and both:
        raise DatasetError(
            f"{', '.join(repr(text) for text in sorted(both))} is a caption of the pairs and among "
            "the instructions to preserve. Take it out of preserve_prompts."
        )
