"""What is calculated for a preset is right, and said for these pairs and this card."""

import re

import comfy.ldm.flux.model
import comfy.ops
import pytest
import torch
from kontext import language
from kontext.trainer import advice
from kontext.trainer.families.flux1 import Flux1
from kontext.trainer.host import is_linear
from kontext.trainer.memory import MemoryPlan
from kontext.trainer.presets import PRESETS, settings_for

GB = 10**9


def test_a_quick_look_takes_ten_minutes():
    """On a 3090, calculated, with three previews: below the ten minutes of its name."""
    config = settings_for("quick look")
    assert 60 * 3 < 2 * config.steps * advice.seconds_per_step(config) < 60 * 8


@pytest.mark.parametrize(
    "resolution, reference, seconds",
    [(512, 0, 1.03), (768, 0, 2.7), (1024, 512, 3.0), (1024, 0, 5.8)],
)
def test_seconds_per_step(resolution, reference, seconds):
    """Reference: the table of docs/guide/training.md, worked out by hand."""
    config = settings_for("relight").replace(resolution=resolution, reference_resolution=reference)
    assert advice.seconds_per_step(config) == pytest.approx(seconds, rel=0.05)


def test_the_footprint_is_that_of_flux():
    """Reference: ComfyUI's own FLUX.1, without its values."""
    flux = comfy.ldm.flux.model.Flux(
        image_model="flux", in_channels=16, out_channels=16, vec_in_dim=768, context_in_dim=4096,
        hidden_size=3072, mlp_ratio=4.0, num_heads=24, depth=19, depth_single_blocks=38,
        axes_dim=[16, 56, 56], theta=10000, patch_size=2, qkv_bias=True, guidance_embed=True,
        txt_ids_dims=[], dtype=torch.bfloat16, device="meta", operations=comfy.ops.manual_cast,
    )  # fmt: skip
    weights = sum(parameter.numel() for parameter in flux.parameters())
    linears = {name: part for name, part in flux.named_modules() if is_linear(part)}
    adapted = [linears[name] for name in Flux1.targeted(linears, "blocks")]
    assert advice.PARAMETERS == pytest.approx(weights, rel=0.01)
    assert (advice.DOUBLE, advice.SINGLE) == (len(flux.double_blocks), len(flux.single_blocks))
    assert advice.LARGEST == max(part.weight.numel() for part in linears.values())
    per_rank = sum(part.in_features + part.out_features for part in adapted)
    assert advice.PER_RANK == pytest.approx(per_rank, rel=0.02)


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("pairs", [0, 3, 30, 300])
@pytest.mark.parametrize("card", [0, 8 * GB, 24 * GB, 80 * GB])
def test_advice_is_for_these_pairs_and_this_card(name, pairs, card):
    text = advice.advice(name, settings_for(name), pairs, card)
    assert PRESETS[name].texts["en"]["why"] in text
    assert ("have them counted" in text) == (pairs == 0)
    assert ("quickly memorised" in text) == (pairs == 3)
    assert ("excellent ones" in text) == (pairs == 300)
    assert ("No graphics card" in text) == (card == 0)
    assert ("fp8 fits" in text) == (card > 0)
    assert ("streamed" in text) == (card in (8 * GB, 24 * GB))


@pytest.mark.parametrize("name", PRESETS)
def test_advice_speaks_chinese(name, monkeypatch):
    """Every word of it but names and units, and what the memory plan says of itself."""
    monkeypatch.setattr(language, "_source", lambda: "zh")
    monkeypatch.setattr(MemoryPlan, "summary", lambda self: "放得下")
    for pairs, card in ((0, 0), (30, 24 * GB)):
        text = advice.advice(name, settings_for(name), pairs, card)
        assert PRESETS[name].texts["zh"]["why"] in text
        words = set(re.findall("[a-z]+", text.replace("Kontext", ""), re.IGNORECASE))
        words -= {"FLUX", "Klein", "B", "Qwen", "Image"}
        assert words <= {"RTX", "CPU", "GB", "fp", "bf", "rank", "LoRA", "detail", "structure"}


def test_more_memory_is_counted_for_more_pixels_and_rank():
    small, large = (settings_for("style transfer", resolution=side) for side in (512, 1024))
    assert (
        advice.flux_footprint(large, 1).bytes_per_unit
        > 3 * advice.flux_footprint(small, 1).bytes_per_unit
    )
    assert advice.flux_footprint(small, 2).weights == 2 * advice.flux_footprint(small, 1).weights
    thick = small.replace(rank=64)
    assert advice.flux_footprint(thick, 1).trained == 4 * advice.flux_footprint(small, 1).trained
