"""Training on weights in ComfyUI's quantised formats: in place, and with the right gradients."""

import json

import pytest
import torch
from comfy.quant_ops import QUANT_ALGOS, QuantizedTensor
from kontext.trainer import host

# What the format's own arithmetic costs in the forward pass; the rest computes in float32 here
BOUNDS = {
    "float8_e4m3fn": 1e-5,
    "float8_e5m2": 1e-5,
    "mxfp8": 1e-5,
    "nvfp4": 1e-5,
    "int8_tensorwise": 0.05,  # activations are rounded to 8 bits, 2⁻⁷ each
    "int8_rotated": 0.05,
    "convrot_w4a4": 0.5,  # to 4 bits: 13 % of each product
}
FORMS = {**{form: form for form in BOUNDS}, "int8_rotated": "int8_tensorwise"}


def is_block_linear(name, tensor):
    return "_blocks." in name and name.endswith(".weight") and tensor.ndim == 2


def quantised(weights, form):
    """The file a quantiser would write, and the weights as they read afterwards."""
    file, dense = {}, {}
    for name, tensor in weights.items():
        if not is_block_linear(name, tensor):
            file[name] = dense[name] = tensor
            continue
        layout = QUANT_ALGOS[FORMS[form]]["comfy_tensor_layout"]
        rotated = {"convrot": True} if form == "int8_rotated" else {}
        options = {"per_channel": True, **rotated} if rotated else {}
        stored = QuantizedTensor.from_float(tensor, layout, **options)
        file.update(stored.state_dict(name))
        conf = json.dumps({"format": FORMS[form], **rotated}).encode()
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
    return [form for form in BOUNDS if FORMS[form] in QUANT_ALGOS] + ["scaled_fp8"]


def load(form, wide_weights, make_flux):
    file, dense = (
        scaled_fp8(wide_weights) if form == "scaled_fp8" else quantised(wide_weights, form)
    )
    model = make_flux(weights=file)
    assert isinstance(model.model.diffusion_model.single_blocks[0].linear1.weight, QuantizedTensor)
    return model, dense


@pytest.mark.parametrize("form", forms())
def test_gradients_match_the_dequantised_weights(form, wide_weights, make_flux, trains_in_place):
    model, dense = load(form, wide_weights, make_flux)
    trains_in_place(model, dense, BOUNDS.get(form, 1e-5))


@pytest.mark.parametrize("form", ["scaled_fp8", "float8_e4m3fn"])
def test_a_checkpointed_block_dequantises_each_weight_twice(
    form, wide_weights, make_flux, make_lora, make_batch, lora_gradients, monkeypatch
):
    """In forward, and when it is computed again, for backward too; a third time if not keeping."""
    model, _ = load(form, wide_weights, make_flux)
    flux = model.model.diffusion_model
    for part in flux.modules():  # no 8-bit products, as in files that ask for full precision
        if hasattr(part, "_full_precision_mm"):
            part._full_precision_mm = True
    lora, batch = make_lora(flux), make_batch(1)
    given = model, lora, batch, torch.randn(batch.target.shape), torch.tensor([0.5]), True
    name, real = "double_blocks.0.img_mlp.0", QuantizedTensor.dequantize
    layer, counts, found = flux.get_submodule(name).weight, {}, {}

    def dequantize(tensor):
        same = tensor._qdata.data_ptr() == layer._qdata.data_ptr()
        counts[keeping] = counts.get(keeping, 0) + same
        return real(tensor)

    monkeypatch.setattr(QuantizedTensor, "dequantize", dequantize)
    for keeping in (False, True):
        found[keeping] = lora_gradients(*given, keeping=keeping)
    assert counts == {False: 3, True: 2}
    assert all(torch.equal(a, b) for a, b in zip(found[False], found[True], strict=True))


@pytest.mark.parametrize("form", forms())
def test_backward_uses_the_stored_weight_to_the_last_bit(form, wide_weights, make_flux):
    """Whatever the forward pass rounds: the gradient is a plain product with the dense weight."""
    model, dense = load(form, wide_weights, make_flux)
    layer = host.FrozenLinear(model.model.diffusion_model.single_blocks[0].linear2)
    weight = dense["single_blocks.0.linear2.weight"]
    gradient = torch.randn(5, weight.shape[0])
    with host.differentiable(), torch.no_grad():
        assert torch.equal(layer.backward(gradient), gradient @ weight)
        torch.testing.assert_close(layer.column_norms(gradient.device), weight.norm(dim=0))
        host.check_products(model.model.diffusion_model, gradient.device, gradient.dtype)


def test_the_smoothing_scale_of_awq_files_is_part_of_the_gradient(wide_weights, make_flux):
    """ModelOpt's nvfp4 files divide the weight by a scale of the inputs, which forward puts back.

    Reference: autograd on the product as ComfyUI's layer computes it.
    """
    name, smooth = "single_blocks.0.linear2", torch.rand(1280) + 0.5
    file, dense = quantised(wide_weights, "nvfp4")
    file[f"{name}.pre_quant_scale"] = smooth
    layer = host.FrozenLinear(make_flux(weights=file).model.diffusion_model.get_submodule(name))
    weight, bias = dense[f"{name}.weight"], dense[f"{name}.bias"]
    with host.differentiable():
        x = torch.randn(5, 1280, requires_grad=True)
        y = torch.nn.functional.linear(x * smooth, weight, bias)
        gradient = torch.randn_like(y)
        expected = torch.autograd.grad(y, x, gradient)[0]
    with torch.no_grad():
        torch.testing.assert_close(layer.backward(gradient), expected)
