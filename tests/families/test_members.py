"""Which model a loaded one is said to be."""

import pytest
import torch
from kontext.trainer import families, host
from kontext.trainer.families import family_of, family_of_lora
from kontext.trainer.families.flux1 import Flux1
from kontext.trainer.families.flux2 import Flux2

from .miniatures import flux2_weights, load_model, qwen_weights


def test_members_are_told_by_what_they_are_and_else_by_name(folder):
    named = {
        "flux-2-klein-base-4b.safetensors": (flux2_weights(), "FLUX.2 Klein base"),
        "flux2_dev_fp8mixed.safetensors": (flux2_weights(guidance=True), "FLUX.2 dev"),
        "qwen_image_fp8.safetensors": (qwen_weights(), "Qwen-Image"),
        "qwen_image_edit.safetensors": (qwen_weights(), "Qwen-Image-Edit"),
        "qwen_image_edit_2509.safetensors": (qwen_weights(), "Qwen-Image-Edit-2509"),
        "renamed.safetensors": (qwen_weights(timestep_zero=True), "Qwen-Image-Edit-2511"),
    }
    for name, (weights, member) in named.items():
        family = family_of(load_model(weights, folder / f"members_{name}"))
        assert family.member == member
        assert family.description() == f"{member}, fp32"
        assert family.notes() == []


@pytest.mark.parametrize(
    "name, words",
    [
        ("flux-2-klein-4b.safetensors", "distilled"),
        ("qwen_image_edit_2511_lightning.safetensors", "distilled"),
        ("qwen_image_edit_2511_stripped.safetensors", "__index_timestep_zero__"),
        ("qwen_image_lightning.safetensors", "(qwen_image_fp8_e4m3fn.safetensors)"),
        ("qwen_edit_2509_turbo.safetensors", "(qwen_image_edit_2509_fp8_e4m3fn.safetensors)"),
    ],
)
def test_a_distilled_or_stripped_file_is_warned_of(folder, name, words):
    weights = flux2_weights() if "klein" in name else qwen_weights("2511_lightning" in name)
    notes = family_of(load_model(weights, folder / name)).notes()
    assert any(words in note and name in note for note in notes)


def test_the_base_that_is_named_is_of_the_same_size(folder, monkeypatch):
    family = family_of(load_model(flux2_weights(), folder / "flux-2-klein-9b.safetensors"))
    monkeypatch.setattr(Flux2, "width", 4096)
    assert any("(flux-2-klein-base-9b.safetensors)" in note for note in family.notes())


def test_a_model_of_a_later_comfyui_is_refused_by_name():
    class QwenImage21(torch.nn.Module):
        diffusion_model = torch.nn.Linear(1, 1)

    class Patcher:
        model = QwenImage21()

    with pytest.raises(host.BaseModelError, match="QwenImage21.*not ComfyUI's FLUX.1 or FLUX.2"):
        family_of(Patcher())


def test_a_model_that_only_looks_like_the_family_is_refused_by_name(folder):
    layered = load_model(
        qwen_weights(use_additional_t_cond=True), folder / "qwen_image_x.safetensors"
    )
    with pytest.raises(host.BaseModelError, match="Qwen-Image-Layered"):
        family_of(layered).check_model()


def test_a_lora_tells_its_family_by_the_width_of_its_layers():
    def pair(linear, rows, columns=8):
        return {f"{linear}.down": torch.zeros(2, columns), f"{linear}.up": torch.zeros(rows, 2)}

    assert family_of_lora(pair("single_blocks.0.linear1", 7 * 8)) is Flux1
    assert family_of_lora(pair("single_blocks.0.linear1", 9 * 8)) is Flux2
    assert family_of_lora(pair("transformer_blocks.0.attn.to_q", 8)) is families.QwenImage
    with pytest.raises(ValueError, match="layers"):
        family_of_lora(pair("down_blocks.0.conv", 8))
