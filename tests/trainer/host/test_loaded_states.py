"""Training on a model in the states a graph leaves it in: with a LoRA, offloaded, compiled, and
with somebody else's attention."""

import comfy.ldm.flux.math as flux_math
import comfy.memory_management
import comfy.ops
import pytest
import torch
from comfy.patcher_extension import WrappersMP
from comfy_api.torch_helpers import set_torch_compile_wrapper
from kontext.trainer import host
from kontext.trainer.families import recognise

LAYERS = ("double_blocks.1.txt_attn.qkv", "single_blocks.0.linear2")


@pytest.fixture
def users_lora(weights):
    """Of two layers; and what it adds to their weights at strength 0.5."""
    generator, tensors, added = torch.Generator().manual_seed(3), {}, {}
    for name in LAYERS:
        out, into = weights[f"{name}.weight"].shape
        down = torch.randn(4, into, generator=generator) * 0.05
        up = torch.randn(out, 4, generator=generator)
        key = f"lora_unet_{name.replace('.', '_')}"
        tensors |= {f"{key}.lora_up.weight": up, f"{key}.lora_down.weight": down}
        added[f"{name}.weight"] = 0.5 * up @ down
    return tensors, added


def patched_weights(weights, added):
    return {name: tensor + added.get(name, 0) for name, tensor in weights.items()}


@pytest.mark.parametrize("offloaded", [False, True])
def test_a_lora_on_the_model_is_trained_on_and_stays(
    offloaded, base, weights, users_lora, trains_in_place, digest
):
    """Merged where the model is loaded whole, added to every cast weight under --lowvram."""
    tensors, added = users_lora
    before = digest(base.model.model)
    with torch.inference_mode():
        patched = host.with_lora(base.model, tensors, 0.5)
        bare = host.for_training(patched)
        bare.patch_model(torch.device("cpu"), lowvram_model_memory=1000 if offloaded else 0)
    layer = bare.model.diffusion_model.single_blocks[0].linear2
    assert bool(layer.weight_function) == offloaded
    trains_in_place(bare, patched_weights(weights, added))
    with torch.inference_mode():
        bare.unpatch_model(torch.device("cpu"))
    assert digest(base.model.model) == before


def test_a_lora_on_8_bit_weights_is_trained_on(
    base, weights, users_lora, make_flux, trains_in_place
):
    """--lowvram: the LoRA is added to the dequantised weight, which is not rounded again."""
    tensors, added = users_lora
    model = make_flux(weights=weights, options={"dtype": torch.float8_e4m3fn})
    state = model.model.diffusion_model.state_dict()
    dense = {name: tensor.clone().float() for name, tensor in state.items()}
    with torch.inference_mode():
        bare = host.for_training(host.with_lora(model, tensors, 0.5))
        bare.patch_model(torch.device("cpu"), lowvram_model_memory=1000)
    trains_in_place(bare, patched_weights(dense, added))


@pytest.fixture
def streamed(monkeypatch):
    """As on a graphics card too small for the model: every weight comes through one of two buffers
    that the next layers write over. The counter says how often."""
    buffers, count = [torch.empty(1 << 20, dtype=torch.uint8) for _ in range(2)], [0]

    def cast(layer, input=None, dtype=None, device=None, bias_dtype=None, offloadable=False, **_):
        buffer, count[0] = buffers[count[0] % 2], count[0] + 1
        parts = [layer.weight, layer.bias]
        places = comfy.memory_management.interpret_gathered_like(parts, buffer)
        for part, place in zip(parts, places, strict=True):
            if part is not None:
                place.copy_(part)
        return (*places, None) if offloadable else tuple(places)

    monkeypatch.setattr(comfy.ops, "cast_bias_weight", cast)
    return count


def cast_always(flux):
    """What ComfyUI sets on the layers that it does not load."""
    for module in flux.modules():
        if hasattr(module, "comfy_cast_weights"):
            module.comfy_cast_weights = True


def test_streamed_weights(base, weights, streamed, trains_in_place):
    cast_always(base.network)
    trains_in_place(base.model, weights)
    assert streamed[0] > 100


def test_weights_of_dynamic_vram(base, weights, trains_in_place):
    """ComfyUI's own answer, on the CPU, for layers that its dynamic loader has taken over."""
    cast_always(base.network)
    for module in base.network.modules():
        if host.is_linear(module):
            module._v = object()
    trains_in_place(base.model, weights)


# ---- compiled ------------------------------------------------------------------------------


def test_compiled_models_are_trained_uncompiled(base, weights, trains_in_place):
    """TorchCompileModel's wrapper, and blocks replaced as object patches by other packs."""
    used = []

    def backend(graph, inputs):
        used.append(graph)
        return graph.forward

    model = base.model.clone()
    set_torch_compile_wrapper(model, backend=backend)
    block = torch.compile(base.network.single_blocks[0], backend=backend)
    model.add_object_patch("diffusion_model.single_blocks.0", block)
    with torch.inference_mode():
        model.patch_model()  # it has just been sampled with
    host.without_object_patches(model)
    recognise(host.Base(model, base.clip, base.vae))
    bare = host.for_training(model)
    assert not any(bare.wrappers[WrappersMP.APPLY_MODEL].values())
    trains_in_place(bare, weights)
    assert not used


@pytest.mark.parametrize("how", ["replaced", "in place", "whole"])
def test_what_was_compiled_for_good_is_refused(how, base):
    if how == "replaced":
        base.network.single_blocks[1] = torch.compile(
            base.network.single_blocks[1], backend="eager"
        )
    elif how == "in place":
        base.network.single_blocks[1].compile(backend="eager")
    else:
        base.model.model.diffusion_model = torch.compile(base.network, backend="eager")
    with pytest.raises(host.BaseModelError, match="compiled in place"):
        recognise(base)


# ---- attention and --fast ------------------------------------------------------------------


def without_backward(q, k, v, *args, **options):
    raise AssertionError("an attention without a backward was used in training")


@pytest.mark.parametrize("place", ["transformer options", "Flux's module"])
def test_somebody_elses_attention_is_not_trained_with(
    place, base, weights, monkeypatch, trains_in_place
):
    """Sage and flash attention have no backward as ComfyUI calls them. Packs select them in the
    options of a model, or put them into Flux's module for the whole process."""
    model = base.model.clone()
    if place == "transformer options":
        options = model.model_options["transformer_options"]
        options["optimized_attention_override"] = without_backward
        with pytest.raises(AssertionError, match="without a backward"), torch.inference_mode():
            host.sample(model, host.encode_text(base.clip, "x"), [], 64, 64, seed=0, steps=1)
    else:
        monkeypatch.setattr(flux_math, "optimized_attention", without_backward)
    trains_in_place(host.for_training(model), weights)
    if place == "Flux's module":
        assert flux_math.optimized_attention is without_backward


def test_fast_accumulation_is_off_in_training_and_back_on_afterwards():
    """`--fast` adds float16 products up in float16: gradients cannot afford that."""
    matrices = torch.backends.cuda.matmul
    with host.device.swapped(matrices, "allow_fp16_accumulation", True):
        with host.differentiable():
            assert not matrices.allow_fp16_accumulation
        assert matrices.allow_fp16_accumulation
