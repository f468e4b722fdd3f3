"""Inputs for settings of a run, as `TrainConfig` describes them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from comfy_api.latest import io

from ..trainer.config import SETTINGS, TrainConfig
from ..trainer.setting import read_lines


def setting_input(name: str, zero: str = "", **changes: Any) -> io.Input:
    """The input for a setting, with its range, choices and help; `zero` is what 0 means here."""
    setting = SETTINGS[name]
    options: dict[str, Any] = {"default": setting.default, "tooltip": setting.explain(zero)}
    if setting.choices:
        return io.Combo.Input(name, options=list(setting.choices), **options | changes)
    if setting.kind is bool:
        return io.Boolean.Input(name, **options | changes)
    if setting.several or setting.kind is str:
        options |= {"default": str(setting.default), "multiline": setting.lines}
        return io.String.Input(name, **options | changes)
    kind = io.Float.Input if setting.kind is float else io.Int.Input
    options |= {"min": setting.low, "max": setting.high, "step": setting.step}
    return kind(name, **options | changes)


def more_input() -> io.Input:
    """Settings without an input of their own, as text."""
    return io.String.Input(
        "more",
        default="",
        multiline=True,
        optional=True,
        advanced=True,
        tooltip="Any other settings, one a line, by their names in run.yaml: sigma_shift: 1.5",
    )


def with_more(config: TrainConfig, more: str) -> TrainConfig:
    """The settings, updated by those in a `more` input."""
    return TrainConfig.parse({**asdict(config), **read_lines(more)})
