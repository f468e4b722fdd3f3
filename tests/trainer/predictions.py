"""What the tiny Flux answers, in ComfyUI and in training."""

from kontext.trainer import host
from kontext.trainer.network.attach import attached


def predict(model, question):
    noised, sigma, batch = question
    return host.predict_velocity(model.model, noised, sigma, batch.text, batch.references, 2.5)


def in_training(base, lora, question):
    with (
        host.differentiable(),
        attached(base.network, lora, host.FrozenLinear, host.is_linear),
    ):
        return predict(base.model, question).detach()
