"""Compiled blocks give the gradients of eager ones, and one graph serves all captions."""

from dataclasses import replace

import pytest
import torch
from kontext.trainer import host
from kontext.trainer.batch import Text, stacked
from kontext.trainer.config import TrainConfig
from kontext.trainer.loss.objective import sample_losses
from kontext.trainer.network import opaque
from kontext.trainer.network.attach import attached
from kontext.trainer.network.compile import Compiler, Lengths, difference
from torch._dynamo.utils import counters

SIGMA = torch.tensor([0.2, 0.8])


@pytest.fixture(autouse=True)
def traced(monkeypatch):
    """Traced, differentiated and cut as for inductor, but run by torch's own kernels: quick."""
    monkeypatch.setattr(Compiler, "backend", "aot_eager")
    torch._dynamo.reset()
    counters.clear()


def wrapped(module):
    return opaque.TracedLinear(host.FrozenLinear(module), host.FrozenLinear(module))


@pytest.mark.slow
def test_one_graph_serves_captions_of_all_lengths(family, lora, make_batch, miniature):
    blocks, cpu = family.blocks(), torch.device("cpu")
    compiler = Compiler(blocks, cpu, torch.float32, True, pytest.fail, family.streams)
    pictures = sum(map(family.tokens, (miniature.latent, *miniature.references)))
    compiler.lengths = Lengths((512, 530), (family.tokens(miniature.latent), pictures))
    made = []
    for tokens in (515, 520, 530):
        batch = make_batch(2, tokens=tokens)
        if family.pads_text:  # captions of unequal length have a mask
            cond = batch.text.cond
            batch = replace(batch, text=stacked([Text(cond[:1]), Text(cond[1:, :500])]))
        noise = torch.randn(batch.target.shape, generator=torch.Generator().manual_seed(4))

        def loss(batch=batch, noise=noise):
            losses = sample_losses(family, batch, SIGMA, noise, TrainConfig(), torch.float32)
            with torch.autograd.set_multithreading_enabled(False):
                losses.mean().backward()
            return losses.mean().item()

        parts = family.network, lora, wrapped, host.is_linear, blocks[:1]
        with host.differentiable(), compiler.compiling(), attached(*parts, compiler=compiler):
            compiler.active = False
            eager = compiler.run(loss, lora)
            compiler.active = True
            assert difference(compiler.run(loss, lora), eager) < 1e-5
        made.append(counters["stats"]["unique_graphs"])
    assert made[0] == made[-1]
    assert not any("forward" in part.__dict__ for part in family.network.modules())
