"""Gradients on weights as they are stored: fp8, scaled fp8, int8, GGUF; streamed and offloaded."""

import comfy.sd
import pytest
import torch
from kontext.trainer import host
from kontext.trainer.families import family_of

from ..trainer import foreign_packs as packs
from ..trainer.conftest import sha256_of
from ..trainer.network.test_quantised import quantised, scaled_fp8
from .miniatures import load_model
from .sizes import sizes_from_the_files
from .test_gradients import in_training, of_dense_weights

FP8 = torch.float8_e4m3fn


def stored_fp8(weights):
    kept = {name: tensor.to(FP8) for name, tensor in weights.items()}
    return weights, {name: tensor.float() for name, tensor in kept.items()}, {"dtype": FP8}


def gguf(weights):
    file, dense = packs.gguf_file(weights, packs.Form.Q8_0)
    return file, dense, {"custom_operations": packs.GgufOps}


# The file, the weights as they read afterwards, and how it is loaded; the bound on gradients
FORMS = {
    "fp8": (stored_fp8, 1e-5),
    "scaled fp8": (lambda weights: (*scaled_fp8(weights), {}), 1e-5),
    "float8_e4m3fn": (lambda weights: (*quantised(weights, "float8_e4m3fn"), {}), 1e-5),
    "int8_tensorwise": (lambda weights: (*quantised(weights, "int8_tensorwise"), {}), 0.05),
    "gguf": (gguf, 1e-5),
}


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_gradients_are_those_of_the_weights_as_they_read(
    weights, miniature, lora, make_batch, tmp_path, form
):
    """Kept and checkpointed, dequantised once or twice; the stored weights stay as they are."""
    make, bound = FORMS[form]
    file, dense, options = make(weights)
    if form == "gguf":
        marks = {name: tensor for name, tensor in weights.items() if not tensor.numel()}
        file, dense = file | marks, dense | marks
        with torch.inference_mode(), sizes_from_the_files():
            loaded = comfy.sd.load_diffusion_model_state_dict(file, model_options=options)
        patcher = packs.GgufPatcher.clone(loaded)
    else:
        patcher = load_model(file, tmp_path / miniature.file, **options)
    family, before = family_of(patcher), sha256_of(patcher.model)
    batch = make_batch(2)
    noise = torch.randn(batch.target.shape, generator=torch.Generator().manual_seed(4))
    plain = family_of(load_model(dense, tmp_path / "dense.safetensors"))
    theirs = torch.cat([g.flatten() for g in of_dense_weights(plain, dense, lora, batch, noise)])
    for checkpointed, keeping in (((), False), (family.blocks(), False), (family.blocks(), True)):
        ours = in_training(family, lora, batch, noise, checkpointed, keeping=keeping)
        error = torch.cat([gradient.flatten() for gradient in ours]) - theirs
        assert error.norm() / theirs.norm() < bound
    assert sha256_of(patcher.model) == before


@pytest.mark.parametrize("share", [0.5, 0.0])
def test_streamed_weights_and_offloaded_inputs_give_the_same_gradients(
    model,
    family,
    weights,
    lora,
    make_batch,
    as_card,
    share,
):
    """ComfyUI keeps the share that the plan says; what is cast for a layer is not kept."""
    batch, size, before = make_batch(2), model.model_size(), sha256_of(model.model)
    noise = torch.randn(batch.target.shape, generator=torch.Generator().manual_seed(4))
    theirs = torch.cat([g.flatten() for g in of_dense_weights(family, weights, lora, batch, noise)])
    casts = as_card(model, 4 * size)
    *_, largest, cast, _ = host.weight_bytes(model, torch.float32)
    host.load_alone(model, size, int(share * size), 3 * largest + cast)
    ours = in_training(family, lora, batch, noise, family.blocks()[:1], share == 0.0)
    error = torch.cat([gradient.flatten() for gradient in ours]) - theirs
    assert casts and error.norm() / theirs.norm() < 1e-5
    assert sha256_of(model.model) == before
