"""Training on weights in ComfyUI's quantised formats: in place, and with the right gradients."""

import json

import pytest
import torch
from comfy.quant_ops import QUANT_ALGOS, QuantizedTensor

# What the format's own arithmetic costs in the forward pass; the rest computes in float32 here
BOUNDS = {
    "float8_e4m3fn": 1e-5,
    "float8_e5m2": 1e-5,
    "mxfp8": 1e-5,
    "nvfp4": 1e-5,
    "int8_tensorwise": 0.05,  # activations are rounded to 8 bits, 2⁻⁷ each
}


def is_block_linear(name, tensor):
    return "_blocks." in name and name.endswith(".weight") and tensor.ndim == 2


def quantised(weights, form):
    """The file a quantiser would write, and the weights as they read afterwards."""
    file, dense = {}, {}
    for name, tensor in weights.items():
        if not is_block_linear(name, tensor):
            file[name] = dense[name] = tensor
            continue
        stored = QuantizedTensor.from_float(tensor, QUANT_ALGOS[form]["comfy_tensor_layout"])
        file.update(stored.state_dict(name))
        conf = json.dumps({"format": form}).encode()
        file[f"{name.removesuffix('weight')}comfy_quant"] = torch.tensor(list(conf)).byte()
        dense[name] = stored.dequantize().float()
    return file, dense


def scaled_fp8(weights):
    """The older layout, of flux1-dev-kontext_fp8_scaled.safetensors for one."""
    file, dense = {"scaled_fp8": torch.zeros(2, dtype=torch.float8_e4m3fn)}, {}
    for name, tensor in weights.items():
        file[name] = dense[name] = tensor
        if is_block_linear(name, tensor):
            scale = tensor.abs().max() / 448
            file[name] = (tensor / scale).to(torch.float8_e4m3fn)
            file[f"{name.removesuffix('weight')}scale_weight"] = scale
            dense[name] = file[name].float() * scale
    return file, dense


def forms():
    known = [form for form in BOUNDS if form in QUANT_ALGOS]
    return [*known, "scaled_fp8"]


@pytest.mark.parametrize("form", forms())
def test_gradients_match_the_dequantised_weights(
    form, weights, make_flux, make_batch, make_lora, lora_gradients, dense_gradients, digest
):
    file, dense = scaled_fp8(weights) if form == "scaled_fp8" else quantised(weights, form)
    model = make_flux(weights=file)
    flux = model.model.diffusion_model
    assert isinstance(flux.single_blocks[0].linear1.weight, QuantizedTensor)
    before = digest(model.model)
    batch, lora = make_batch(2), make_lora(flux)
    noise, sigma = torch.randn(batch.target.shape), torch.tensor([0.2, 0.8])
    for checkpointing in (False, True):
        ours = lora_gradients(model, lora, batch, noise, sigma, checkpointing)
        theirs = dense_gradients(make_flux, dense, lora, batch, noise, sigma)
        ours, theirs = (torch.cat([g.flatten() for g in side]) for side in (ours, theirs))
        assert (ours - theirs).norm() / theirs.norm() < BOUNDS.get(form, 1e-5)
    assert digest(model.model) == before
