"""Gradients are right, and nothing of the LoRA stays behind."""

import pytest
import torch
from kontext.trainer import host
from kontext.trainer.families import family_of

SIGMA = torch.tensor([0.2, 0.8])


def own_forwards(module):
    return [name for name, part in module.named_modules() if "forward" in part.__dict__]


def relative_error(ours, theirs):
    ours, theirs = (torch.cat([each.flatten() for each in side]) for side in (ours, theirs))
    return ((ours - theirs).norm() / theirs.norm()).item()


def test_gradients_match_dense_autograd(
    base, weights, make_flux, make_batch, make_lora, lora_gradients, dense_gradients
):
    """Reference: plain autograd over dense weights with the LoRA merged in."""
    batch, lora = make_batch(2), make_lora(base.network)
    noise = torch.randn(batch.target.shape)
    ours = lora_gradients(base.model, lora, batch, noise, SIGMA)
    dense = dense_gradients(make_flux, weights, lora, batch, noise, SIGMA)
    assert relative_error(ours, dense) < 1e-5


def test_checkpointing_changes_no_gradient(base, make_batch, make_lora, lora_gradients):
    batch, lora = make_batch(2), make_lora(base.network)
    noise = torch.randn(batch.target.shape)
    kept = lora_gradients(base.model, lora, batch, noise, SIGMA, checkpointing=False)
    again = lora_gradients(base.model, lora, batch, noise, SIGMA, checkpointing=True)
    for one, other in zip(kept, again, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("targets, unread", [("blocks", 6), ("all", 0)])
def test_what_ends_a_block_is_computed_once(
    base, make_batch, make_lora, lora_gradients, targets, unread
):
    """Two in each double block, one in each single one, unless gates are trained."""
    batch, lora = make_batch(2), make_lora(base.network, targets=targets)
    names = family_of(base.model).unread(lora.layers)
    assert len(names) == unread
    given = base.model, lora, batch, torch.randn(batch.target.shape), SIGMA
    kept, again = lora_gradients(*given), lora_gradients(*given, True, unread=names)
    assert all(torch.equal(one, other) for one, other in zip(kept, again, strict=True))


def test_a_batch_is_the_mean_of_its_pairs(base, make_batch, make_lora, lora_gradients):
    lora = make_lora(base.network)
    whole = make_batch(3)
    noise, sigma = torch.randn(whole.target.shape), torch.tensor([0.1, 0.5, 0.9])
    together = lora_gradients(base.model, lora, whole, noise, sigma)
    singles = []
    for i in range(3):
        one = slice(i, i + 1)
        text = type(whole.text)(whole.text.cond[one], whole.text.pooled[one])
        references = tuple(reference[one] for reference in whole.references)
        batch = type(whole)(whole.target[one], references, text)
        singles.append(lora_gradients(base.model, lora, batch, noise[one], sigma[one]))
    mean = [torch.stack(each).mean(0) for each in zip(*singles, strict=True)]
    assert relative_error(together, mean) < 1e-5


@pytest.mark.parametrize("dtype, bound", [("bf16", 0.05), ("fp16", 0.01)])
def test_half_precision_gradients_stay_close(
    base, make_batch, make_lora, dtype, bound, lora_gradients
):
    """Reference: float32. Bounds: a few units of the format's rounding, 2⁻⁸ and 2⁻¹¹."""
    batch, lora = make_batch(2), make_lora(base.network)
    noise = torch.randn(batch.target.shape)
    exact = lora_gradients(base.model, lora, batch, noise, SIGMA)
    kind = host.training_dtype(base.model, dtype)
    half = lora_gradients(base.model, lora, batch, noise, SIGMA, dtype=kind)
    assert 1e-5 < relative_error(half, exact) < bound


@pytest.mark.parametrize(
    "options, bound",
    [
        ({"dtype": torch.float8_e4m3fn}, 1e-5),
        ({"dtype": torch.bfloat16}, 1e-5),
        ({"dtype": torch.float8_e4m3fn, "fp8_optimizations": True}, 1e-5),
    ],
)
def test_weights_stored_in_fewer_bits(
    weights,
    make_flux,
    make_batch,
    make_lora,
    options,
    bound,
    lora_gradients,
    dense_gradients,
    digest,
):
    """Reference: dense autograd over the weights as they read after storage."""
    model = make_flux(weights=weights, options=options)
    stored = {
        name: tensor.clone().to(torch.float32)
        for name, tensor in model.model.diffusion_model.state_dict().items()
    }
    batch, lora = make_batch(2), make_lora(model.model.diffusion_model)
    noise = torch.randn(batch.target.shape)
    before = digest(model.model)
    ours = lora_gradients(model, lora, batch, noise, SIGMA)
    dense = dense_gradients(make_flux, stored, lora, batch, noise, SIGMA)
    assert relative_error(ours, dense) < bound
    assert digest(model.model) == before


class Broken(RuntimeError):
    pass


@pytest.mark.parametrize("moment", ["finished", "in forward", "in backward"])
def test_the_model_is_as_it_was(base, make_batch, make_lora, moment, lora_gradients, digest):
    batch, lora = make_batch(2), make_lora(base.network)
    noise = torch.randn(batch.target.shape)
    before = digest(base.model.model)

    def breaks(gradient):
        raise Broken

    if moment == "in backward":
        next(iter(lora.layers.values())).up.register_hook(breaks)
    if moment == "in forward":
        lora.layers["single_blocks.1.linear2"].down.data = torch.zeros(1, 3)
    expected = {"finished": (), "in forward": RuntimeError, "in backward": Broken}[moment]
    if expected:
        with pytest.raises(expected):
            lora_gradients(base.model, lora, batch, noise, SIGMA, checkpointing=True)
    else:
        lora_gradients(base.model, lora, batch, noise, SIGMA)
    assert digest(base.model.model) == before
    assert own_forwards(base.model.model) == []
    assert not host.device.memory.in_training


def test_nothing_saved_for_backward_is_a_base_weight(base, make_batch, make_lora, lora_gradients):
    """Every tensor that autograd keeps is looked at: none shares memory with the base."""
    batch, lora = make_batch(2), make_lora(base.network)
    noise = torch.randn(batch.target.shape)
    owned = {tensor.data_ptr() for tensor in base.model.model.state_dict().values()}
    kept = set()

    def look(tensor):
        kept.add(tensor.untyped_storage().data_ptr())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(look, lambda tensor: tensor):
        lora_gradients(base.model, lora, batch, noise, SIGMA)
    assert kept and not kept & owned
