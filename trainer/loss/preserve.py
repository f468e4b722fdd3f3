"""Keeping the base model's answers to other instructions.

Prior preservation as in Ruiz et al. 2023, but against the base model itself, which is available at
LoRA strength 0: no pictures need to be generated first.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from ...dataset.pair import DatasetError, Pair
from ...language import say
from ..batch import Batch, EncodedPair, load_batch, seeded
from ..config import TrainConfig
from ..families import Family
from ..network.lora import Lora
from .flow import add_noise, sample_quantiles, sigma_quantiles


class Preservation:
    """Off-task instructions, and how much the LoRA changes the model's prediction for them."""

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
        """`prediction_drift` on this pair, with the step's own instruction, noise and noise level.

        These follow from (seed, step) through a separate generator, so that training itself uses
        the same random numbers with and without preservation.
        """
        generator = seeded(self.config.seed, step, "preserve")
        instructions = self.config.preserved
        index = int(torch.randint(len(instructions), (), generator=generator))
        batch = load_batch([pair], instructions[index], device)
        shift = family.shift(batch.target.shape)
        sigma = sigma_quantiles(sample_quantiles(1, generator), self.config, shift).to(device)
        noise = torch.randn(edited(batch).shape, generator=generator).to(device)
        (drift,) = prediction_drift(family, lora, batch, sigma, noise, self.config, dtype)
        return drift


def edited(batch: Batch) -> Tensor:
    """The latent that another edit would mostly keep: the control or, without one, the target."""
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
    """Mean square [B] of the LoRA's change to the predicted velocity.

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
    """Raise DatasetError if an instruction is both trained and preserved."""
    both = {pair.caption.strip() for pair in pairs} & set(config.preserved)
    if config.preserve and both:
        raise DatasetError(
            say(
                "{captions} is both a caption of the pairs and an instruction to preserve. "
                "Remove it from preserve_prompts.",
                captions=", ".join(repr(text) for text in sorted(both)),
            )
        )
