"""Command lines of diffusers' examples/dreambooth/train_dreambooth_lora_flux_kontext.py, and of
the script for FLUX.1-dev beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...trainer.runs.job import Job
from .contents import SCRIPT
from .models import model_files, require_trained
from .terms import PRECISIONS, SCHEDULES, build, density, optimizer, resolution, source, warmup
from .translate import Theirs, rule

RULES = (
    rule("rank"),
    rule("alpha", "lora_alpha"),
    rule("dropout", "lora_dropout"),
    rule("optimizer", "optimizer", to=optimizer),
    rule("learning_rate"),
    rule("weight_decay", "adam_weight_decay"),
    rule("beta1", "adam_beta1"),
    rule("beta2", "adam_beta2"),
    rule("schedule", "lr_scheduler", to=SCHEDULES),
    rule("restarts", "lr_num_cycles"),
    rule("batch_size", "train_batch_size"),
    rule("accumulate", "gradient_accumulation_steps"),
    rule("steps", "max_train_steps"),
    rule("save_every", "checkpointing_steps"),
    rule("keep", "checkpoints_total_limit"),
    rule("max_grad_norm"),
    rule("guidance", "guidance_scale"),
    rule("dtype", "mixed_precision", to=PRECISIONS),
    rule("seed"),
)
DENSITIES: dict[str, dict[str, Any]] = {
    "none": {"timesteps": "detail"},
    "logit_normal": {"timesteps": "logit_normal", "sigma_shift": 1.0},
}
IDLE = {
    "always": "script vae_encode_mode max_sequence_length",
    "buckets": "aspect_ratio_buckets",
    "cache": "cache_latents",
    "files": "output_dir resume_from_checkpoint",
    "log": "report_to validation_* num_validation_images logging_dir",
    "memory": "gradient_checkpointing offload allow_tf32 dataloader_num_workers upcast_* "
    "num_processes enable_*",
    "upload": "push_to_hub hub_*",
}


def recognise(content: Mapping[str, Any]) -> bool:
    script = str(content.get(SCRIPT, ""))
    return script.startswith("train_dreambooth") or "cond_image_column" in content


def convert(content: Mapping[str, Any], path: Path) -> tuple[Job, list[str]]:
    """The options as a job, and what of them was not taken over."""
    theirs = Theirs(content)
    require_trained(content.get(SCRIPT), content.get("pretrained_model_name_or_path"))
    folder = theirs.take("instance_data_dir", "dataset_name")
    caption, repeats = theirs.take("instance_prompt"), theirs.take("repeats")
    sources = [source(theirs, None, folder, repeats, caption)]
    if "resolution" in theirs.left:
        resolution(theirs, "resolution", [theirs.left["resolution"]])
    if theirs.take("use_8bit_adam"):
        theirs.left["optimizer"] = "adamw8bit"
    theirs.apply(RULES)
    theirs.default("rank", 4)
    theirs.default("alpha", 4.0)
    theirs.default("schedule", "constant")
    density(theirs, "weighting_scheme", DENSITIES)
    epochs = round(theirs.number("num_train_epochs")) if "steps" not in theirs.config else 0
    warmup(theirs, "lr_warmup_steps", theirs.config.get("steps"))
    model = model_files(theirs, theirs.text("pretrained_model_name_or_path"))
    return build(path.stem, model, sources, theirs, IDLE, epochs=epochs)
