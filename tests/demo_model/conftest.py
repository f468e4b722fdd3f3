"""The shipped demo model, the photographs it was never trained on, and ComfyUI's own sampler."""

import sys
from pathlib import Path

import pytest
import torch

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
sys.path.insert(0, str(SCRIPTS))

import comfy.sample  # noqa: E402
from kontext.trainer.host.demo import load_demo_model  # noqa: E402

from demo_model import data  # noqa: E402


@pytest.fixture(scope="session")
def demo():
    """(MODEL, CLIP, VAE) as KontextDemoModel returns them."""
    return load_demo_model()


@pytest.fixture(scope="session")
def photographs() -> torch.Tensor:
    """Three photographs, [3, 3, 128, 128], which neither the VAE nor the transformer has seen."""
    return data.heldout_crops(128, 1, everything=False)[:3]


@pytest.fixture(scope="session")
def follow(demo):
    """Edit pictures by an instruction, as KSampler would (euler, simple, cfg 1, 6 steps)."""
    model, clip, vae = demo

    def edit(instruction: str, images: torch.Tensor, guidance: float = 2.5, seed: int = 5):
        references = vae.encode(images.movedim(1, -1))
        ((cond, extra),) = clip.encode_from_tokens_scheduled(clip.tokenize(instruction))
        extra = {**extra, "guidance": guidance, "reference_latents": [references]}
        positive = [[cond, extra]]
        empty = torch.zeros_like(references)
        noise = comfy.sample.prepare_noise(empty, seed)
        with torch.inference_mode():
            latent = comfy.sample.sample(
                model,
                noise,
                6,
                1.0,
                "euler",
                "simple",
                positive,
                positive,
                empty,
                disable_pbar=True,
                seed=seed,
            )
        return vae.decode(latent).movedim(-1, 1).clamp(0, 1).clone()

    return edit
