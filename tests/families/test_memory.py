"""What a step takes is what the family's counts say; FLUX.1's are in tests/trainer/test_memory."""

import pytest
import torch
from kontext.trainer import host
from kontext.trainer.batch import Batch, Text
from kontext.trainer.config import TrainConfig
from kontext.trainer.families import family_of
from kontext.trainer.loss.objective import sample_losses
from kontext.trainer.memory import footprint_of
from kontext.trainer.network.attach import attached
from kontext.trainer.network.lora import Lora

from ..allocator import peak_of
from .miniatures import flux2_weights, load_model, qwen_weights

WIDE = 512
CONFIG = TrainConfig(rank=2)


def flux2(blocks):
    return flux2_weights(
        hidden_size=WIDE, num_heads=4, depth=blocks[0], depth_single_blocks=blocks[1]
    )


def qwen(blocks):
    return qwen_weights(timestep_zero=True, num_layers=blocks[0], num_attention_heads=4)


@pytest.fixture
def one_thread():
    """Without the scratch memory that attention on the CPU takes for every thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(
    "make, blocks, checkpointed",
    [
        (flux2, (1, 1), 0),
        (flux2, (2, 1), 0),
        (flux2, (1, 4), 5),
        (flux2, (3, 1), 4),
        (qwen, (1,), 0),
        (qwen, (3,), 1),
        (qwen, (4,), 4),
    ],
)
def test_the_prediction_is_what_torch_allocates(tmp_path, make, blocks, checkpointed):
    """The step's peak in bf16, from above: to 8 %."""
    model = load_model(make(blocks), tmp_path / "wide.safetensors", dtype=torch.bfloat16)
    family = family_of(model)
    parts = family.network.named_modules()
    linears = {name: host.FrozenLinear(part) for name, part in parts if host.is_linear(part)}
    lora = Lora.create({n: linears[n] for n in family.targeted(linears, "blocks")}, 2, 2.0, 0)
    for weight in lora.parameters():
        weight.grad = torch.zeros_like(weight)
    latent = family.channels, 20 * family.patch, 20 * family.patch
    width = 96 if make is flux2 else 32
    tokens = 512 if make is flux2 else 128
    batch = Batch(
        torch.randn(1, *latent), (torch.randn(1, *latent),), Text(torch.randn(1, tokens, width))
    )
    noise, sigma = torch.randn(batch.target.shape), torch.tensor([0.5])
    parts = (
        family.network,
        lora,
        host.FrozenLinear,
        host.is_linear,
        family.blocks()[:checkpointed],
    )

    def step():
        with host.differentiable(), attached(*parts):
            sample_losses(family, batch, sigma, noise, CONFIG, torch.bfloat16).mean().backward()

    step()  # what is allocated once only
    of = footprint_of(model, family, lora, CONFIG, torch.bfloat16, 2 * 20 * 20 + tokens)
    peak = peak_of(step)
    assert peak < of.activations(checkpointed) < 1.08 * peak
