"""diffusion-pipe's TOML: settings, and the file of directories that `dataset` names
(examples/main_example.toml and flux_kontext_dataset.toml there)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...trainer.runs.job import Job
from .contents import as_list, beside
from .models import model_files, require_trained
from .terms import (
    ADAPTERS,
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

RULES = (
    rule("adapter", "adapter.type", to=ADAPTERS),
    rule("rank", "adapter.rank", to=rank),
    rule("dropout", "adapter.dropout"),
    rule("optimizer", "optimizer.type", to=optimizer),
    rule("learning_rate", "force_constant_lr", "optimizer.lr"),
    rule("weight_decay", "optimizer.weight_decay"),
    rule("schedule", "lr_scheduler", to=SCHEDULES),
    rule("batch_size", "micro_batch_size_per_gpu"),
    rule("accumulate", "gradient_accumulation_steps"),
    rule("max_grad_norm", "gradient_clipping"),
    rule("steps", "max_steps", zero_is_off=True),
    rule("save_every", "save_every_n_steps", zero_is_off=True),
    rule("save_dtype", "save_dtype", to=PRECISIONS),
    rule("dtype", "model.dtype", to=PRECISIONS),
    rule("seed", "seed"),
)
DENSITIES: dict[str, dict[str, Any]] = {
    "logit_normal": {"timesteps": "logit_normal", "sigma_shift": 1.0},
    "uniform": {"timesteps": "detail"},
}
IDLE = {
    "always": "model.type adapter.dtype model.guidance caching_batch_size steps_per_print",
    "buckets": "enable_ar_bucket min_ar max_ar num_ar_buckets ar_buckets *_ar_bucket*",
    "cache": "map_num_proc",
    "files": "output_dir checkpoint_every_n_*",
    "log": "monitoring.* x_axis_examples logging_steps eval_* disable_block_swap_for_eval",
    "memory": "activation_checkpointing reentrant_* pipeline_stages partition_* blocks_to_swap "
    "compile model.transformer_dtype optimizer.stabilize optimizer.gradient_release",
    "other": "video_clip_mode frame_buckets image_micro_batch_size_per_gpu",
}


def recognise(content: Mapping[str, Any]) -> bool:
    return "directory" in content or ({"dataset", "model", "optimizer"} <= content.keys())


def convert(content: Mapping[str, Any], path: Path) -> tuple[Job, list[str]]:
    """The settings as a job, and what of them was not taken over."""
    named = content.get("dataset")
    theirs = Theirs({key: value for key, value in content.items() if named and key != "dataset"})
    require_trained(theirs.left.get("model.type"), theirs.left.get("model.transformer_path"))
    pairs = beside(path, str(named), "dataset") if named else dict(content)
    shared = {key: value for key, value in pairs.items() if key != "directory"}
    sources = []
    for place, directory in enumerate(mappings(pairs.get("directory") or [], "directory"), 1):
        part = Theirs({**shared, **directory}, f"directory[{place}].")
        entry = source(
            part,
            part.take("control_path"),
            part.take("path"),
            part.take("num_repeats"),
            mask_folder=part.take("mask_path"),
        )
        sources.append(entry)
        if "resolutions" in part.left:
            resolution(part, "resolutions", as_list(part.left["resolutions"]))
        part.close(IDLE)
        theirs.adopt(part)
    betas = as_list(theirs.take("optimizer.betas", default=[]))
    for name, value in zip(("beta1", "beta2"), betas, strict=False):
        theirs.set(name, value, "optimizer.betas", betas)
    theirs.apply(RULES)
    theirs.default("schedule", "constant")
    if theirs.take("model.flux_shift"):
        theirs.set("timesteps", "balanced", "model.flux_shift", True)
        theirs.take("model.timestep_sample_method")
    density(theirs, "model.timestep_sample_method", DENSITIES)
    epochs = round(theirs.number("epochs")) if "steps" not in theirs.config else 0
    theirs.take("epochs")
    warmup(theirs, "warmup_steps", theirs.config.get("steps"))
    often = round(theirs.number("save_every_n_epochs"))
    folder = theirs.text("model.diffusers_path")
    kind = (content.get("model") or {}).get("type")
    path_or_name = theirs.text("model.transformer_path", "model.diffusion_model") or folder
    model = model_files(theirs, path_or_name, family=kind)
    start = theirs.text("adapter.init_from_existing")
    more = {"epochs": epochs, "save_every_epochs": often, "start": start}
    return build(path.stem, model, sources, theirs, IDLE, **more)
