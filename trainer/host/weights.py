"""The loaded weights, in whatever format they are stored: products with them, checks, hashes."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ...language import say
from .names import comfy_module

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher as Model
    from comfy.sd import CLIP as Clip
    from comfy.sd import VAE as Vae

ops = comfy_module("comfy.ops")

LARGEST_ERROR = 0.5  # 4-bit activations are 0.15 off, a weight read in the wrong way more than 1


class BaseModelError(ValueError):
    """The loaded model, text encoder or VAE cannot be trained on."""


# ---- frozen weights ------------------------------------------------------------------------


def is_linear(module: nn.Module) -> bool:
    """True for every kind of linear layer: the quantised ones are no nn.Linear."""
    if is_bitsandbytes(module):
        return True
    return all(hasattr(module, name) for name in ("in_features", "out_features", "weight"))


def is_bitsandbytes(module: nn.Module) -> bool:
    """True for the 4-bit layers of the NF4 loaders, which lack in_features and out_features."""
    return hasattr(module, "quant_state") and getattr(module, "weight", None) is not None


def is_gguf(module: Any) -> bool:
    """True for layers of ComfyUI-GGUF that are stored packed."""
    return hasattr(module, "is_ggml_quantized") and module.is_ggml_quantized()


@contextmanager
def cast_weight(module: Any, like: Tensor) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Dense weight and bias of a ComfyUI layer in the dtype and on the device of `like`.

    Streams, pages in or dequantises as ComfyUI would; the tensors are valid inside the block only.
    """
    if is_bitsandbytes(module):
        yield bitsandbytes_weight(module).to(like), plain(module.bias, like)
        return
    if is_gguf(module):
        weight, bias = module.cast_bias_weight(like)  # ComfyUI-GGUF's own
        yield plain(weight, like), plain(bias, like)
        return
    weight, bias, stream = ops.cast_bias_weight(
        module, dtype=like.dtype, device=like.device, bias_dtype=like.dtype, offloadable=True
    )
    try:
        yield plain(weight, like), plain(bias, like)
    finally:
        ops.uncast_bias_weight(module, weight, bias, stream)


def plain(tensor: Any, like: Tensor) -> Any:
    """A dense plain tensor in the dtype of `like`; None stays None."""
    if isinstance(tensor, ops.QuantizedTensor):
        tensor = tensor.dequantize()
    return None if tensor is None else tensor.as_subclass(Tensor).to(like)


def bitsandbytes_weight(module: Any) -> Tensor:
    """The dense weight, in bitsandbytes' own dtype.

    These loaders quantise a weight that is not stored in 4 bits once it reaches the graphics card.
    """
    from bitsandbytes.functional import dequantize_4bit  # installed if there is such a layer

    stored = module.weight.data.as_subclass(Tensor)
    return stored if module.quant_state is None else dequantize_4bit(stored, module.quant_state)


class FrozenLinear:
    """A linear layer of the loaded model: its own forward, and its dense weight on demand."""

    keeping = False  # whether forward keeps a dequantised weight for the backward that follows
    unread = False  # whether nothing depends on what forward returns
    kept: Tensor | None = None

    def __init__(self, module: nn.Module) -> None:
        self.module: Any = module
        self.comfy_forward = module.forward

    @property
    def out_features(self) -> int:
        return self.shape[0]

    @property
    def in_features(self) -> int:
        return self.shape[1]

    @property
    def shape(self) -> tuple[int, int]:
        """The shape of the dense weight, however it is packed."""
        module = self.module
        if is_bitsandbytes(module):
            out, into = (module.weight if module.quant_state is None else module.quant_state).shape
            return out, into
        return module.out_features, module.in_features

    def forward(self, x: Tensor) -> Tensor:
        """The layer as ComfyUI runs it, for any dtype of `x`."""
        self.kept = None
        if self.unread:  # NaN: if something did read it, that would show
            return x.new_full((*x.shape[:-1], self.out_features), math.nan)
        keep = self.keeping and x.requires_grad and self.dequantises(x)
        if keep or self.must_cast(x):
            with cast_weight(self.module, x) as (weight, bias):
                self.kept = weight if keep else None
                return nn.functional.linear(x, weight, bias)
        return self.comfy_forward(x)

    def dense(self, like: Tensor) -> AbstractContextManager[tuple[Tensor, Tensor | None]]:
        """`cast_weight` of this layer."""
        return cast_weight(self.module, like)

    def must_cast(self, x: Tensor) -> bool:
        """True if the layer's own forward would fail in training, or overwrite something."""
        if isinstance(self.module, ops.fp8_ops.Linear):
            return True  # the fp8 "fast" path clamps its input in place
        if is_bitsandbytes(self.module):
            return True  # it would round its bias to the input's dtype for good
        stored_plain = type(self.module.weight) is nn.Parameter
        return stored_plain and self.module.weight.dtype != x.dtype

    def dequantises(self, x: Tensor) -> bool:
        """True if forward makes a dense weight in new memory: not for one that is stored dense,
        streamed through ComfyUI's buffers, or multiplied in 8 bits."""
        module = self.module
        weight = module.weight
        if hasattr(module, "_v") or weight.device != x.device:
            return False
        if isinstance(weight, ops.QuantizedTensor):
            return module._full_precision_mm and self.input_scale is None
        return self.must_cast(x) or is_gguf(module)

    def backward(self, gradient: Tensor) -> Tensor:
        """Gradient with respect to the input, from the weight as it is stored."""
        kept, self.kept = self.kept, None
        if kept is not None:
            return gradient @ kept
        with cast_weight(self.module, gradient) as (weight, _):
            before = gradient @ weight
        return before if self.input_scale is None else before * self.input_scale.to(before)

    def rows_times_weight(self, rows: Tensor) -> Tensor:
        """rows [n, out] times the weight, [n, in]."""
        return self.backward(rows)

    def column_norms(self, device: torch.device) -> Tensor:
        """Norm of each column of the dense weight [in], float32 on `device`."""
        with cast_weight(self.module, torch.empty(0, device=device)) as (weight, _):
            norms = torch.linalg.vector_norm(weight, dim=0)
        return norms if self.input_scale is None else norms * self.input_scale.to(norms).abs()

    @property
    def input_scale(self) -> Tensor | None:
        """The scale [in] of the layer's input, which only AWQ files have."""
        return getattr(self.module, "pre_quant_scale", None)


# ---- what cannot be trained on -------------------------------------------------------------


def check_uncompiled(network: nn.Module) -> None:
    """Raise BaseModelError if modules have been permanently replaced by compiled ones."""
    for name, module in network.named_modules():
        compiled = hasattr(module, "_orig_mod") or module._compiled_call_impl is not None
        if compiled:
            raise BaseModelError(
                say(
                    "{part} has been compiled in place by another node. Training runs uncompiled: "
                    "restart ComfyUI and leave that node out of this graph (ComfyUI's own "
                    "TorchCompileModel is welcome).",
                    part=name or say("The model"),
                )
            )


def check_readable(network: nn.Module) -> None:
    """Raise BaseModelError for layers of an unknown kind. Loads nothing."""
    for name, module in network.named_modules():
        leaf = not any(True for _ in module.children())
        tensors = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        if leaf and not is_linear(module) and any(tensor.ndim > 1 for tensor in tensors):
            kind = f"{type(module).__module__}.{type(module).__qualname__}"
            raise BaseModelError(
                say(
                    "{name} is a {kind}, whose weights this trainer cannot read. Load the model as "
                    "safetensors (any of ComfyUI's formats), GGUF or NF4.",
                    name=name,
                    kind=kind,
                )
            )


def check_products(network: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
    """Raise BaseModelError unless layers compute with the same weight that backward will use.

    One layer of each class and storage format gets 32 random inputs; the model must be loaded.
    """
    first: dict[Any, tuple[str, nn.Module]] = {}
    for name, module in network.named_modules():
        if is_linear(module):
            first.setdefault(storage(module), (name, module))
    for name, module in first.values():
        layer = FrozenLinear(module)
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(32, layer.in_features, generator=generator).to(device, dtype)
        y = layer.forward(x)
        with cast_weight(module, x) as (weight, bias):
            scaled = x if layer.input_scale is None else x * layer.input_scale.to(x)
            expected = nn.functional.linear(scaled, weight, bias)
        error = ((y - expected).float().norm() / expected.float().norm()).item()
        if not error < LARGEST_ERROR:
            raise BaseModelError(
                say(
                    "{name} ({kind}, {format}) does not compute with the weight it stores: the "
                    "results differ by {error:.0%}. Load the model in another format, or without "
                    "the node that changes it.",
                    name=name,
                    kind=type(module).__name__,
                    format=storage(module)[1],
                    error=error,
                )
            )


def weight_format(network: nn.Module) -> str:
    """The format of most of the weights, in short: bf16, fp8, …"""
    counts: dict[str, int] = {}
    for module in network.modules():
        if is_linear(module):
            form = storage(module)[1]
            counts[form] = counts.get(form, 0) + math.prod(FrozenLinear(module).shape)
    form = max(counts, key=lambda name: counts[name])
    names = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32", "uint8": "4 bit"}
    return "fp8" if form.startswith("float8") else names.get(form, form)


def storage(module: Any) -> tuple[type, str]:
    """A layer's class and the format of its weight, in words."""
    weight = module.weight
    form = getattr(weight, "tensor_type", None) or getattr(module, "quant_format", None)
    return type(module), str(getattr(form, "name", form) or weight.dtype).removeprefix("torch.")


# ---- identity ------------------------------------------------------------------------------


def without_object_patches(model: Model) -> None:
    """Undo other nodes' replacements of modules (compiled blocks, for example).

    ComfyUI restores them when the model is sampled with again.
    """
    model.unpatch_model(unpatch_weights=False)


def base_hash(model: Model) -> str:
    """Hash of the transformer's own weights, whatever LoRA is merged into them at the moment,
    and of the LoRAs the user has put on it."""
    own = {key: saved.weight for key, saved in model.backup.items()}
    patches = {f"patch {key}": patch for key, patch in model.patches.items()}
    return fingerprint({**stored_tensors(model.model), **own, **dict(leaves(patches, ""))})


def leaves(tree: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    """All tensors and numbers in nested containers and weight adapters, with their places."""
    if isinstance(tree, Tensor):
        yield name, tree
    elif isinstance(tree, (int, float)):
        yield name, torch.tensor(tree)
    elif isinstance(tree, dict):
        for key, value in tree.items():
            yield from leaves(value, f"{name} {key}")
    elif isinstance(tree, (list, tuple)):
        for index, value in enumerate(tree):
            yield from leaves(value, f"{name} {index}")
    elif hasattr(tree, "weights"):
        yield from leaves(tree.weights, name)


def stored_tensors(module: nn.Module) -> dict[str, Tensor]:
    """A model's state as stored, with the tensors behind ComfyUI-GGUF's placeholders."""
    parameters = dict(module.named_parameters())
    return {
        name: parameters[name].as_subclass(Tensor)
        if tensor.is_meta and name in parameters
        else tensor
        for name, tensor in module.state_dict().items()
    }


def vae_hash(vae: Vae) -> str:
    return fingerprint(stored_tensors(vae.first_stage_model))


def clip_hash(clip: Clip) -> str:
    """Hash of a text encoder with everything that changes its output: options, layer, LoRAs."""
    options = f"{clip.tokenizer_options} {clip.layer_idx}"
    return fingerprint({}, base_hash(clip.patcher), options)


def fingerprint(tensors: Mapping[str, Tensor], *more: str) -> str:
    """Hash of every tensor's name, shape and 64 of its values: enough to tell models apart."""
    digest = hashlib.sha256(" ".join(more).encode("utf-8"))
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        count = min(64, tensor.numel())
        if count and not tensor.is_meta:
            # whole numbers: float32 cannot tell the last indices of a large weight apart
            picks = torch.arange(count) * (tensor.numel() - 1) // max(1, count - 1)
            values = tensor.detach().reshape(-1)[picks.to(tensor.device)]
            digest.update(values.cpu().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
