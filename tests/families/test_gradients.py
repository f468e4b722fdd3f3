"""Gradients of a LoRA on frozen weights are those of dense autograd, and the weights stay."""

import pytest
import torch
from kontext.trainer import host
from kontext.trainer.config import TrainConfig
from kontext.trainer.loss.objective import sample_losses
from kontext.trainer.network.attach import attached
from kontext.trainer.network.lora import Lora
from torch.nn.utils.stateless import _reparametrize_module

from ..trainer.conftest import sha256_of

SIGMA = torch.tensor([0.3, 0.8])


def in_training(family, lora, batch, noise, checkpointed=(), offloaded=False, **how):
    for weight in lora.parameters():
        weight.grad = None
    parts = family.network, lora, host.FrozenLinear, host.is_linear, checkpointed, offloaded
    with host.differentiable(), attached(*parts, **how):
        losses = sample_losses(family, batch, SIGMA, noise, TrainConfig(), torch.float32)
        losses.mean().backward()
    return [weight.grad for weight in lora.parameters()]


def of_dense_weights(family, weights, lora, batch, noise):
    """Plain autograd: base and LoRA merged into dense weights by hand."""
    hooks = [
        module.register_forward_pre_hook(lambda _, inputs: (inputs[0].clone(),))
        for module in family.network.modules()
        if isinstance(module, torch.nn.LayerNorm)
    ]
    with torch.inference_mode(False), torch.enable_grad():
        merged = {name: each.clone() for name, each in weights.items() if each.numel()}
        for name, layer in lora.layers.items():
            merged[f"{name}.weight"] += layer.scale * layer.up @ layer.down
        with host.differentiable(), _reparametrize_module(family.network, merged):
            losses = sample_losses(family, batch, SIGMA, noise, TrainConfig(), torch.float32)
        gradients = torch.autograd.grad(losses.mean(), lora.parameters())
    for hook in hooks:
        hook.remove()
    return gradients


def test_they_are_those_of_dense_autograd(family, model, weights, lora, make_batch):
    """Kept and checkpointed alike; every adapter gets one; the model is left to the last bit."""
    batch, before = make_batch(2), sha256_of(model.model)
    noise = torch.randn(batch.target.shape, generator=torch.Generator().manual_seed(4))
    dense = of_dense_weights(family, weights, lora, batch, noise)
    assert all(gradient.any() for gradient in dense)
    for checkpointed in ((), family.blocks()):
        ours = in_training(family, lora, batch, noise, checkpointed)
        error = torch.cat([(a - b).flatten() for a, b in zip(ours, dense, strict=True)]).norm()
        assert error / torch.cat([each.flatten() for each in dense]).norm() < 1e-5
    assert sha256_of(model.model) == before
    assert not any("forward" in part.__dict__ for part in model.model.modules())


@pytest.mark.parametrize("targets", ["attention", "blocks", "all"])
def test_what_is_not_computed_again_changes_no_gradient(family, make_batch, targets):
    """To the last bit, against blocks that keep all; what ends a block is computed once only."""
    linears = {n: p for n, p in family.network.named_modules() if host.is_linear(p)}
    names = family.targeted(linears, targets)
    lora = Lora.create({n: host.FrozenLinear(linears[n]) for n in names}, 4, 2.0, 0)
    for layer in lora.layers.values():
        layer.up.data.normal_(std=0.05, generator=torch.Generator().manual_seed(1))
    batch, unread = make_batch(2), family.unread(lora.layers)
    noise = torch.randn(batch.target.shape, generator=torch.Generator().manual_seed(4))
    plain = in_training(family, lora, batch, noise)
    again = in_training(family, lora, batch, noise, family.blocks(), unread=unread)
    assert all(torch.equal(one, other) for one, other in zip(plain, again, strict=True))
    gates_trained = any("mod" in name for name in names)
    ends = {name for name in linears if name.endswith((".2", "linear2")) and "_blocks." in name}
    assert unread == (set() if gates_trained else ends)
    if gates_trained:  # their gradients are made of it: not-a-number shows that it was read
        wrong = in_training(family, lora, batch, noise, family.blocks(), unread=ends)
        assert any(gradient.isnan().any() for gradient in wrong)
