"""OneTrainer's JSON: presets, and the configuration that its page saves, with its concepts
(modules/util/config/TrainConfig.py there). It trains FLUX.1-dev from single pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...language import say
from ...trainer.runs.job import Job, JobError
from .contents import find_beside, read_content
from .models import model_files, require_trained
from .terms import PRECISIONS, SCHEDULES, build, density, optimizer, resolution, source, warmup
from .translate import Theirs, mappings, rule

RULES = (
    rule("adapter", "peft_type", to={"lora": "lora", "loha": "loha", "lokr": "lokr"}),
    rule("rank", "lora_rank"),
    rule("alpha", "lora_alpha"),
    rule("optimizer", "optimizer.optimizer", to=optimizer),
    rule("learning_rate", "learning_rate"),
    rule("weight_decay", "optimizer.weight_decay"),
    rule("beta1", "optimizer.beta1"),
    rule("beta2", "optimizer.beta2"),
    rule("schedule", "learning_rate_scheduler", to=SCHEDULES),
    rule("batch_size", "batch_size"),
    rule("accumulate", "gradient_accumulation_steps"),
    rule("max_grad_norm", "clip_grad_norm"),
    rule("dtype", "train_dtype", to=PRECISIONS),
    rule("save_dtype", "output_dtype", to=PRECISIONS),
    rule("dropout", "dropout_probability"),
    rule("outside_mask", "unmasked_weight"),
)
DENSITIES: dict[str, dict[str, Any]] = {
    "logit_normal": {"timesteps": "logit_normal", "sigma_shift": 1.0},
    "uniform": {"timesteps": "detail"},
}
IDLE = {
    "always": "training_method model_type output_model_format transformer.train *.model_name "
    "__version",
    "buckets": "aspect_ratio_bucketing",
    "cache": "latent_caching clear_cache_before_training",
    "files": "workspace_dir cache_dir output_model_destination backup_* rolling_backup*",
    "log": "tensorboard* sample* validat* save_filename_prefix samples_* non_ema_sampling",
    "memory": "*.weight_dtype *device* dataloader_threads gradient_checkpointing* "
    "enable_autocast_cache *offload* fallback_train_dtype compile optimizer.*",
    "other": "text_encoder* vae.* unet.* prior.* effnet* decoder* embedding* vb_loss_strength "
    "frames lokr_* oft_*",
    "upload": "cloud.* secrets.*",
}


def recognise(content: Mapping[str, Any]) -> bool:
    return {"training_method", "model_type"} <= content.keys()


def convert(content: Mapping[str, Any], path: Path) -> tuple[Job, list[str]]:
    """The settings as a job, and what of them was not taken over."""
    concepts = content.get("concepts")
    theirs = Theirs({key: value for key, value in content.items() if key != "concepts"})
    require_trained(theirs.left.get("model_type"), theirs.left.get("base_model_name"))
    if theirs.left.get("training_method") != "LORA":
        raise JobError(
            say(
                "{name} is {value}; this trainer has {choices}.",
                name="training_method", value=theirs.left["training_method"], choices="LORA",
            )
        )  # fmt: skip
    named = theirs.text("concept_file_name")
    if concepts is None and named:
        concepts = read_content(find_beside(path, named, "concept_file_name"))
    sources = []
    for place, concept in enumerate(mappings(concepts or [], "concepts"), 1):
        if concept.get("enabled", True):
            part = Theirs(concept, f"concepts[{place}].")
            repeats = part.take("balancing")
            sources.append(source(part, None, part.take("path"), repeats))
    if not sources:
        raise JobError(
            say(
                "This file of OneTrainer names no pictures: save the configuration with its "
                "concepts there, or put its concepts.json beside it."
            )
        )
    sizes = str(theirs.left.get("resolution") or "")
    if sizes:
        resolution(theirs, "resolution", sizes.split(","))
    theirs.apply(RULES)
    theirs.default("schedule", "constant")
    theirs.default("alpha", 1.0)
    theirs.default("rank", 16)
    if theirs.take("dynamic_timestep_shifting"):
        theirs.set("timesteps", "balanced", "dynamic_timestep_shifting", True)
        theirs.take("timestep_distribution")
    density(theirs, "timestep_distribution", DENSITIES)
    if theirs.take("lora_decompose"):
        theirs.set("adapter", "dora", "lora_decompose", True)
    if str(theirs.take("ema", default="OFF")) != "OFF":
        theirs.apply([rule("ema", "ema_decay")])
    theirs.take("ema_decay")
    epochs = round(theirs.number("epochs"))
    warmup(theirs, "learning_rate_warmup_steps", None)
    model = model_files(theirs, theirs.text("base_model_name"))
    start = theirs.text("lora_model_name")
    return build(path.stem.lstrip("#"), model, sources, theirs, IDLE, epochs=epochs, start=start)
