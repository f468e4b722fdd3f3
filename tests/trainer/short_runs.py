"""Short trainings on the tiny Flux, and what can be made to happen to them."""

import comfy.model_management
import torch
from kontext.trainer import host, loop
from kontext.trainer.config import TrainConfig
from kontext.trainer.network.lora import LoraLinear

SHORT = TrainConfig(
    steps=6, rank=4, learning_rate=1e-2, save_every=2, keep=0, dtype="fp32", save_dtype="fp32",
    preview_steps=0,
)  # fmt: skip


def last_lora(run):
    return host.load_lora_file(run.checkpoints()[-1].path)


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


def interrupt_after(monkeypatch, step):
    """Press Cancel when a step has been reported."""
    real = host.Progress.update

    def update(self, done, *arguments, **options):
        if done == step:
            comfy.model_management.interrupt_current_processing()
        real(self, done, *arguments, **options)

    monkeypatch.setattr(host.Progress, "update", update)


def break_backward(monkeypatch, error, calls=1):
    """Raise in the middle of the first `calls` backward passes."""
    real, left = LoraLinear.backward, [calls]

    def backward(ctx, gradient):
        if left[0] and gradient.shape[-1] == 128:
            left[0] -= 1
            raise error
        return real(ctx, gradient)

    monkeypatch.setattr(LoraLinear, "backward", staticmethod(backward))


def explode(monkeypatch, *calls, value=float("nan")):
    """Make the loss of these calls, counted from 1, what it is when training diverges."""
    real, seen = loop.sample_losses, []

    def exploding(*arguments):
        seen.append(1)
        return real(*arguments) * (value if len(seen) in calls else 1)

    monkeypatch.setattr(loop, "sample_losses", exploding)
