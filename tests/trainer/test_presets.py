"""The presets hold what the guides say, and what is calculated for them is right."""

import comfy.ldm.flux.model
import comfy.ops
import pytest
import torch
from kontext.trainer import presets
from kontext.trainer.families.flux1 import Flux1
from kontext.trainer.host import is_linear
from kontext.trainer.presets import PRESETS, advice, flux_footprint, settings_for

GB = 10**9


@pytest.mark.parametrize(
    "name, pairs, rank, steps, save_every",
    [
        ("style transfer", 30, 16, 3000, 250),
        ("product and jewellery retouching", 57, 64, 5000, 1000),
        ("texture enhancer", 40, 32, 4000, 500),
        ("relight", 40, 64, 4000, 500),
        ("relight", 5, 64, 1500, 500),
        ("relight", 0, 64, 0, 500),
    ],
)
def test_presets_follow_the_guides(name, pairs, rank, steps, save_every):
    """Recipes of the guides: images × 100 for textures and light, 5,000 for jewellery."""
    config = settings_for(name, pairs=pairs)
    assert (config.rank, config.steps, config.save_every) == (rank, steps, save_every)
    assert config.alpha == 0  # goes with another rank on the train node, too


def test_a_quick_look_takes_ten_minutes():
    """On a 3090, calculated, with three previews: below the ten minutes of its name."""
    config = settings_for("quick look")
    assert 60 * 3 < 2 * config.steps * presets.seconds_per_step(config) < 60 * 8


@pytest.mark.parametrize(
    "resolution, reference, seconds",
    [(512, 0, 1.03), (768, 0, 2.7), (1024, 512, 3.0), (1024, 0, 5.8)],
)
def test_seconds_per_step(resolution, reference, seconds):
    """Reference: the table of the README, worked out by hand."""
    config = settings_for("relight").replace(resolution=resolution, reference_resolution=reference)
    assert presets.seconds_per_step(config) == pytest.approx(seconds, rel=0.05)


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
    assert presets.PARAMETERS == pytest.approx(weights, rel=0.01)
    assert (presets.DOUBLE, presets.SINGLE) == (len(flux.double_blocks), len(flux.single_blocks))
    assert presets.LARGEST == max(part.weight.numel() for part in linears.values())
    per_rank = sum(part.in_features + part.out_features for part in adapted)
    assert presets.PER_RANK == pytest.approx(per_rank, rel=0.02)


def test_another_resolution():
    config = settings_for("quick look", resolution=128)
    assert (config.resolution, config.reference_resolution) == (128, 64)
    assert settings_for("relight", resolution=768).reference_resolution == 0


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("pairs", [0, 3, 30, 300])
@pytest.mark.parametrize("card", [0, 8 * GB, 24 * GB, 80 * GB])
def test_advice_is_for_these_pairs_and_this_card(name, pairs, card):
    config = settings_for(name, pairs=pairs)
    text = advice(name, config, pairs, card)
    assert PRESETS[name].why in text
    assert ("are counted" in text or "have them counted" in text) == (pairs == 0)
    assert ("soon memorised" in text) == (pairs == 3)
    assert ("excellent ones" in text) == (pairs == 300)
    assert ("No graphics card" in text) == (card == 0)
    assert ("fp8 fits" in text) == (card > 0)
    assert ("streamed" in text) == (card in (8 * GB, 24 * GB))


def test_more_memory_is_counted_for_more_pixels_and_rank():
    small, large = (settings_for("style transfer", resolution=side) for side in (512, 1024))
    assert flux_footprint(large, 1).unit > 3 * flux_footprint(small, 1).unit
    assert flux_footprint(small, 2).weights == 2 * flux_footprint(small, 1).weights
    thick = small.replace(rank=64)
    assert flux_footprint(thick, 1).trained == 4 * flux_footprint(small, 1).trained
