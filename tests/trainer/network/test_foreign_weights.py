"""Training on what the GGUF and NF4 loaders of other packs put into the model."""

import pytest
import torch
from kontext.trainer import host
from kontext.trainer.families import recognise
from kontext.trainer.host import weights as host_weights

from .. import foreign_packs as packs

GGUF = ("Q8_0", "Q5_0", "Q5_1", "Q4_0", "Q4_1", "BF16", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K")
LAYER = "double_blocks.1.img_mlp.0"


def load_gguf(make_flux, weights, form):
    file, dense = packs.gguf_file(weights, packs.Form[form])
    with torch.inference_mode():
        model = make_flux(weights=file, options={"custom_operations": packs.GgufOps})
    return packs.GgufPatcher.clone(model), dense


def load_nf4(make_flux, weights, form):
    file, dense = packs.nf4_file(weights, form)
    return make_flux(weights=file, options={"custom_operations": packs.Nf4Ops}), dense


@pytest.mark.parametrize("form", GGUF)
def test_gguf(form, wide_weights, make_flux, trains_in_place):
    model, dense = load_gguf(make_flux, wide_weights, form)
    assert model.model.diffusion_model.single_blocks[0].linear1.is_ggml_quantized()
    trains_in_place(model, dense)


@pytest.mark.parametrize("form", ["nf4", "fp4"])
def test_bitsandbytes(form, weights, make_flux, trains_in_place):
    model, dense = load_nf4(make_flux, weights, form)
    trains_in_place(model, dense)


@pytest.mark.parametrize(
    "load, form", [(load_gguf, "Q4_K"), (load_gguf, "Q8_0"), (load_nf4, "nf4")]
)
def test_a_layer_computes_with_the_stored_weight_to_the_last_bit(
    load, form, wide_weights, make_flux
):
    """Reference: torch on the weights as the `gguf` and `bitsandbytes` packages read them."""
    model, dense = load(make_flux, wide_weights, form)
    name = "double_blocks.0.img_mlp.0"
    layer = host.FrozenLinear(model.model.diffusion_model.get_submodule(name))
    weight, bias = dense[f"{name}.weight"], dense[f"{name}.bias"]
    assert (layer.out_features, layer.in_features) == tuple(weight.shape)
    x, gradient = torch.randn(5, weight.shape[1]), torch.randn(5, weight.shape[0])
    with host.differentiable(), torch.no_grad():
        assert torch.equal(layer.forward(x), torch.nn.functional.linear(x, weight, bias))
        assert torch.equal(layer.backward(gradient), gradient @ weight)
        half = layer.backward(gradient.bfloat16())
    assert torch.equal(half, gradient.bfloat16() @ weight.bfloat16())


def test_nf4_layers_keep_their_bias_when_training_in_half_precision(
    weights, make_flux, make_batch, make_lora, lora_gradients, digest
):
    model, _ = load_nf4(make_flux, weights, "nf4")
    before = digest(model.model)
    batch, lora = make_batch(1), make_lora(model.model.diffusion_model)
    noise, sigma = torch.randn(batch.target.shape), torch.tensor([0.5])
    lora_gradients(model, lora, batch, noise, sigma, dtype=torch.bfloat16)
    assert digest(model.model) == before


def test_gguf_with_a_lora_trains_on_the_patched_weights(wide_weights, make_flux, trains_in_place):
    model, dense = load_gguf(make_flux, wide_weights, "Q8_0")
    name = "single_blocks.0.linear2"
    up, down = torch.randn(256, 4) * 0.05, torch.randn(4, 1280) * 0.05
    key = f"lora_unet_{name.replace('.', '_')}"
    patched = host.with_lora(
        model, {f"{key}.lora_up.weight": up, f"{key}.lora_down.weight": down}, 0.5
    )
    stored = model.model.diffusion_model.single_blocks[0].linear2.weight.data_ptr()
    bare = host.for_training(patched)
    host.load_alone(bare, 0)
    dense[f"{name}.weight"] = dense[f"{name}.weight"] + 0.5 * up @ down
    trains_in_place(bare, dense)
    bare.unpatch_model()
    weight = model.model.diffusion_model.single_blocks[0].linear2.weight
    assert weight.data_ptr() == stored and weight.patches == []


@pytest.mark.parametrize("load, form", [(load_gguf, "Q4_0"), (load_nf4, "nf4")])
def test_their_models_can_be_told_apart(load, form, weights, make_flux):
    model, _ = load(make_flux, weights, form)
    other, _ = load(make_flux, {**weights, f"{LAYER}.weight": weights[f"{LAYER}.weight"] * 2}, form)
    again, _ = load(make_flux, weights, form)
    assert host.base_hash(model) == host.base_hash(again) != host.base_hash(other)


def test_a_layer_that_cannot_be_read_is_named(base):
    class Mystery(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.qweight = torch.nn.Buffer(torch.zeros(4, 4, dtype=torch.int32))

    base.network.single_blocks[0].linear1 = Mystery()
    with pytest.raises(host.BaseModelError, match="single_blocks.0.linear1 is a .*Mystery"):
        recognise(base)


def test_a_layer_that_computes_with_another_weight_is_named(base):
    class Rotated(type(base.network.single_blocks[0].linear1)):
        def forward(self, x):
            return super().forward(x.flip(-1))

    base.network.single_blocks[0].linear1.__class__ = Rotated
    with pytest.raises(host.BaseModelError, match="single_blocks.0.linear1 .*Rotated, float32"):
        host.check_products(base.network, torch.device("cpu"), torch.float32)


def test_every_format_passes_the_check_before_training(wide_weights, make_flux):
    for load, form in [(load_gguf, "Q4_K"), (load_nf4, "nf4")]:
        model, _ = load(make_flux, wide_weights, form)
        host_weights.check_products(
            model.model.diffusion_model, torch.device("cpu"), torch.bfloat16
        )
