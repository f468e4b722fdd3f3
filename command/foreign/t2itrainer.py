"""T2ITrainer's JSON: both sides in one folder, told apart by suffixes (config_template/ there)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...dataset.load import TOGETHER
from ...trainer.runs.job import Job
from .models import model_files, require_trained
from .terms import (
    PRECISIONS,
    SCHEDULES,
    build,
    density,
    optimizer,
    rank,
    resolution,
    source,
    warmup,
)
from .translate import Theirs, mappings, rule

MARKS = {"image_configs", "dataset_configs", "save_name"}
RULES = (
    rule("rank", "rank", to=rank),
    rule("alpha", "rank_alpha"),
    rule("optimizer", "optimizer", to=optimizer),
    rule("learning_rate"),
    rule("schedule", "lr_scheduler", to=SCHEDULES),
    rule("restarts", "cosine_restarts"),
    rule("batch_size", "train_batch_size"),
    rule("accumulate", "gradient_accumulation_steps"),
    rule("caption_dropout"),
    rule("guidance", "guidance_scale"),
    rule("dtype", "mixed_precision", to=PRECISIONS),
    rule("seed"),
)
DENSITIES: dict[str, dict[str, Any]] = {
    "logit_normal": {"timesteps": "logit_normal", "sigma_shift": 1.0},
    "none": {"timesteps": "detail"},
}
IDLE = {
    "always": "script config_path caption_configs.* training_set target_configs.* batch_configs "
    "reference_configs.* image_configs.* logit_mean logit_std mode_scale",
    "cache": "recreate_cache",
    "files": "output_dir resume_from_checkpoint skip_epoch skip_step",
    "log": "report_to logging_dir validation_epochs",
    "memory": "gradient_checkpointing blocks_to_swap allow_tf32",
}


def recognise(content: Mapping[str, Any]) -> bool:
    return len(MARKS & content.keys()) >= 2


def convert(content: Mapping[str, Any], path: Path) -> tuple[Job, list[str]]:
    """The settings as a job, and what of them was not taken over."""
    inner = content.get("dataset_configs") or []
    theirs = Theirs({key: value for key, value in content.items() if key != "dataset_configs"})
    require_trained(content.get("script"), content.get("pretrained_model_name_or_path"))
    holdout = theirs.number("validation_ratio")
    whole = {key: content.get(key) for key in ("train_data_dir", "repeats", "image_configs")}
    sources = []
    for place, dataset in enumerate(mappings(inner or [whole], "dataset_configs"), 1):
        part = Theirs(dataset, f"dataset_configs[{place}]." if inner else "")
        sources.append(pictures(part, holdout))
        if "resolution" in part.left:
            resolution(part, "resolution", [part.left["resolution"]])
        part.close(IDLE)
        theirs.adopt(part)
    theirs.take("train_data_dir", "repeats", "validation_ratio")
    if "resolution" in theirs.left:
        resolution(theirs, "resolution", [theirs.left["resolution"]])
    theirs.apply(RULES)
    if theirs.take("use_lokr"):
        theirs.set("adapter", "lokr", "use_lokr", True)
        theirs.set("lokr_factor", max(0, theirs.number("lokr_factor")), "lokr_factor")
    theirs.take("lokr_factor")
    density(theirs, "weighting_scheme", DENSITIES)
    warmup(theirs, "lr_warmup_steps", None)
    often = max(0, round(theirs.number("save_model_epochs")))
    model = model_files(theirs, theirs.text("pretrained_model_name_or_path"))
    name = theirs.text("save_name") or path.stem
    epochs = round(theirs.number("num_train_epochs"))
    more = {"epochs": epochs, "save_every_epochs": often}
    return build(name, model, sources, theirs, IDLE, **more)


def pictures(part: Theirs, holdout: float) -> dict[str, Any]:
    """A folder's `pairs` entry: controls and target by the suffixes of their names."""
    suffixes = [
        part.take(name)
        for name in [key for key in part.left if key.startswith("image_configs.")]
        if name.endswith(".suffix")
    ]
    entry = source(part, None, part.take("train_data_dir"), part.take("repeats"))
    target, *controls = suffixes or [""]
    if controls:
        sides = [*controls, target]
        entry["pattern"] = " | ".join(f"{{name}}{suffix}" for suffix in sides)
        if len(controls) > 1:
            entry["several_controls"] = TOGETHER
    else:
        entry = {"pictures_folder": entry.pop("control_folder"), **entry}
    return {**entry, "holdout": holdout} if holdout else entry
