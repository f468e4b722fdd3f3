"""The cost of switching LoRAs in ComfyUI: the time to load before sampling, and the memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import psutil
import torch

from .device import peak_bytes
from .names import comfy_module

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher as Model

patcher_extension = comfy_module("comfy.patcher_extension")


def timed(model: Model, loads: list[float]) -> Model:
    """A clone that appends to `loads`, at every sampling, the seconds that ComfyUI took to load it.

    That covers moving weights to the device and merging LoRAs, and is almost nothing the second
    time.
    """

    def prepare(prepare_sampling: Callable, *args: Any, **options: Any) -> Any:
        started = time.perf_counter()
        prepared = prepare_sampling(*args, **options)
        if model.load_device.type == "cuda":
            torch.cuda.synchronize(model.load_device)
        loads.append(time.perf_counter() - started)
        return prepared

    clone = model.clone()
    kind, options = patcher_extension.WrappersMP.PREPARE_SAMPLING, clone.model_options
    patcher_extension.add_wrapper_with_key(kind, "kontext", prepare, options, is_model_options=True)
    return clone


def memory_taken(device: torch.device) -> int:
    """Peak bytes of tensors on a graphics card since `forget_peak`; on a CPU, the present memory of
    the process, which includes everything else that ComfyUI holds."""
    return peak_bytes(device) or psutil.Process().memory_info().rss
