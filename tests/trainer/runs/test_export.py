"""The saved files do in other programs what the LoRA did in training."""

import comfy.utils
import pytest
import torch
from kontext.trainer import host
from kontext.trainer.config import TrainConfig
from kontext.trainer.families.flux1 import Flux1
from kontext.trainer.loop import train
from kontext.trainer.network.lora import Lora
from kontext.trainer.request import TrainingRequest
from kontext.trainer.runs.export import comfyui_tensors, diffusers_tensors, export_lora, read_lora
from safetensors.torch import load_file

from ..predictions import in_training, predict

ALPHA = 8.0  # make_lora's: rank 4, scale 2


@pytest.fixture
def lora(base, make_lora):
    return make_lora(base.network)


@pytest.fixture
def run(base, pairs, tmp_path):
    """A run whose alpha is not its rank."""
    config = TrainConfig(
        steps=3, rank=4, alpha=16.0, learning_rate=0.02, save_dtype="fp32",
        dtype="fp32", preview_steps=0, schedule="constant",
    )  # fmt: skip
    with torch.inference_mode():
        places = tmp_path / "out", tmp_path / "cache"
        return train(TrainingRequest(base, pairs, config, "edit", *places))


def as_trained(base, run):
    """The LoRA of the last step, from the state that training would continue with."""
    _, state, _ = run.state.read()
    linears = {name: part for name, part in base.network.named_modules() if host.is_linear(part)}
    config = run.config
    chosen = {name: linears[name] for name in Flux1.targeted(linears, config.targets)}
    lora = Lora.create(chosen, config.rank, config.scale, seed=0)
    lora.load_state_dict({n[5:]: t for n, t in state.items() if n.startswith("lora.")})
    return lora


def test_stock_loader_predicts_what_training_did(base, run, question):
    """Reference: ComfyUI's LoraLoaderModelOnly at strength 1, on the file that training wrote."""
    import folder_paths

    from nodes import LoraLoaderModelOnly

    path = run.checkpoints()[-1].path
    folder_paths.add_model_folder_path("loras", str(path.parent))
    assert host.unmapped_keys(base.model, host.load_lora_file(path)) == []
    expected = in_training(base, as_trained(base, run), question)
    with torch.inference_mode():
        (loaded,) = LoraLoaderModelOnly().load_lora_model_only(base.model, path.name, 1.0)
        host.device.memory.load_models_gpu([loaded])
        host.device.memory.in_training = True
        try:
            stock = predict(loaded, question)
        finally:
            host.device.memory.in_training = False
        loaded.unpatch_model()
    assert (stock - expected).norm() / expected.norm() < 1e-5
    assert (stock - predict_base(base, question)).norm() / expected.norm() > 1e-2


def test_diffusers_predicts_what_training_did(
    base, run, weights, question, diffusers_transformer, diffusers_prediction, tmp_path
):
    """Reference: the export in diffusers' Kontext pipeline, on its own transformer."""
    from diffusers import FluxKontextPipeline

    named = host.load_lora_file(run.checkpoints()[-1].path)
    path = export_lora(named, {}, tmp_path / "edit.safetensors", "diffusers")
    transformer = diffusers_transformer(weights, base.model.model.model_config.unet_config)
    pipeline = FluxKontextPipeline(None, None, None, None, None, None, transformer)
    pipeline.load_lora_weights(path)
    noised, sigma, batch = question
    theirs = diffusers_prediction(transformer, noised, sigma, batch, 2.5)
    expected = in_training(base, as_trained(base, run), question)
    assert (theirs - expected).norm() / expected.norm() < 1e-3
    assert (theirs - predict_base(base, question)).norm() / expected.norm() > 1e-2


def test_peft_predicts_what_training_did(
    base, run, weights, question, diffusers_transformer, diffusers_prediction, tmp_path
):
    """Reference: PeftModel on diffusers' transformer of the same weights, from the two files that
    PEFT's own format has."""
    from peft import PeftConfig, PeftModel

    tensors = host.load_lora_file(run.checkpoints()[-1].path)
    folder = export_lora(tensors, {}, tmp_path / "edit.safetensors", "peft")
    config = PeftConfig.from_pretrained(folder)
    assert (config.peft_type, config.r, config.lora_alpha) == ("LORA", 4, 4)
    transformer = diffusers_transformer(weights, base.model.model.model_config.unet_config)
    noised, sigma, batch = question
    plain = diffusers_prediction(transformer, noised, sigma, batch, 2.5)
    adapted = PeftModel.from_pretrained(transformer, folder).get_base_model()
    theirs = diffusers_prediction(adapted, noised, sigma, batch, 2.5)
    expected = in_training(base, as_trained(base, run), question)
    assert (theirs - expected).norm() / expected.norm() < 1e-3
    assert (theirs - plain).norm() / expected.norm() > 1e-2


def predict_base(base, question):
    with host.differentiable(), torch.no_grad():
        return predict(base.model, question)


def test_keys_that_comfyui_ignores_are_found(base, lora):
    named = comfyui_tensors(lora.state_dict(), ALPHA, torch.float32)
    named["lora_unet_single_blocks_9_linear1.lora_down.weight"] = torch.zeros(4, 128)
    assert host.unmapped_keys(base.model, named) == [
        "lora_unet_single_blocks_9_linear1.lora_down.weight"
    ]


def tiny_transformer():
    from diffusers import FluxTransformer2DModel

    return FluxTransformer2DModel(
        patch_size=1, in_channels=64, num_layers=2, num_single_layers=2, attention_head_dim=128,
        num_attention_heads=1, joint_attention_dim=64, pooled_projection_dim=32,
        guidance_embeds=True, axes_dims_rope=(16, 56, 56),
    )  # fmt: skip


def fused_deltas(lora):
    """Delta weight of every adapted linear of ComfyUI's model, by definition."""
    return {
        f"{name}.weight": (layer.scale * layer.up @ layer.down).detach()
        for name, layer in lora.layers.items()
    }


def assert_deltas(transformer, before, lora, config, bound):
    """What a diffusers transformer gained equals the fused deltas, part by part."""
    deltas, table = fused_deltas(lora), comfy.utils.flux_to_diffusers(config)
    checked = 0
    for theirs, ours in table.items():
        name, rows = (ours, None) if isinstance(ours, str) else (ours[0], ours[1])
        if name in deltas and theirs in before:
            delta = deltas[name].narrow(*rows) if rows else deltas[name]
            gained = transformer.state_dict()[theirs] - before[theirs]
            assert (gained - delta).norm() / delta.norm() < bound
            checked += 1
    assert checked == 2 * 14 + 2 * 6  # linears of two double and two single blocks


def test_diffusers_loads_the_diffusers_export(base, lora, tmp_path):
    """Reference: FluxKontextPipeline.load_lora_weights, then fuse_lora."""
    from diffusers import FluxKontextPipeline

    named = comfyui_tensors(lora.state_dict(), ALPHA, torch.float32)
    path = export_lora(named, {}, tmp_path / "edit.safetensors", "diffusers")
    transformer = tiny_transformer()
    before = {name: tensor.clone() for name, tensor in transformer.state_dict().items()}
    pipeline = FluxKontextPipeline(None, None, None, None, None, None, transformer)
    pipeline.load_lora_weights(path)
    pipeline.fuse_lora(components=["transformer"])
    pipeline.unload_lora_weights()
    assert_deltas(transformer, before, lora, base.model.model.model_config.unet_config, 1e-3)


FULL_SIZE = {  # (in, out) features of FLUX.1's linears
    **{f"{s}_attn.qkv": (3072, 9216) for s in ("img", "txt")},
    **{f"{s}_attn.proj": (3072, 3072) for s in ("img", "txt")},
    **{f"{s}_mlp.0": (3072, 12288) for s in ("img", "txt")},
    **{f"{s}_mlp.2": (12288, 3072) for s in ("img", "txt")},
    **{f"{s}_mod.lin": (3072, 18432) for s in ("img", "txt")},
    "linear1": (3072, 21504),
    "linear2": (15360, 3072),
    "modulation.lin": (3072, 9216),
}


@pytest.mark.slow
def test_diffusers_converts_every_key_of_a_checkpoint(tmp_path):
    """Reference: the converter behind load_lora_weights. It knows full-size FLUX.1 only."""
    from diffusers import FluxKontextPipeline

    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for linear, (inside, outside) in FULL_SIZE.items():
        kind = "double_blocks" if linear[:3] in ("img", "txt") else "single_blocks"
        tensors[f"{kind}.0.{linear}.down"] = torch.randn(4, inside, generator=generator)
        tensors[f"{kind}.0.{linear}.up"] = torch.randn(outside, 4, generator=generator)
    named = comfyui_tensors(tensors, ALPHA, torch.float32)
    converted = FluxKontextPipeline.lora_state_dict(named)
    ours = diffusers_tensors(tensors, ALPHA, torch.float32)
    assert converted.keys() == ours.keys()
    for key in ours:
        if key.endswith("lora_A.weight"):
            up = key.replace("lora_A", "lora_B")
            theirs, expected = converted[up] @ converted[key], ours[up] @ ours[key]
            assert (theirs - expected).norm() / expected.norm() < 1e-3


def test_peft_loads_the_export(lora, tmp_path):
    """Reference: peft's PeftModel, and the delta weight each of its layers computes."""
    from peft import PeftModel

    named = comfyui_tensors(lora.state_dict(), ALPHA, torch.float32)
    folder = export_lora(named, {}, tmp_path / "edit.safetensors", "peft")
    model = PeftModel.from_pretrained(tiny_transformer(), folder)
    ours = diffusers_tensors(lora.state_dict(), ALPHA, torch.float32, prefix="base_model.model")
    layers = {name: part for name, part in model.named_modules() if hasattr(part, "lora_A")}
    assert len(layers) == len(ours) / 2
    for name, layer in layers.items():
        delta = ours[f"{name}.lora_B.weight"] @ ours[f"{name}.lora_A.weight"]
        torch.testing.assert_close(layer.get_delta_weight("default"), delta, rtol=1e-6, atol=1e-6)


def test_reading_a_file_back_gives_the_same_pairs(lora):
    tensors = lora.state_dict()
    again, alpha = read_lora(comfyui_tensors(tensors, ALPHA, torch.float32))
    assert alpha == ALPHA
    assert again.keys() == tensors.keys()
    assert all(torch.equal(again[name], tensors[name]) for name in tensors)


def test_another_lora_is_not_overwritten(lora, tmp_path):
    path = tmp_path / "edit.safetensors"
    first = comfyui_tensors(lora.state_dict(), ALPHA, torch.float32)
    second = {name: tensor + 1 for name, tensor in first.items()}
    export_lora(first, {"a": "1", "b": "2", "c": "3"}, path, "comfyui")
    export_lora(first, {"c": "3"}, path, "comfyui")  # the same LoRA again is no conflict
    with pytest.raises(FileExistsError, match="overwrite"):
        export_lora(second, {}, path, "comfyui")
    export_lora(second, {}, path, "comfyui", overwrite=True)
    assert torch.equal(
        load_file(path)["lora_unet_single_blocks_0_linear1.alpha"], torch.tensor(ALPHA + 1)
    )
