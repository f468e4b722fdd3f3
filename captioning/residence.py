"""A captioner's weights under ComfyUI's memory management, which moves and evicts them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from ..trainer.host.names import comfy_module

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

memory = comfy_module("comfy.model_management")
model_patcher = comfy_module("comfy.model_patcher")
patcher_extension = comfy_module("comfy.patcher_extension")


def best_dtype() -> torch.dtype:
    """What ComfyUI would compute in on this machine: bf16, else fp16, else fp32 (CPU)."""
    device = memory.get_torch_device()
    if memory.should_use_bf16(device):
        return torch.bfloat16
    return torch.float16 if memory.should_use_fp16(device) else torch.float32


def unload(patcher: ModelPatcher) -> None:
    """Move this model, and no other, off the compute device."""
    others = [loaded for loaded in memory.current_loaded_models if loaded.model is not patcher]
    memory.free_memory(1e30, patcher.load_device, keep_loaded=others)
    memory.soft_empty_cache()


class Resident:
    """A module that shares the device with ComfyUI's own models."""

    def __init__(self, module: nn.Module) -> None:
        # The patcher sets `device` on its model, which transformers models refuse; hence the list.
        self.patcher = model_patcher.ModelPatcher(
            nn.ModuleList([module]),
            load_device=memory.get_torch_device(),
            offload_device=memory.text_encoder_offload_device(),
        )
        self.evicted = False
        self.patcher.add_callback(patcher_extension.CallbacksMP.ON_DETACH, self._on_detach)

    def bring(self) -> torch.device:
        """Put all weights on the compute device, moving others out if they are in the way."""
        # Partial loading would need ComfyUI's own layer classes.
        memory.load_models_gpu([self.patcher], force_full_load=True)
        self.evicted = False
        return self.patcher.load_device

    def leave(self) -> None:
        """Move the weights out and forget them; they are freed with the last reference."""
        unload(self.patcher)

    def _on_detach(self, patcher: ModelPatcher, unpatch_all: bool) -> None:
        self.evicted = self.evicted or unpatch_all


class Pinned:
    """A module that cannot be moved (8-bit and 4-bit weights): loaded in place, freed by dropping.

    `make_room` asks ComfyUI to move other models out before the weights are read.
    """

    evicted = False

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    @staticmethod
    def make_room(size: int) -> torch.device:
        device = memory.get_torch_device()
        memory.free_memory(size + memory.minimum_inference_memory(), device)
        return device

    def bring(self) -> torch.device:
        return memory.get_torch_device()

    def leave(self) -> None:
        memory.soft_empty_cache()
