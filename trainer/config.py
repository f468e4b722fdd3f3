"""Everything a training run can be told."""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass
from typing import Any

GB = 10**9  # what a card's maker calls a gigabyte
STEPS_PER_PAIR = 100
FEWEST_STEPS = 1500
HIGHEST_LOHA_RANK = 32
# What may be another when a run is continued, and what does not even matter to its result
MAY_CHANGE = {"steps", "learning_rate", "schedule"}
DOES_NOT_MATTER = {
    "save_every", "keep", "validate_every", "preview_steps", "checkpointing", "tensorboard",
    "max_vram",
}  # fmt: skip
CHOICES: dict[str, tuple[str, ...]] = {
    "dtype": ("auto", "bf16", "fp16", "fp32"),
    "save_dtype": ("bf16", "fp16", "fp32"),
    "targets": ("blocks", "attention", "all"),
    "adapter": ("lora", "dora", "lokr", "loha"),
    "timesteps": ("balanced", "structure", "detail", "logit_normal", "uniform"),
    "schedule": ("cosine", "constant", "linear", "cosine_restarts", "polynomial"),
    "optimizer": (
        "adamw",
        "adamw8bit",
        "prodigy",
        "adafactor",
        "lion",
        "came",
        "schedulefree",
        "prodigyplus",
    ),
    "loss": ("mse", "huber"),
    "aspect": ("bucket", "square"),
    "checkpointing": ("auto", "on", "off"),
    "matmul": ("exact", "int8", "fp8", "mxfp8"),
    "compile": ("off", "blocks"),
}
# Instructions that most edits have nothing to do with: what `preserve` keeps
OFF_TASK = """\
Keep the picture exactly as it is.
Make the sky darker.
Put a red ball into the picture.
Replace the background with a plain wall.
Add snow to the scene."""
RANGES: dict[str, tuple[float, float]] = {
    "steps": (0, 1_000_000),
    "rank": (1, 256),
    "alpha": (0.0, 1024.0),
    "learning_rate": (0.0, 1.0),
    "batch_size": (1, 64),
    "accumulate": (1, 256),
    "save_every": (1, 1_000_000),
    "keep": (0, 10_000),
    "resolution": (64, 2048),
    "reference_resolution": (0, 2048),
    "warmup_steps": (0, 1_000_000),
    "weight_decay": (0.0, 1.0),
    "max_grad_norm": (0.0, 1000.0),
    "caption_dropout": (0.0, 1.0),
    "guidance": (0.0, 100.0),
    "beta1": (0.0, 0.9999),
    "beta2": (0.0, 0.99999),
    "restarts": (1, 100),
    "ema": (0.0, 0.99999),
    "lora_plus": (1.0, 64.0),
    "huber_delta": (0.001, 10.0),
    "edit_weight": (0.0, 100.0),
    "reference_dropout": (0.0, 1.0),
    "sigma_mean": (-3.0, 3.0),
    "sigma_spread": (0.1, 3.0),
    "sigma_shift": (0.0, 20.0),
    "preview_steps": (0, 100),
    "validate_every": (0, 1_000_000),
    "max_vram": (0.0, 1024.0),
    "dropout": (0.0, 0.9),
    "lokr_factor": (0, 256),
    "outside_mask": (0.0, 1.0),
    "preserve": (0.0, 100.0),
    "preserve_every": (1, 1000),
}


class ConfigError(ValueError):
    """A training setting is out of its range."""


@dataclass(frozen=True)
class TrainConfig:
    """The settings of a run. `steps` 0 is auto, `alpha` 0 is the rank, `keep` 0 is all.

    `validate_every` 0 is at every checkpoint. `resolution` is the side of the square whose area a
    target may have at most, in pixels; `reference_resolution` the same for references, 0 for as
    large as the target. `max_vram` in 10⁹ bytes, 0 for what is free.
    """

    steps: int = 0
    rank: int = 16
    alpha: float = 0.0
    learning_rate: float = 1e-4
    batch_size: int = 1
    accumulate: int = 1
    save_every: int = 250
    keep: int = 4
    seed: int = 0
    dtype: str = "auto"
    save_dtype: str = "bf16"
    resolution: int = 512
    reference_resolution: int = 0
    aspect: str = "bucket"
    targets: str = "blocks"
    timesteps: str = "balanced"
    schedule: str = "cosine"
    warmup_steps: int = 50
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    caption_dropout: float = 0.05
    guidance: float = 1.0
    checkpointing: str = "auto"
    preview_steps: int = 20
    validate_every: int = 0
    tensorboard: bool = False
    optimizer: str = "adamw"
    beta1: float = 0.9
    beta2: float = 0.999
    restarts: int = 3
    ema: float = 0.0
    rank_stabilised: bool = False
    lora_plus: float = 1.0
    pattern: str = ""
    loss: str = "mse"
    huber_delta: float = 0.1
    edit_weight: float = 0.0
    reference_dropout: float = 0.0
    flip: bool = False
    sigma_mean: float = 0.0
    sigma_spread: float = 1.0
    sigma_shift: float = 0.0
    max_vram: float = 0.0
    adapter: str = "lora"
    dropout: float = 0.0
    lokr_factor: int = 8
    outside_mask: float = 0.1
    resolutions: str = ""
    preserve: float = 0.0
    preserve_every: int = 4
    preserve_prompts: str = OFF_TASK
    matmul: str = "exact"
    compile: str = "off"

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ConfigError(
                    f"{name} is {getattr(self, name)!r}; choose one of {', '.join(choices)}."
                )
        for name, (low, high) in RANGES.items():
            if not low <= getattr(self, name) <= high:
                raise ConfigError(f"{name} is {getattr(self, name)}; it goes from {low} to {high}.")

        try:
            re.compile(self.pattern)
        except re.error as error:
            raise ConfigError(
                f"pattern {self.pattern!r} is no regular expression: {error}."
            ) from error

        low, high = RANGES["resolution"]
        if not all(side.isdecimal() and low <= int(side) <= high for side in self._sides):
            raise ConfigError(
                f"resolutions is {self.resolutions!r}; write sides from {low} to {high} with "
                "commas between: 512, 768. Leave it empty for `resolution` alone."
            )
        if self.preserve and not self.preserved:
            raise ConfigError(
                "preserve needs instructions to preserve: write one a line in preserve_prompts."
            )

        if self.adapter == "loha" and self.rank > HIGHEST_LOHA_RANK:
            raise ConfigError(
                f"rank is {self.rank}; a LoHa's goes to {HIGHEST_LOHA_RANK}, because it counts "
                f"squared: {HIGHEST_LOHA_RANK} reaches as far as a LoRA of rank "
                f"{HIGHEST_LOHA_RANK**2}."
            )
        if self.lora_plus > 1 and self.optimizer in ("prodigy", "prodigyplus"):
            raise ConfigError("lora_plus needs an optimiser that takes a learning rate as given.")
        if self.edit_weight and self.reference_resolution:
            raise ConfigError(
                "edit_weight compares target and control: it needs reference_resolution 0."
            )

    def replace(self, **changes: Any) -> TrainConfig:
        return dataclasses.replace(self, **changes)

    def settled(self, pairs: int, full_model: bool) -> TrainConfig:
        """With nothing left automatic: steps from the number of pairs, alpha from the rank.

        100 steps per pair; at least 1,500 on the full FLUX.1, which fewer steps barely move.
        """
        steps = self.steps or max(STEPS_PER_PAIR * pairs, FEWEST_STEPS if full_model else 0)
        return self.replace(steps=steps, alpha=self.alpha or float(self.rank))

    @property
    def sides(self) -> tuple[int, ...]:
        """The resolutions trained at; held-out pairs and previews use the first."""
        return tuple(dict.fromkeys(map(int, self._sides))) or (self.resolution,)

    @property
    def _sides(self) -> list[str]:
        return re.findall(r"[^\s,;，、；]+", self.resolutions)

    @property
    def preserved(self) -> tuple[str, ...]:
        """The off-task instructions; with them no instruction at all, unless the edit is to work
        without one (caption dropout)."""
        lines = [line.strip() for line in self.preserve_prompts.splitlines() if line.strip()]
        return (*lines, *(() if self.caption_dropout else ("",)))

    @property
    def scale(self) -> float:
        """What `up @ down` is multiplied by (rank-stabilised: Kalajdzievski 2023)."""
        return self.alpha / (math.sqrt(self.rank) if self.rank_stabilised else self.rank)

    def learning_rate_at(self, step: int) -> float:
        """Learning rate of step 0, 1, …: linear warm-up, then the schedule, to 0 at the end."""
        warmup = min(self.warmup_steps, self.steps // 10)
        if step < warmup:
            return self.learning_rate * (step + 1) / warmup
        progress = (step - warmup) / max(1, self.steps - warmup)
        decay = {
            "constant": 1.0,
            "linear": 1 - progress,
            "polynomial": (1 - progress) ** 2,
            "cosine": 0.5 * (1 + math.cos(math.pi * progress)),
            "cosine_restarts": 0.5 * (1 + math.cos(math.pi * (progress * self.restarts % 1))),
        }
        return self.learning_rate * decay[self.schedule]
