"""The same weights in diffusers' transformer predict the same velocity.

On sizes where both place pictures alike: an even number of tokens on every side, no reference
longer than the target.
"""

import pytest
import torch
from kontext.trainer import host
from kontext.trainer.families.flux1 import Flux1
from kontext.trainer.families.flux2 import Flux2
from kontext.trainer.network.attach import attached
from kontext.trainer.runs.export import comfyui_tensors, export_lora

from benchmark.flux2_names import in_diffusers_names

SIGMA = torch.tensor([0.3, 0.9])


def flux2_transformer(weights):
    from diffusers import Flux2Transformer2DModel

    transformer = Flux2Transformer2DModel(
        num_layers=1, num_single_layers=2, num_attention_heads=1, joint_attention_dim=96,
        guidance_embeds="guidance_in.in_layer.weight" in weights,
    )  # fmt: skip
    transformer.load_state_dict(in_diffusers_names(weights))
    return transformer


def flux2_prediction(transformer, batch, guidance):
    latents = [batch.target, *batch.references]
    places = [
        torch.cartesian_prod(
            torch.tensor([10.0 * i]), *(torch.arange(float(side)) for side in each.shape[2:]),
            torch.zeros(1),
        )
        for i, each in enumerate(latents)
    ]  # fmt: skip
    zero, text = torch.zeros(1), batch.text.cond
    hidden = torch.cat([each.flatten(2).transpose(1, 2) for each in latents], dim=1)
    output = transformer(
        hidden, text, SIGMA, torch.cat(places),
        torch.cartesian_prod(zero, zero, zero, torch.arange(float(text.shape[1]))),
        guidance=torch.full((2,), guidance), return_dict=False,
    )[0]  # fmt: skip
    count = batch.target[0, 0].numel()
    return output[:, :count].transpose(1, 2).reshape(batch.target.shape)


def qwen_transformer(weights):
    from diffusers import QwenImageTransformer2DModel

    zero = "__index_timestep_zero__" in weights
    transformer = QwenImageTransformer2DModel(
        num_layers=2, num_attention_heads=2, attention_head_dim=128, joint_attention_dim=32,
        zero_cond_t=zero,
    )  # fmt: skip
    transformer.load_state_dict({k: v for k, v in weights.items() if not k.startswith("__")})
    return transformer


def qwen_prediction(transformer, batch, guidance):
    def packed(latent):
        size, channels, high, wide = latent.shape
        cut = latent.view(size, channels, high // 2, 2, wide // 2, 2).permute(0, 2, 4, 1, 3, 5)
        return cut.reshape(size, -1, channels * 4)

    latents = [batch.target, *batch.references]
    shapes = [[(1, each.shape[2] // 2, each.shape[3] // 2) for each in latents]] * 2
    hidden = torch.cat([packed(each) for each in latents], dim=1)
    output = transformer(hidden, batch.text.cond, None, SIGMA, shapes, return_dict=False)[0]
    _, _, high, wide = batch.target.shape
    rows = output[:, : high * wide // 4].view(2, high // 2, wide // 2, 16, 2, 2)
    return rows.permute(0, 3, 1, 4, 2, 5).reshape(batch.target.shape)


@pytest.fixture
def theirs(family, weights):
    """diffusers' transformer with the same weights, and its prediction."""
    if isinstance(family, Flux1):
        pytest.skip("compared in tests/trainer: test_objective, test_export")
    if isinstance(family, Flux2):
        return flux2_transformer(weights), flux2_prediction
    return qwen_transformer(weights), qwen_prediction


@pytest.mark.parametrize("references", [0, 2])
def test_diffusers_predicts_the_same(family, theirs, miniature, make_batch, references):
    batch = make_batch(2, references, tokens=512)
    transformer, predict = theirs
    with torch.no_grad():
        expected = predict(transformer, batch, miniature.guidance)
        given = batch.text, batch.references, miniature.guidance
        ours = family.predict(batch.target, SIGMA, *given)
    assert (ours - expected).abs().max() < 1e-4


@pytest.mark.parametrize("format", ["comfyui", "diffusers"])
def test_diffusers_predicts_the_same_with_a_saved_lora(
    family, theirs, miniature, lora, make_batch, tmp_path, format
):
    """Through the pipeline's own loader, which names what it cannot place; every layer gets one."""
    import diffusers

    tensors = comfyui_tensors(lora.file_tensors(), 8.0, torch.float32)
    path = export_lora(tensors, {}, tmp_path / "edit.safetensors", format)
    transformer, predict = theirs
    mixin = "Flux2LoraLoaderMixin" if isinstance(family, Flux2) else "QwenImageLoraLoaderMixin"
    loader = getattr(diffusers.loaders.lora_pipeline, mixin)
    named = loader.lora_state_dict(str(path))
    loader.load_lora_into_transformer(named, transformer=transformer, adapter_name="edit")
    placed = {
        name.split(".lora_A")[0]
        for name, part in transformer.named_modules()
        if name.endswith(".lora_A.edit")
    }
    linears = [part for name in lora.layers for part in family.split(name, torch.empty(72, 1))]
    assert placed == set(linears)
    batch = make_batch(2, 2, tokens=512)
    given = batch.target, SIGMA, batch.text, batch.references, miniature.guidance
    parts = family.network, lora, host.FrozenLinear, host.is_linear
    with torch.no_grad():
        expected = predict(transformer, batch, miniature.guidance)
    with host.differentiable(), attached(*parts):
        ours = family.predict(*given).detach()
    assert (ours - expected).norm() / expected.norm() < 1e-3
