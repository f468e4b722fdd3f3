"""What turns gradients into a better LoRA: optimiser, learning rate and gradient scaling."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from .config import TrainConfig
from .lora import Lora


class Learner:
    """AdamW on a LoRA's float32 weights, with all of its state for an exact continuation."""

    def __init__(
        self, lora: Lora, config: TrainConfig, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.lora, self.config = lora, config
        self.optimizer = torch.optim.AdamW(
            lora.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self.rate = 1.0  # halved once if the loss explodes
        # float16 gradients underflow unless the loss is scaled up
        self.scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a part of the step's loss."""
        self.scaler.scale(loss).backward()

    def update(self, step: int) -> float:
        """Take step 0, 1, … with the gradients gathered; returns their norm before clipping."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(step)
        self.scaler.unscale_(self.optimizer)
        limit = self.config.max_grad_norm or float("inf")
        norm = clip_grad_norm_(self.lora.parameters(), limit)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return norm.item()

    def learning_rate(self, step: int) -> float:
        return self.rate * self.config.learning_rate_at(step)

    def state_dict(self) -> dict[str, Tensor]:
        """LoRA weights and optimiser moments as named tensors on the CPU."""
        state = {f"lora.{name}": tensor for name, tensor in self.lora.state_dict().items()}
        state["rate"] = torch.tensor(self.rate)
        for index, moments in self.optimizer.state_dict()["state"].items():
            for name, tensor in moments.items():
                state[f"optimizer.{index}.{name}"] = tensor.cpu()
        if self.scaler.is_enabled():
            state["scale"] = torch.tensor(self.scaler.get_scale())
        return state

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take up a state; gradients gathered so far are dropped."""
        self.optimizer.zero_grad(set_to_none=True)
        self.lora.load_state_dict(
            {name[5:]: tensor for name, tensor in state.items() if name.startswith("lora.")}
        )
        moments: dict[int, dict[str, Tensor]] = {}
        for key, tensor in state.items():
            if key.startswith("optimizer."):
                _, index, name = key.split(".")
                moments.setdefault(int(index), {})[name] = tensor
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        self.rate = state["rate"].item()
        if "scale" in state:
            scaler = {**self.scaler.state_dict(), "scale": state["scale"].item()}
            self.scaler.load_state_dict(scaler)
