"""The settings to try: one per line, with its values."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

from ...language import say
from ...trainer.config import CHANGEABLE_ALWAYS, SETTINGS, ConfigError, TrainConfig
from ...trainer.setting import read_lines

MOST = 64  # tries
LONGEST_SUFFIX = 40  # of the 80 characters that a run's name may have
# Settings that short runs choose themselves, and those that change nothing of what is learnt
NOT_TRIED = {"steps", "seed", "schedule", "warmup_steps", "save_dtype", *CHANGEABLE_ALWAYS}
# Held-out losses at other noise levels or of other pictures are other numbers
NOT_COMPARABLE = {
    "resolution", "reference_resolution", "aspect", "timesteps", "sigma_mean", "sigma_spread",
    "sigma_shift", "loss", "huber_delta", "edit_weight", "outside_mask", "guidance",
}  # fmt: skip


@dataclass(frozen=True)
class Try:
    """One point of the grid: the values that it changes, and the settings with them."""

    changes: Mapping[str, Any]
    config: TrainConfig

    @property
    def label(self) -> str:
        return ", ".join(f"{name} {shown(value)}" for name, value in self.changes.items())

    @property
    def suffix(self) -> str:
        """A suffix for the name of its run, valid in file names on every system. What has to be
        shortened or replaced in it is told apart by a digest."""
        text = "_".join(f"{name}_{shown(value)}" for name, value in self.changes.items())
        plain = re.sub(r"[^\w.+-]", "-", text)
        if plain == text and len(text) <= LONGEST_SUFFIX:
            return text
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        return f"{plain[: LONGEST_SUFFIX - 9]}_{digest}"


def shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def read_axes(text: str) -> dict[str, list[str]]:
    """The values of each setting, as text, from lines like `learning_rate: 5e-5, 1e-4`.

    Raises ConfigError for unknown settings, and those that held-out losses cannot compare.
    """
    axes = {}
    for name, values in read_lines(text).items():
        if name not in SETTINGS or name in NOT_TRIED:
            known = sorted(SETTINGS.keys() - NOT_TRIED - NOT_COMPARABLE)
            raise ConfigError(
                say("{name} cannot be tried. Choose among {known}.", name=name,
                    known=", ".join(known))
            )  # fmt: skip
        if name in NOT_COMPARABLE:
            raise ConfigError(
                say(
                    "{name} changes what the held-out loss measures, which therefore cannot "
                    "compare its values. Train with each value, then compare pictures with "
                    "Compare Checkpoints.",
                    name=name,
                )
            )
        axes[name] = [value.strip() for value in re.split(r"[,，、;；]", values) if value.strip()]
    if not axes:
        raise ConfigError(say("Write what to try, one setting per line: learning_rate: 1e-4, 2e-4"))
    return axes


def read_values(axes: Mapping[str, Sequence[str]]) -> dict[str, list[Any]]:
    """The values themselves, without repeats. Raises ConfigError for one that its setting cannot
    have, and for too few or too many tries."""
    read = {}
    for name in axes:
        read[name] = list(dict.fromkeys(SETTINGS[name].read(value) for value in axes[name]))
    count = prod(map(len, read.values()))
    if not 2 <= count <= MOST:
        raise ConfigError(
            say(
                "These values make {count} different tries; there must be 2 to {most}. Write more "
                "values, or leave some out.",
                count=count, most=MOST,
            )
        )  # fmt: skip
    return read


def grid(config: TrainConfig, axes: Mapping[str, Sequence[str]]) -> list[Try]:
    """Every combination of the values, in order. Raises ConfigError."""
    read = read_values(axes)
    every = [dict(zip(read, values, strict=True)) for values in product(*read.values())]
    return [Try(changes, config.replace(**changes)) for changes in every]
