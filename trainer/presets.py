"""Ready settings for five kinds of edit, and what is advised for this many pairs and this card.

The figures come from guides by people who train such LoRAs (docs/guide/training.md). Time and
memory are calculated for FLUX.1-Kontext, not measured.
"""

from __future__ import annotations

from dataclasses import dataclass

from .config import FEWEST_STEPS, STEPS_PER_PAIR, TrainConfig
from .memory import Footprint, plan_memory

# FLUX.1: blocks, width, parameters, and the values of its largest linear and of a LoRA's rank
DOUBLE, SINGLE, HIDDEN, PARAMETERS = 19, 38, 3072, 11_900_000_000
LARGEST, PER_RANK = 21504 * 3072, 3_500_000
TEXT_TOKENS = 256
# Dense bf16 operations per second that an RTX 4090 reaches in linears and in attention
LINEARS, ATTENTION = 0.65 * 165e12, 0.5 * 165e12
SMALL = 512  # the resolution to fall back on
TAKEN = int(1.5e9)  # of a card's memory, by the desktop and by ComfyUI


@dataclass(frozen=True)
class Preset:
    """Settings for one kind of edit. `steps` 0 is so many per pair; `pairs` is how many to have."""

    config: TrainConfig
    pairs: tuple[int, int]
    why: str
    hint: str = ""


PRESETS = {
    "style transfer": Preset(
        TrainConfig(rank=16, save_every=250),
        (20, 50),
        "rank 16, 100 steps per pair, 512 pixels: a style is learnt from few pairs, and a small "
        "LoRA memorises them less.",
        "One short instruction for all pairs. Several kinds of control for one target, line art "
        "and clay, make it robust.",
    ),
    "product and jewellery retouching": Preset(
        TrainConfig(
            steps=5000, rank=64, save_every=1000, resolution=1024, timesteps="detail",
            edit_weight=2.0,
        ),
        (30, 60),
        "rank 64, 5,000 steps, 1024 pixels, detail: facets and scratches are fine structure, which "
        "is learnt late and at low noise; places that the edit changes count up to three times.",
        "Set keep to 10. Mix strong and faint flaws, or faint ones will be left.",
    ),
    "texture enhancer": Preset(
        TrainConfig(rank=32, save_every=500, resolution=1024, timesteps="detail"),
        (20, 60),
        "rank 32 (64 if it is too weak), 100 steps per pair, 1024 pixels, detail: texture is what "
        "smaller pictures and high noise do not show.",
        "Mixed subjects; blur and noise of several strengths in the control.",
    ),
    "relight": Preset(
        TrainConfig(rank=64, save_every=500, timesteps="structure"),
        (20, 60),
        "rank 64, 100 steps per pair, 512 pixels, structure: light lies on the whole picture and "
        "is decided while there is much noise.",
        "The same scene before and after, not moved by a pixel: Check Pairs tells.",
    ),
    "quick look": Preset(
        TrainConfig(
            steps=300, rank=16, learning_rate=2e-4, save_every=100, reference_resolution=256,
            warmup_steps=20,
        ),
        (5, 50),
        "about 10 minutes: 300 steps at twice the learning rate, the control at 256 pixels. It "
        "shows whether the pairs teach the edit, no more.",
    ),
}  # fmt: skip


def settings_for(name: str, resolution: int = 0, pairs: int = 0) -> TrainConfig:
    """A preset's settings, at another resolution unless it is 0, for so many pairs unless 0.

    Without pairs, `steps` may stay 0: automatic.
    """
    config = PRESETS[name].config
    if resolution:
        small = min(config.reference_resolution, resolution // 2)
        config = config.replace(resolution=resolution, reference_resolution=small)
    # alpha stays 0, the rank, whatever rank the train node is then given
    return config.replace(steps=config.settled(pairs, full_model=True).steps) if pairs else config


def advice(name: str, config: TrainConfig, pairs: int, card: int) -> str:
    """Why these values; what is usual for this number of pairs (0: not known) and a card of so many
    bytes (0: none)."""
    preset = PRESETS[name]
    why = f"{name[0].upper()}{name[1:]}: {preset.why} {preset.hint}".strip()
    parts = of_pairs(preset, config, pairs), of_time(config), of_memory(config, card), why
    return "\n".join((*parts, "All of this is advice: change what you like."))


def of_pairs(preset: Preset, config: TrainConfig, pairs: int) -> str:
    fewest, most = preset.pairs
    low, high = STEPS_PER_PAIR, STEPS_PER_PAIR * 3 // 2
    if not pairs:
        return (
            f"Pairs: {fewest} to {most}. Connect the pairs to have them counted; steps 0 is {low} "
            f"per pair, at least {FEWEST_STEPS:,}."
        )
    told = [f"Pairs: {pairs} to train on; {fewest} to {most} are usual."]
    if pairs < fewest:
        told.append("So few are soon memorised: make more, or look at early checkpoints first.")
    if pairs > most:
        told.append("Fewer, excellent ones often do better: one blurred picture spoils ten.")
    told.append(
        f"Guides take {low} to {high} steps per pair, here {low * pairs:,} to {high * pairs:,}; "
        f"this preset takes {config.steps:,}."
    )
    return " ".join(told)


def of_time(config: TrainConfig) -> str:
    told = f"Time, calculated: {seconds_per_step(config):.1f} s per step on an RTX 4090"
    if config.steps:
        told += f", {duration(config)} for {config.steps:,} steps"
        if config.resolution > SMALL:
            told += f", {duration(config.replace(resolution=SMALL))} at resolution {SMALL}"
    return f"{told}; twice that on a 3090."


def of_memory(config: TrainConfig, card: int) -> str:
    if not card:
        return "No graphics card was found: on a CPU only the demo model trains in minutes."
    plans = {
        kind: plan_memory(flux_footprint(config, itemsize), card - TAKEN, config.checkpointing)
        for kind, itemsize in (("fp8", 1), ("bf16", 2))
    }
    told = [f"{kind} {plan.summary()}." for kind, plan in plans.items()]
    if plans["bf16"].streamed:
        told.append("Streamed blocks make a step slower.")
    if plans["fp8"].streamed and config.resolution > SMALL:
        told.append(f"Resolution {SMALL} needs less.")
    return f"Memory, calculated for this card of {card / 2**30:.0f} GB: {' '.join(told)}"


def tokens(config: TrainConfig) -> int:
    """Length of FLUX.1's sequence for a batch of square pictures with one control each."""
    sides = max(config.sides), config.reference_resolution or max(config.sides)
    return config.batch_size * (sum((side // 16) ** 2 for side in sides) + TEXT_TOKENS)


def flux_footprint(config: TrainConfig, itemsize: int) -> Footprint:
    """What a step on FLUX.1-Kontext takes, its weights stored in so many bytes each."""
    return Footprint(
        double=DOUBLE,
        single=SINGLE,
        bytes_per_unit=tokens(config) * HIDDEN * 2,
        weights=PARAMETERS * itemsize,
        movable=PARAMETERS * itemsize,
        largest=LARGEST * itemsize,
        cast_bytes=0 if itemsize == 2 else LARGEST * 2,
        trained=PER_RANK * config.rank * 16,
        parameters=PARAMETERS,
    )


def seconds_per_step(config: TrainConfig) -> float:
    """On an RTX 4090 with all blocks checkpointed: FLUX.1's operations at the speeds above."""
    count = tokens(config)
    linear, attention = 3 * 12.91e9 * count, 4.5 * 700_416 * count**2
    return config.accumulate * (linear / LINEARS + attention / ATTENTION)


def duration(config: TrainConfig) -> str:
    minutes = round(config.steps * seconds_per_step(config) / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"
