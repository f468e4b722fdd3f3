"""Terms that several trainers share: optimisers, schedules, precisions, noise densities."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from ...dataset.load import TOGETHER
from ...dataset.split import HOLDOUT
from ...language import say
from ...trainer.runs.job import Job, JobError
from .models import edits
from .translate import Nearest, Theirs, is_set

OPTIMIZERS = {
    "adamw": "adamw", "adamwbf16": "adamw", "adamwoptimi": "adamw", "optimiadamw": "adamw",
    "pagedadamw": "adamw", "pagedadamw32bit": "adamw", "adamw8": "adamw8bit",
    "adamw8bit": "adamw8bit", "bnbadamw8bit": "adamw8bit", "adamw8bitkahan": "adamw8bit",
    "pagedadamw8bit": "adamw8bit", "prodigy": "prodigy", "prodigyopt": "prodigy",
    "adafactor": "adafactor", "lion": "lion", "optimilion": "lion", "came": "came",
    "adamwschedulefree": "schedulefree", "schedulefreeadamw": "schedulefree",
    "prodigyplusschedulefree": "prodigyplus",
}  # fmt: skip
# The closest of ours, for which the learning rate has the same meaning
NEAREST_OPTIMIZERS = {
    "prodigy8bit": "prodigy", "prodigyadv": "prodigy", "prodigyschedulefree": "prodigyplus",
    "dadaptation": "prodigy", "dadaptadam": "prodigy", "dadaptadampreprint": "prodigy",
    "dadaptadan": "prodigy", "dadaptlion": "prodigy", "dadaptationlion": "prodigy",
    "dadaptationadam": "prodigy", "adam": "adamw", "adam8": "adamw8bit", "adam8bit": "adamw8bit",
    "adamwadv": "adamw", "stableadamw": "adamw", "optimistableadamw": "adamw", "radam": "adamw",
    "nadam": "adamw", "adamwfp8": "adamw8bit", "aoadamwfp8": "adamw8bit",
    "aoadamw8bit": "adamw8bit", "aoadamw4bit": "adamw8bit", "ademamix": "adamw",
    "ademamix8bit": "adamw8bit", "adopt": "adamw", "adoptadv": "adamw", "lion8bit": "lion",
    "pagedlion8bit": "lion", "lionadv": "lion", "bnblion8bit": "lion", "came8bit": "came",
    "radamschedulefree": "schedulefree",
}  # fmt: skip
SCHEDULES: dict[str, Any] = {
    "constant": "constant", "constant_with_warmup": "constant", "cosine": "cosine",
    "cosine_with_restarts": "cosine_restarts", "linear": "linear", "polynomial": "polynomial",
    "cosine_with_hard_restarts": "cosine_restarts", "cosineannealinglr": Nearest("cosine"),
    "cosine_with_min_lr": Nearest("cosine"), "cosine_annealing": Nearest("cosine"),
    "cosine_annealing_warm_restarts": Nearest("cosine_restarts"),
}  # fmt: skip
PRECISIONS = {
    "bf16": "bf16", "bfloat16": "bf16", "bfloat_16": "bf16", "fp16": "fp16", "float16": "fp16",
    "float_16": "fp16", "fp32": "fp32", "float32": "fp32", "float_32": "fp32", "float": "fp32",
    "no": "fp32",
}  # fmt: skip
LOSSES: dict[str, Any] = {
    "l2": "mse", "mse": "mse", "huber": "huber", "smooth_l1": Nearest("huber"),
    "pseudo_huber": Nearest("huber"),
}  # fmt: skip
ADAPTERS = {
    "lora": "lora", "locon": "lora", "dora": "dora", "lokr": "lokr", "loha": "loha",
    "standard": "lora", "kohya locon": "lora", "kohya lokr": "lokr", "kohya loha": "loha",
}  # fmt: skip


FULL_RANK = 256
"""Our largest rank. For LoKr, other trainers write 10,000 and the like for full rank."""
ENDLESS = 1000


def rank(value: Any) -> Any:
    """Their rank; one that stands for full rank is our largest."""
    try:
        size = float(value)
    except (TypeError, ValueError):
        return value  # reported later
    return FULL_RANK if size >= ENDLESS else value


def require_full_rank(theirs: Theirs) -> None:
    """For a LoKr of full rank, note our largest rank, with scale 1; JobError for a LoRA."""
    name, value = theirs.origin.get("rank", ("", 0))
    if theirs.config.get("rank") != FULL_RANK or float(value) < ENDLESS:
        return
    if theirs.config.get("adapter") != "lokr":
        raise JobError(
            say(
                "{name} is {value}; the rank is at most {most}.",
                name=name,
                value=value,
                most=FULL_RANK,
            )
        )
    theirs.config.pop("alpha", None)
    theirs.remark(name, value, say("here the rank is at most {most}", most=FULL_RANK))


def optimizer(value: Any) -> str | Nearest | None:
    """Ours for "AdamW8bit", "paged_adamw_8bit", "bitsandbytes.optim.AdEMAMix8bit", …"""
    name = re.sub(r"[\s_-]", "", str(value).rpartition(".")[2]).lower()
    near = NEAREST_OPTIMIZERS.get(name)
    return OPTIMIZERS.get(name) or (Nearest(near) if near else None)


def side(value: Any) -> int | None:
    """Side of the square with the area of "768,1024", [768, 1024] or 768, in steps of 16."""
    parts = re.split(r"[,x×*]", value) if isinstance(value, str) else value
    try:
        sides = [float(part) for part in (parts if isinstance(parts, list) else [parts])]
        return round(math.sqrt(sides[0] * sides[-1]) / 16) * 16
    except (TypeError, ValueError, IndexError, OverflowError):
        return None


def resolution(theirs: Theirs, name: str, sizes: list[Any]) -> None:
    """One resolution or several, each of them as `side` reads it."""
    sides = [side(each) for each in sizes]
    if None in sides:
        theirs.origin["resolution"] = name, None
        return
    theirs.set("resolution", sides, name, theirs.take(name))


def warmup(theirs: Theirs, name: str, steps: Any) -> None:
    """Steps of warm-up; a value below 1 is a share of all steps, if their number is known."""
    if name not in theirs.left:
        return
    value = theirs.left[name]
    amount = theirs.number(name)
    if 0 < amount < 1 and not steps:
        theirs.left[name] = value
    else:
        theirs.set("warmup_steps", round(amount if amount >= 1 else amount * (steps or 0)), name)


def density(theirs: Theirs, name: str, known: Mapping[str, Mapping[str, Any]]) -> None:
    """Translate the name of their noise density into our settings."""
    value = theirs.left.get(name)
    if not is_set(value):
        return
    ours = known.get(str(value).lower())
    if ours is None:
        theirs.origin["timesteps"] = name, None
        return
    theirs.take(name)
    for setting, amount in ours.items():
        theirs.set(setting, amount, name, value)


def source(
    theirs: Theirs,
    control: Any,
    target: Any,
    repeats: Any = None,
    caption: Any = None,
    **more: Any,
) -> dict[str, Any]:
    """A `pairs` entry; Kontext's one folder alone must hold both sides. JobError if it has none."""
    if not is_set(target):
        raise JobError(
            say("{where} names no folder of pictures.", where=theirs.where.rstrip(".") or "`pairs`")
        )
    controls = [str(each) for each in (control if isinstance(control, list) else [control]) if each]
    entry: dict[str, Any] = {"control_folder": "|".join(controls)} if controls else {}
    entry["target_folder" if controls else "control_folder"] = target
    if len(controls) > 1:
        entry["several_controls"] = TOGETHER
    entry |= {"repeats": None if str(repeats) == "1" else repeats, "default_caption": caption}
    found = {key: value for key, value in (entry | more).items() if is_set(value)}
    # other trainers hold nothing out; without it no checkpoint can be judged
    return found | {"holdout": HOLDOUT}


def single(entry: dict[str, Any]) -> dict[str, Any]:
    """A `pairs` entry of single pictures, for models that do not edit."""
    return {"pictures_folder" if k == "control_folder" else k: v for k, v in entry.items()}


def build(
    name: str,
    model: Mapping[str, Any],
    sources: list[dict[str, Any]],
    theirs: Theirs,
    idle: Mapping[str, str],
    **more: Any,
) -> tuple[Job, list[str]]:
    """The job from the translated settings, and the settings not taken over."""
    theirs.settle()
    require_full_rank(theirs)
    if not edits(model):
        sources = [entry if "target_folder" in entry else single(entry) for entry in sources]
    content = {"name": name, "model": model, "pairs": sources, "config": theirs.config, **more}
    job = Job.parse({key: value for key, value in content.items() if value})
    theirs.close(idle)
    return job, theirs.lines()
