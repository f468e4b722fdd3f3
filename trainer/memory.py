"""How much memory activations take, to decide about checkpointing and how much to keep free."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from .config import TrainConfig
from .lora import Lora

# Values autograd keeps per token and hidden unit in one FLUX.1 block whose linears keep their
# input only: normalised and modulated x (2), q, k, v before and after norm and rotation (7),
# attention (1), the MLP before and after GELU and joined with attention (13)
KEPT_PER_BLOCK = 23


def activation_bytes(
    tokens: int, hidden: int, blocks: int, itemsize: int, checkpointing: bool
) -> int:
    """Memory for the activations of one sample's forward and backward.

    With checkpointing every block keeps its input alone, and one block at a time its inside,
    once as values and once as gradients.
    """
    unit = tokens * hidden * itemsize
    if checkpointing:
        return unit * (blocks + 2 * KEPT_PER_BLOCK)
    return unit * KEPT_PER_BLOCK * (blocks + 1)


def plan_checkpointing(
    blocks: Sequence[nn.Module],
    tokens: int,
    hidden: int,
    config: TrainConfig,
    dtype: torch.dtype,
    room: int,
) -> tuple[list[nn.Module], int]:
    """Which blocks to checkpoint, and how many bytes to keep free for activations.

    Automatic checkpointing is off where everything fits into half of the `room` beside the model.
    """
    size = (tokens, hidden, len(blocks), dtype.itemsize)
    kept = activation_bytes(*size, checkpointing=False)
    if config.checkpointing == "off" or (config.checkpointing == "auto" and kept < room / 2):
        return [], kept
    return [*blocks], activation_bytes(*size, checkpointing=True)


def trained_bytes(lora: Lora) -> int:
    """Memory for the LoRA's float32 weights, their gradients and AdamW's two moments."""
    return 4 * sum(weight.nbytes for weight in lora.parameters())
