"""The prediction of activation memory, against what autograd really keeps."""

import torch
from kontext.trainer import host
from kontext.trainer.attach import attached
from kontext.trainer.config import TrainConfig
from kontext.trainer.memory import activation_bytes
from kontext.trainer.objective import sample_losses


def kept_bytes(base, lora, batch):
    """Bytes of all distinct tensors that a forward saves for backward, the LoRA's own aside."""
    own = {weight.data_ptr() for weight in lora.parameters()}
    sizes = {}

    def note(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            sizes[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)  # an address that is freed could be counted only once
        return tensor

    alive: list[torch.Tensor] = []
    noise, sigma = torch.randn(batch.target.shape), torch.full((len(batch.target),), 0.5)
    with (
        host.differentiable(),
        attached(base.flux, lora, host.FrozenLinear, host.is_linear),
        torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor),
    ):
        sample_losses(base.flux, batch, sigma, noise, TrainConfig(), torch.float32).mean()
    return sum(sizes.values())


def test_prediction_is_what_autograd_keeps(base, make_batch, make_lora):
    """Never less than what is kept between forward and backward, nor wildly more."""
    batch, lora = make_batch(4), make_lora(base.flux, targets="blocks")
    tokens = 4 * (batch.target_tokens + 24 + 24)
    kept = kept_bytes(base, lora, batch)
    predicted = activation_bytes(tokens, 128, len(host.blocks(base.flux)), 4, checkpointing=False)
    assert kept < predicted < 1.6 * kept
