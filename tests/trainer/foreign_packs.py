"""Small doubles of the packs that load GGUF and NF4 files, over the real `gguf` and `bitsandbytes`.

They have the interface by which a layer of ComfyUI-GGUF and of ComfyUI_bitsandbytes_NF4 (and the
forks of it) is known, and the habits that get in the way of training: tensors that refuse to be
copied, shapes that are not those of the memory, state dicts of placeholders, a bias that is rounded
in passing.
"""

import collections

import comfy.lora
import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.utils
import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Form
from torch import nn

# ---- GGUF ----------------------------------------------------------------------------------

PLAIN = (None, Form.F32, Form.F16)
# Where a block of a K format has its float16 scales (scale, and scale of the minima)
SCALES_AT = {
    Form.Q2_K: (80, 82),
    Form.Q3_K: (108,),
    Form.Q4_K: (0, 2),
    Form.Q5_K: (0, 2),
    Form.Q6_K: (208,),
}


class Packed(torch.Tensor):
    """The GGMLTensor: bytes, or plain values, that answer with the shape of the dense weight."""

    def __new__(cls, values, tensor_type, tensor_shape, patches=()):
        return super().__new__(cls, values)

    def __init__(self, values, tensor_type, tensor_shape, patches=()):
        self.tensor_type, self.tensor_shape = tensor_type, tensor_shape
        self.patches = list(patches)

    def to(self, *args, **kwargs):
        moved = super().to(*args, **kwargs)
        moved.tensor_type = getattr(self, "tensor_type", None)
        moved.tensor_shape = getattr(self, "tensor_shape", moved.data.shape)
        moved.patches = list(getattr(self, "patches", []))
        return moved

    def clone(self, *args, **kwargs):
        return self

    def detach(self, *args, **kwargs):
        return self

    @property
    def shape(self):
        return getattr(self, "tensor_shape", None) or self.size()


def packed(weight: torch.Tensor, form: Form, seed: int) -> Packed:
    """A weight [out, in] in a GGUF format. K formats, which `gguf` can only read, get random bits
    with scales that give them the spread of the weight."""
    values, shape = weight.numpy(), weight.shape
    if form in SCALES_AT:
        block, size = gguf.GGML_QUANT_SIZES[form]
        random = np.random.default_rng(seed)
        bits = random.integers(0, 256, (shape[0], shape[1] // block, size), dtype=np.uint8)

        def with_scale(scale: float) -> np.ndarray:
            for at in SCALES_AT[form]:
                bits[..., at : at + 2] = np.float16([scale]).view(np.uint8)
            return bits.reshape(shape[0], -1)

        spread = gguf.quants.dequantize(with_scale(1.0), form).std()
        data = with_scale(values.std() / spread)
    else:
        data = gguf.quants.quantize(values, form)
    return Packed(torch.from_numpy(data.copy()), form, shape)


def unpacked(weight: Packed) -> torch.Tensor:
    """What the file says, by the reference implementation."""
    if getattr(weight, "tensor_type", None) in PLAIN:
        return weight.as_subclass(torch.Tensor).float()
    data = weight.as_subclass(torch.Tensor).numpy()
    return torch.from_numpy(gguf.quants.dequantize(data, weight.tensor_type))


class GgufOps(comfy.ops.manual_cast):
    class Linear(comfy.ops.manual_cast.Linear):
        comfy_cast_weights = True

        def __init__(self, in_features, out_features, bias=True, device=None, dtype=None):
            nn.Module.__init__(self)
            self.in_features, self.out_features = in_features, out_features
            self.weight = self.bias = None

        def is_ggml_quantized(self):
            kinds = (getattr(side, "tensor_type", None) for side in (self.weight, self.bias))
            return any(kind not in PLAIN for kind in kinds)

        def _load_from_state_dict(self, state_dict, prefix, *rest):
            self.weight = nn.Parameter(state_dict[f"{prefix}weight"], requires_grad=False)
            if f"{prefix}bias" in state_dict:
                self.bias = nn.Parameter(state_dict[f"{prefix}bias"], requires_grad=False)

        def _save_to_state_dict(self, destination, prefix, keep_vars):
            if not self.is_ggml_quantized():
                return super()._save_to_state_dict(destination, prefix, keep_vars)
            for name in ("weight", "bias"):
                side = getattr(self, name)
                if side is not None:
                    destination[prefix + name] = torch.zeros_like(side, device="meta")
            # it adds to the largest layer the memory that unpacking takes
            destination[f"{prefix}temp.weight"] = torch.empty(self.weight.shape, device="meta")

        def cast_bias_weight(self, input):
            sides = []
            for side in (self.weight, self.bias):
                if side is None:
                    return *sides, None
                dense = unpacked(side.to(input.device)).to(input.device)
                for patches, key in getattr(side, "patches", []):
                    dense = comfy.lora.calculate_weight(patches, dense, key)
                sides.append(dense.to(input.dtype))
            return tuple(sides)

        def forward_comfy_cast_weights(self, input):
            if not self.is_ggml_quantized():
                return super().forward_comfy_cast_weights(input).as_subclass(torch.Tensor)
            weight, bias = self.cast_bias_weight(input)
            return nn.functional.linear(input, weight, bias)


class GgufPatcher(comfy.model_patcher.ModelPatcher):
    """Leaves a LoRA beside the packed weight, to be added whenever it is unpacked."""

    def patch_weight_to_device(self, key, device_to=None, inplace_update=False):
        weight = comfy.utils.get_attr(self.model, key)
        if key not in self.patches:
            return
        if getattr(weight, "tensor_type", None) in PLAIN:
            return super().patch_weight_to_device(key, device_to, inplace_update)
        weight = weight.to(device_to)
        weight.patches = [(self.patches[key], key)]
        comfy.utils.set_attr_param(self.model, key, weight)

    def unpatch_model(self, device_to=None, unpatch_weights=True):
        if unpatch_weights:
            for parameter in self.model.parameters():
                if getattr(parameter, "patches", None):
                    parameter.patches = []
        return super().unpatch_model(device_to=device_to, unpatch_weights=unpatch_weights)

    def clone(self, *args, **kwargs):
        twin = comfy.model_patcher.ModelPatcher.clone(self, *args, **kwargs)
        twin.__class__ = GgufPatcher  # whatever the class of the one that the loader returned
        return twin

    def load(self, *args, force_patch_weights=False, **kwargs):
        super().load(*args, force_patch_weights=True, **kwargs)


def gguf_file(weights: dict, form: Form) -> tuple[dict, dict]:
    """The state dict that the GGUF loader makes of a file, and the weights as they read."""
    file = {}
    for number, (name, tensor) in enumerate(sorted(weights.items())):
        in_blocks = "_blocks." in name and name.endswith(".weight") and tensor.ndim == 2
        if tensor.numel():  # others are marks
            file[name] = packed(tensor, form if in_blocks else Form.F32, number)
    return file, {name: unpacked(tensor) for name, tensor in file.items()}


# ---- NF4 -----------------------------------------------------------------------------------

Saved = collections.namedtuple("Saved", "packed state")


class Nf4Ops(comfy.ops.manual_cast):
    class Linear(nn.Module):
        """Has no in_features, and knows its size only by its quant_state."""

        def __init__(self, *args, device=None, dtype=None, **kwargs):
            super().__init__()
            self.weight = self.bias = self.quant_state = None

        def _load_from_state_dict(self, state_dict, prefix, *rest):
            from bitsandbytes.nn import Params4bit

            key = f"{prefix}weight"
            parts = {k[len(key) + 1 :]: v for k, v in state_dict.items() if k.startswith(f"{key}.")}
            if parts:
                self.weight = Params4bit.from_prequantized(
                    state_dict[key], parts, requires_grad=False, device="cpu"
                )
                self.quant_state = self.weight.quant_state
            else:  # quantised once it is on the graphics card
                self.weight = Params4bit(state_dict[key], requires_grad=False, quant_type="nf4")
            self.bias = nn.Parameter(state_dict[f"{prefix}bias"], requires_grad=False)

        def _save_to_state_dict(self, destination, prefix, keep_vars):
            super()._save_to_state_dict(destination, prefix, keep_vars)
            if self.quant_state is not None:
                for name, tensor in self.quant_state.as_dict(packed=True).items():
                    destination[f"{prefix}weight.{name}"] = tensor

        def forward(self, x):
            import bitsandbytes

            self.weight.quant_state = self.quant_state
            if self.bias.dtype != x.dtype:
                self.bias.data = self.bias.data.to(x.dtype)
            state = self.quant_state
            return bitsandbytes.matmul_4bit(x, self.weight.t(), bias=self.bias, quant_state=state)


def nf4_file(weights: dict, form: str) -> tuple[dict, dict]:
    """The file a quantiser would write (`form` nf4 or fp4), and the weights as they read."""
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    file, dense = {}, {}
    for name, tensor in weights.items():
        file[name] = dense[name] = tensor
        if "_blocks." in name and name.endswith(".weight") and tensor.ndim == 2:
            file[name], state = quantize_4bit(tensor, quant_type=form, compress_statistics=True)
            parts = state.as_dict(packed=True)
            file.update({f"{name}.{part}": value for part, value in parts.items()})
            dense[name] = dequantize_4bit(file[name], state)
    return file, dense
