"""The CPU as a graphics card whose memory is short, so that ComfyUI streams weights."""

import comfy.model_management as memory
import comfy.ops
import pytest
import torch
from kontext.trainer import host


@pytest.fixture
def as_card(monkeypatch):
    """as_card(model, total): the CPU as a card of so many bytes, onto which weights are copied.

    Layers that ComfyUI has not loaded are cast into one of two buffers that are used in turn, as
    its streams do, and filled with not-a-number as soon as the layer says that it is done.
    """
    buffers: dict[tuple, torch.Tensor] = {}
    casts: list[torch.nn.Module] = []

    def cast(module, input=None, dtype=None, bias_dtype=None, offloadable=False, **_):
        dtype = dtype or input.dtype
        weight = module.weight.to(dtype)
        bias = None if module.bias is None else module.bias.to(bias_dtype or dtype)
        buffer = None
        if hasattr(module, "prev_comfy_cast_weights"):  # ComfyUI's mark of one not loaded
            key = (len(casts) % 2, weight.shape)
            casts.append(module)
            with torch.inference_mode(False):
                buffer = buffers.setdefault(key, torch.empty(weight.shape, dtype=dtype))
            weight = buffer.copy_(weight)
        return (weight, bias, buffer) if offloadable else (weight, bias)

    def uncast(module, weight, bias, buffer):
        if buffer is not None:
            buffer.fill_(torch.nan)

    def turn(model, total):
        def free(device=None, torch_free_too=False):
            left = total - model.loaded_size()
            return (left, 0) if torch_free_too else left

        monkeypatch.setattr(comfy.ops, "cast_bias_weight", cast)
        monkeypatch.setattr(comfy.ops, "uncast_bias_weight", uncast)
        monkeypatch.setattr(memory, "is_device_cpu", lambda device: False)
        monkeypatch.setattr(memory, "vram_state", memory.VRAMState.NORMAL_VRAM)
        monkeypatch.setattr(memory, "lowvram_available", True)
        monkeypatch.setattr(memory, "MIN_WEIGHT_MEMORY_RATIO", 0.0)  # as on NVIDIA
        monkeypatch.setattr(memory, "EXTRA_RESERVED_VRAM", total // 100)
        monkeypatch.setattr(memory, "NUM_STREAMS", 2)
        monkeypatch.setattr(memory, "minimum_inference_memory", lambda: 0)
        monkeypatch.setattr(memory, "soft_empty_cache", lambda: None)
        monkeypatch.setattr(memory, "get_free_memory", free)
        monkeypatch.setattr(host.device, "free_bytes", lambda model: total)
        return casts

    return turn
