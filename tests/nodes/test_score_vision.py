"""The eye that Score Checkpoints borrows: ComfyUI's CLIP, SigLIP and DINO, tiny and random."""

import comfy.clip_vision
import pytest
import torch
from kontext.evaluation.score.measures import direction
from kontext.nodes.score import vision
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

TINY = {
    "hidden_size": 32, "image_size": 28, "patch_size": 14, "num_hidden_layers": 2,
    "num_attention_heads": 2, "intermediate_size": 64, "num_channels": 3,
}  # fmt: skip
KINDS = {
    "clip_vision_model": {"hidden_act": "quick_gelu", "projection_dim": 16, "layer_norm_eps": 1e-5},
    "siglip_vision_model": {"hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6},
    "dinov2": {"layer_norm_eps": 1e-6, "use_swiglu_ffn": False},
}


def load(kind: str, weights: dict[str, torch.Tensor] | None = None):
    """As CLIPVisionLoader makes it, with random weights where none are given."""
    model = comfy.clip_vision.ClipVisionModel({**TINY, **KINDS[kind], "model_type": kind})
    generator = torch.Generator().manual_seed(0)
    own = model.get_sd()
    drawn = {name: torch.randn(like.shape, generator=generator) for name, like in own.items()}
    _, unexpected = model.load_sd(drawn | (weights or {}))
    assert not [name for name in unexpected if "position_ids" not in name]
    return model


@pytest.fixture
def pictures() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(3, 28, 28, generator=generator) for _ in range(3)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_a_vector_that_tells_pictures_apart(kind, pictures):
    embed = vision(load(kind))
    with torch.inference_mode():
        control, target, other = (embed(picture) for picture in pictures)
    assert control.ndim == 1 and control.isfinite().all()
    assert direction(target, control, target) == pytest.approx(1.0, abs=1e-5)
    assert direction(other, control, target) < 0.99


def test_clip_is_that_of_transformers(pictures):
    torch.manual_seed(0)
    config = CLIPVisionConfig(**TINY, **KINDS["clip_vision_model"])
    theirs = CLIPVisionModelWithProjection(config).eval()
    embed = vision(load("clip_vision_model", theirs.state_dict()))
    mean, deviation = (
        torch.tensor(values)[:, None, None]
        for values in (
            (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
        )
    )  # fmt: skip
    with torch.inference_mode():
        for picture in pictures:
            pixels = (picture * 255).round() / 255  # ComfyUI rounds to what a file would hold
            expected = theirs(((pixels - mean) / deviation)[None]).image_embeds[0]
            # ComfyUI keeps the weights in float16
            assert torch.cosine_similarity(embed(picture), expected, dim=0) > 0.9999
