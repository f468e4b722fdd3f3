"""The rotary embedding: ComfyUI's own in forward, and its gradient."""

import comfy.ldm.flux.math as flux_math
import comfy.model_management
import pytest
import torch
from kontext.trainer.host.rotation import rotated


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_rotation_is_comfyuis_and_so_is_its_gradient(dtype, monkeypatch):
    """Reference: autograd through ComfyUI's operations. In bf16 it rounds once less."""
    monkeypatch.setattr(comfy.model_management, "in_training", True)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 64, (2, 40, 3), generator=generator)
    axes = zip((16, 56, 56), range(3), strict=True)
    turns = torch.cat([flux_math.rope(ids[..., i], size, 10000) for size, i in axes], dim=-3)
    turns = turns.unsqueeze(1)
    q, k, up = (torch.randn(2, 3, 40, 128, generator=generator).to(dtype) for _ in range(3))
    q, k = q.requires_grad_(), k.requires_grad_()

    ours, theirs = rotated(q, k, turns), flux_math._apply_rope(q, k, turns)
    for one, other, x in zip(ours, theirs, (q, k), strict=True):
        assert torch.equal(one, other)
        (got,), (expected,) = (torch.autograd.grad(y, x, up) for y in (one, other))
        torch.testing.assert_close(got, expected)
