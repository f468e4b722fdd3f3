"""The available optimisers, from the packages that maintain them."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from types import ModuleType
from typing import Any

import torch

from ..language import say
from .config import ConfigError, TrainConfig


def package(name: str, optimizer: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        distribution = {"prodigyplus": "prodigy-plus-schedule-free"}.get(name, name)
        raise ConfigError(
            say(
                "The optimiser {optimizer} needs the package {package}. Install it into ComfyUI's "
                "Python (pip install {package}), or choose adamw.",
                optimizer=optimizer,
                package=distribution,
            )
        ) from error


def check_optimizer(config: TrainConfig) -> None:
    """Raise ConfigError if the optimiser's package is missing: now, not after hours of encoding."""
    weight = torch.zeros(1, requires_grad=True)
    create_optimizer([{"params": [weight], "faster": 1.0}], config)


def create_optimizer(
    groups: Iterable[dict[str, Any]], config: TrainConfig
) -> torch.optim.Optimizer:
    """The optimiser of the settings for these parameter groups.

    Raises ConfigError if its package is missing.
    """
    name, betas = config.optimizer, (config.beta1, config.beta2)
    common: dict[str, Any] = {"lr": config.learning_rate, "weight_decay": config.weight_decay}
    if name == "adamw":
        return torch.optim.AdamW(groups, betas=betas, **common)
    if name == "adamw8bit":
        return package("bitsandbytes", name).optim.AdamW8bit(groups, betas=betas, **common)
    if name == "prodigyplus":
        # stochastic rounding is for bf16 weights and would use the global random generator
        prodigy = package("prodigyplus", name).ProdigyPlusScheduleFree
        return prodigy(groups, betas=betas, stochastic_rounding=False, **common)
    if name == "prodigy":
        return package("prodigyopt", name).Prodigy(groups, betas=betas, **common)
    collection = package("pytorch_optimizer", name)
    if name == "schedulefree":
        return collection.ScheduleFreeAdamW(groups, betas=betas, **common)
    if name == "adafactor":
        return collection.AdaFactor(
            groups, betas=betas, scale_parameter=False, relative_step=False, **common
        )
    if name == "lion":
        return collection.Lion(groups, betas=betas, **common)
    if name == "came":
        return collection.CAME(groups, betas=(*betas, 0.9999), **common)
    raise ValueError(f"There is no optimiser {name!r} in create_optimizer.")
