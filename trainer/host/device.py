"""The device that ComfyUI computes on: loading a model, free memory, the size of weights."""

from __future__ import annotations

import math
from bisect import bisect
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psutil
import torch
from torch import nn

from .names import comfy_module
from .weights import FrozenLinear, is_linear

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher as Model

memory = comfy_module("comfy.model_management")


def load_alone(model: Model, beside: int, resident: int | None = None, buffers: int = 0) -> None:
    """Load this model and unload all others, leaving `beside` bytes of its device free.

    ComfyUI streams the weights that exceed `resident` bytes, through `buffers` bytes.
    """
    unload_others(model)
    if resident is not None and resident < model.model_size():
        # ComfyUI loads as much as leaves this free, its buffers and its reserve included
        rest = free_bytes(model) - resident - buffers - memory.extra_reserved_memory()
        beside = max(beside, int(rest))
        if model.is_dynamic():  # weights are loaded when used, up to a watermark
            model._vbar_get(create=True).set_watermark_limit(resident)
    memory.load_models_gpu([model], beside, minimum_memory_required=beside)
    unload_others(model)
    # buffers for streamed weights, made by an earlier node, are inference tensors
    memory.reset_cast_buffers()


@contextmanager
def within(limit: int, model: Model, work: float = 0) -> Iterator[None]:
    """Inside, `model` and `work` bytes of activations stay below `limit` bytes of its device, with
    all other models unloaded; 0 is no limit.

    ComfyUI keeps a reserve free, and streams weights that would use it up. Here the reserve is the
    rest of the device.
    """
    if not limit or memory.is_device_cpu(model.load_device):
        yield
        return
    beyond = max(0, room_for(model) - limit)
    if model.is_dynamic():  # see `load_alone`; what an earlier node has loaded stays without this
        least = memory.minimum_inference_memory() - memory.extra_reserved_memory()
        resident = max(0, int(limit - max(work, least)))
        model.partially_unload(model.offload_device, max(0, model.loaded_size() - resident))
        model._vbar_get(create=True).set_watermark_limit(resident)
    with swapped(memory, "EXTRA_RESERVED_VRAM", memory.extra_reserved_memory() + beyond):
        yield


@contextmanager
def swapped(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Inside, an attribute that is global to the process has another value."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def unload_others(model: Model) -> None:
    """Push all other models off this one's device."""
    ours = [loaded for loaded in memory.current_loaded_models if loaded.model.is_clone(model)]
    memory.free_memory(1e30, model.load_device, keep_loaded=ours)
    memory.soft_empty_cache()


def free_bytes(model: Model) -> int:
    """Bytes on the model's device that are free or hold its weights."""
    on_cpu, free = model.load_device.type == "cpu", int(memory.get_free_memory(model.load_device))
    return free + (unmapped_bytes(model) if on_cpu else model.loaded_size())


def unmapped_bytes(model: Model) -> int:
    """Bytes of a model's weights that are not mapped from a file.

    Mapped ones already count as free: the system drops their pages when it needs memory.
    """
    starts, ends = zip(*mapped_files(), strict=True)
    total = 0
    for tensor in stored_tensors(model.model.state_dict().values()):
        place = bisect(starts, tensor.data_ptr()) - 1
        if place < 0 or tensor.data_ptr() >= ends[place]:
            total += tensor.nbytes
    return total


def mapped_files() -> list[tuple[int, int]]:
    """The addresses at which files are mapped into this process, in order; never empty."""
    ranges = [(0, 0)]
    for region in psutil.Process().memory_maps(grouped=False):
        start, _, end = region.addr.partition("-")
        first = int(start, 16)
        if not region.path.startswith("["):  # Linux calls its own regions [heap], [anon], …
            ranges.append((first, int(end, 16) if end else first + region.rss))  # Windows: no end
    return sorted(ranges)


def stored_tensors(tensors: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
    """The plain tensors, and those in which quantised ones store their values."""
    for tensor in tensors:
        if hasattr(tensor, "__tensor_flatten__"):
            names, _ = tensor.__tensor_flatten__()
            yield from stored_tensors(getattr(tensor, name) for name in names)
        else:
            yield tensor


def room_for(model: Model) -> int:
    """Bytes on the model's device for it and its training. Unloads all other models."""
    unload_others(model)
    return free_bytes(model) - int(memory.extra_reserved_memory())


def weight_bytes(model: Model, dtype: torch.dtype) -> tuple[int, int, int, int, int]:
    """Bytes of all weights, of those that ComfyUI can stream, of the largest layer, and of its cast
    to `dtype` (0 if it is stored in that); and the number of parameters."""
    streams = memory.VRAMState.LOW_VRAM, memory.VRAMState.NORMAL_VRAM, memory.VRAMState.NO_VRAM
    movable = model.load_device.type != "cpu" and memory.vram_state in streams
    linears = [part for part in model.model.diffusion_model.modules() if is_linear(part)]
    sizes = [math.prod(FrozenLinear(linear).shape) for linear in linears]
    largest = max(map(memory.module_size, linears))
    dense, whole = max(sizes) * dtype.itemsize, model.model_size()
    cast = 0 if abs(largest - dense) < dense / 10 else dense
    return whole, whole if movable else 0, largest, cast, sum(sizes)


def dense_bytes(linears: Iterable[nn.Module], dtype: torch.dtype) -> int:
    """Bytes of the weights of these linears in this dtype."""
    return sum(math.prod(FrozenLinear(linear).shape) for linear in linears) * dtype.itemsize


def card_bytes() -> int:
    """Memory of the graphics card that ComfyUI computes on; 0 without one."""
    device = memory.get_torch_device()
    return 0 if device.type == "cpu" else int(memory.get_total_memory(device))


def peak_bytes(device: torch.device) -> int:
    """Peak bytes of tensors on this device since `forget_peak`; 0 if not counted."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0


def forget_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
