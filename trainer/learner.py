"""How gradients update the LoRA: optimiser, learning rate, loss scaling, averaging."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from .config import TrainConfig
from .network.lora import Lora
from .optimizers import create_optimizer
from .runs.ending import Ending

# Predicting zero has a loss of about 2, the variance of noise minus latent
EXPLODED = 20.0


class Learner:
    """The optimiser of a LoRA's float32 weights, with all the state that an exact resume needs.

    The weights to save and sample with may differ from those being trained: a moving average, or
    those of a schedule-free optimiser. `evaluating` puts them in place.
    """

    def __init__(
        self, lora: Lora, config: TrainConfig, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.lora, self.config = lora, config
        self.optimizer: Any = create_optimizer(self.groups(), config)
        self.rate = 1.0  # factor of the learning rate, halved once if the loss explodes
        # float16 gradients underflow unless the loss is scaled up
        self.new_scaler = partial(torch.amp.GradScaler, device.type, enabled=dtype == torch.float16)
        self.scaler = self.new_scaler()
        if hasattr(self.optimizer, "train"):
            self.optimizer.train()
        self.ending: Ending | None = None  # before the last planned step
        self.judged_from = 0  # measurements up to this step decide nothing
        averaged = lora.parameters() if config.ema else []
        self.average = [weight.detach().clone() for weight in averaged]

    def groups(self) -> list[dict[str, Any]]:
        """Parameter groups: LoRA+ (Hayou et al. 2024) trains the zero-initialised ones faster."""
        first: list[nn.Parameter] = []
        last: list[nn.Parameter] = []
        for layer in self.lora.layers.values():
            for part, parameter in layer.named_parameters():
                (last if part == layer.last else first).append(parameter)
        return [{"params": first, "faster": 1.0}, {"params": last, "faster": self.config.lora_plus}]

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a part of the step's loss.

        Runs on this thread: ComfyUI streams weights and handles Cancel on its node thread only.
        """
        with torch.autograd.set_multithreading_enabled(False):
            self.scaler.scale(loss).backward()

    def forget_gradients(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)

    def gradient_norm(self) -> float:
        """Clip the gradients to the limit; returns their norm before that."""
        self.scaler.unscale_(self.optimizer)
        limit = self.config.max_grad_norm or float("inf")
        return clip_grad_norm_(self.lora.parameters(), limit).item()

    def exploded(self, loss: float, norm: float) -> bool:
        """Whether to reject this step. A float16 overflow is no reason: the scaler skips it."""
        overflow = self.scaler.is_enabled() and not math.isfinite(norm)
        return not loss < EXPLODED or not (math.isfinite(norm) or overflow)

    def update(self, step: int) -> None:
        """Take step 0, 1, … with the current gradients."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(step) * group["faster"]
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.forget_gradients()
        if self.config.ema:
            self.follow(step)

    def follow(self, step: int) -> None:
        """Move the average towards the weights, faster during the first steps."""
        decay = min(self.config.ema, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(self.average, [*self.lora.parameters()], 1 - decay)

    def learning_rate(self, step: int) -> float:
        """The rate of step 0, 1, …: as planned, or falling linearly to an early end."""
        early = self.ending
        if early and early.decided <= step < early.step:
            planned = self.config.learning_rate_at(early.decided)
            return self.rate * planned * early.factor(step)
        return self.rate * self.config.learning_rate_at(step)

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Inside, the LoRA has the weights to save; afterwards exactly those being trained."""
        weights = self.lora.parameters()
        schedule_free = hasattr(self.optimizer, "eval")
        if not schedule_free and not self.config.ema:
            yield
            return
        trained = [weight.detach().clone() for weight in weights]
        if schedule_free:
            self.optimizer.eval()
        if self.config.ema:
            copy_into(weights, self.average)
        try:
            yield
        finally:
            if schedule_free:
                self.optimizer.train()
            copy_into(weights, trained)

    def state_dict(self) -> tuple[dict[str, Tensor], str]:
        """Named tensors on the CPU, and the rest as JSON."""
        tensors = {f"lora.{name}": tensor for name, tensor in self.lora.state_dict().items()}
        if self.config.ema:
            tensors |= {f"average.{i}": tensor for i, tensor in enumerate(self.average)}
        rest = {
            "rate": self.rate,
            "learning_rate": self.config.learning_rate,
            "ending": asdict(self.ending) if self.ending else None,
            "judged_from": self.judged_from,
            "scaler": self.scaler.state_dict(),
            "optimizer": set_apart(self.optimizer.state_dict(), "optimizer", tensors),
        }
        # copies: 8-bit optimisers share tables, and safetensors refuses shared memory
        copies = {name: tensor.to("cpu", copy=True) for name, tensor in tensors.items()}
        return copies, json.dumps(rest)

    def load_state_dict(self, tensors: Mapping[str, Tensor], rest: str) -> None:
        """Load a state. Drops gradients, and an early end that the user has lifted since."""
        state = json.loads(rest)
        early = Ending(**state["ending"]) if state.get("ending") else None
        self.ending, self.judged_from = early, state.get("judged_from", 0)
        if early and not early.holds_for(self.config):
            self.ending, self.judged_from = None, early.step
        # a learning rate that the user has changed since is not halved
        same_rate = state.get("learning_rate") == self.config.learning_rate
        self.rate = state["rate"] if same_rate else 1.0
        self.scaler = self.new_scaler()
        self.scaler.load_state_dict(state["scaler"])
        self.forget_gradients()
        self.optimizer.load_state_dict(put_back(state["optimizer"], tensors))
        self.lora.load_state_dict(
            {name[5:]: tensor for name, tensor in tensors.items() if name.startswith("lora.")}
        )
        if self.config.ema:
            copy_into(self.average, [tensors[f"average.{i}"] for i in range(len(self.average))])


def copy_into(weights: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    with torch.no_grad():
        for weight, value in zip(weights, values, strict=True):
            weight.copy_(value)


def set_apart(tree: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """A tree of dicts and lists as JSON can hold it; its tensors are moved into `tensors`."""
    if isinstance(tree, Tensor):
        tensors[name] = tree
        return {"tensor": name}
    if isinstance(tree, dict):
        # JSON keys are strings, but optimisers number their parameters
        return {
            "keys": list(tree),
            "values": [set_apart(value, f"{name}.{key}", tensors) for key, value in tree.items()],
        }
    if isinstance(tree, (list, tuple)):
        return [set_apart(value, f"{name}.{i}", tensors) for i, value in enumerate(tree)]
    return tree


def put_back(tree: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The inverse of `set_apart`."""
    if isinstance(tree, dict):
        if "tensor" in tree:
            return tensors[tree["tensor"]]
        values = [put_back(value, tensors) for value in tree["values"]]
        return dict(zip(tree["keys"], values, strict=True))
    return [put_back(value, tensors) for value in tree] if isinstance(tree, list) else tree
