"""Advice on a preset for a number of pairs and a graphics card.

Times and memory are calculated, not measured: for FLUX.1, and the others in relation to it with
8-bit weights, as in docs/guide/training.md.
"""

from __future__ import annotations

from ..language import language, say
from .config import FEWEST_STEPS, STEPS_PER_PAIR, TrainConfig
from .families.flux1 import Flux1
from .memory import Footprint, plan_memory
from .presets import PRESETS, Preset

# FLUX.1: blocks, width, parameters; values in its largest linear, and in one rank of a LoRA
DOUBLE, SINGLE, HIDDEN, PARAMETERS = 19, 38, 3072, 11_900_000_000
LARGEST, PER_RANK = 21504 * 3072, 3_500_000
TEXT_TOKENS = 256
# Dense bf16 operations per second that an RTX 4090 reaches in linears and in attention
LINEARS, ATTENTION = 0.65 * 165e12, 0.5 * 165e12
SMALL = 512  # the resolution to fall back on
TAKEN = int(1.5e9)  # bytes of a card that the desktop and ComfyUI use


def advice(name: str, config: TrainConfig, pairs: int, card: int) -> str:
    """The reasons for these settings, and what to expect with this number of pairs (0: unknown) and
    a card of this many bytes (0: none)."""
    preset = PRESETS[name]
    text = preset.texts[language()]
    if pairs:
        config = config.settled(pairs, full_model=True)
    why = say("{title}: {why}", title=text["title"].capitalize(), why=text["why"])
    parts = (
        advice_on_pairs(preset, config, pairs),
        advice_on_time(config),
        advice_on_memory(config, card),
        sentences(why, text["hint"]),
        say("All of this is advice: change what you like."),
    )
    return "\n".join(parts)


def advice_on_pairs(preset: Preset, config: TrainConfig, pairs: int) -> str:
    fewest, most = preset.pairs
    low, high = STEPS_PER_PAIR, STEPS_PER_PAIR * 3 // 2
    if not pairs:
        return say(
            "Pairs: {fewest} to {most} are usual. Connect the pairs to have them counted; "
            "automatic steps are {low} per pair, at least {least:,}.",
            fewest=fewest, most=most, low=low, least=FEWEST_STEPS,
        )  # fmt: skip
    parts = [
        say(
            "Pairs: {pairs} to train on; {fewest} to {most} are usual.",
            pairs=pairs, fewest=fewest, most=most,
        )
    ]  # fmt: skip
    if pairs < fewest:
        parts.append(
            say("So few are quickly memorised: make more, or look at early checkpoints first.")
        )
    if pairs > most:
        parts.append(
            say("Fewer but excellent ones often do better: one blurred picture spoils ten.")
        )
    parts.append(
        say(
            "Guides take {low} to {high} steps per pair, here {least:,} to {most:,}; this preset "
            "takes {steps:,}.",
            low=low, high=high, least=low * pairs, most=high * pairs, steps=config.steps,
        )
    )  # fmt: skip
    return sentences(*parts)


def advice_on_time(config: TrainConfig) -> str:
    seconds = seconds_per_step(config)
    parts = [
        say(
            "Time, calculated for FLUX.1 on an RTX 4090: {seconds:.2g} s per step.", seconds=seconds
        )
    ]
    if config.steps:
        time = duration(config)
        parts.append(say("{steps:,} steps take {time}.", steps=config.steps, time=time))
        if max(config.sides) > SMALL:
            time = duration(config.replace(resolution=SMALL))
            parts.append(say("At resolution {small}, they take {time}.", small=SMALL, time=time))
    others = say(
        "FLUX.2 Klein 4B takes half the time and 8 GB less; 9B and Qwen-Image take as long, "
        "Qwen-Image 9 GB more."
    )
    return sentences(*parts, say("A 3090 takes twice as long."), others)


def advice_on_memory(config: TrainConfig, card: int) -> str:
    if not card:
        return say("No graphics card was found: on a CPU only the demo model trains in minutes.")
    plans = {
        kind: plan_memory(flux_footprint(config, itemsize), card - TAKEN, config.checkpointing)
        for kind, itemsize in (("fp8", 1), ("bf16", 2))
    }
    parts = [
        say(
            "Memory, calculated for FLUX.1 on this card of {size:.0f} GB: fp8 {fp8}; bf16 {bf16}.",
            size=card / 2**30, fp8=plans["fp8"].summary(), bf16=plans["bf16"].summary(),
        )
    ]  # fmt: skip
    if plans["bf16"].streamed:
        parts.append(say("Streamed blocks make a step slower."))
    if plans["fp8"].streamed and max(config.sides) > SMALL:
        parts.append(say("Resolution {small} needs less.", small=SMALL))
    return sentences(*parts)


def sentences(*parts: str) -> str:
    """One paragraph; Chinese has no spaces between sentences."""
    return ("" if language() == "zh" else " ").join(filter(None, parts))


def tokens(config: TrainConfig) -> int:
    """Length of FLUX.1's sequence for a batch of square pictures with one control each."""
    sides = max(config.sides), config.reference_resolution or max(config.sides)
    return config.batch_size * (sum((side // 16) ** 2 for side in sides) + TEXT_TOKENS)


def flux_footprint(config: TrainConfig, itemsize: int) -> Footprint:
    """Memory of a step on FLUX.1-Kontext whose weights are stored in `itemsize` bytes each."""
    double, single = Flux1.kinds
    return Footprint(
        kinds=((DOUBLE, double.kept), (SINGLE, single.kept)),
        bytes_per_unit=tokens(config) * HIDDEN * 2,
        weights=PARAMETERS * itemsize,
        movable=PARAMETERS * itemsize,
        largest=LARGEST * itemsize,
        cast_bytes=0 if itemsize == 2 else LARGEST * 2,
        trained=PER_RANK * config.rank * 16,
        parameters=PARAMETERS,
        transient_units=Flux1.transient + Flux1.ends,
    )


def seconds_per_step(config: TrainConfig) -> float:
    """On an RTX 4090 with all blocks checkpointed: FLUX.1's operations at the speeds above."""
    count = tokens(config)
    linear, attention = 3 * 12.91e9 * count, 4.5 * 700_416 * count**2
    return config.accumulate * (linear / LINEARS + attention / ATTENTION)


def duration(config: TrainConfig) -> str:
    minutes = round(config.steps * seconds_per_step(config) / 60)
    if minutes < 90:
        return say("{minutes} min", minutes=minutes)
    return say("{hours} h {minutes:02} min", hours=minutes // 60, minutes=minutes % 60)
