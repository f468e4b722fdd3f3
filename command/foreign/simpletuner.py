"""SimpleTuner's config.json with the data backends that it names (documentation/OPTIONS.md and
quickstart/FLUX_KONTEXT.md there)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...language import say
from ...trainer.runs.job import Job, JobError
from .contents import as_list, find_beside, read_content
from .models import model_files, require_trained
from .terms import PRECISIONS, SCHEDULES, build, optimizer, resolution, source, warmup
from .translate import Theirs, mappings, rule

MARKS = {"model_family", "data_backend_config", "model_flavour"}
RULES = (
    rule("rank", "lora_rank"),
    rule("alpha", "lora_alpha", zero_is_off=True),
    rule("dropout", "lora_dropout"),
    rule("optimizer", "optimizer", to=optimizer),
    rule("learning_rate", "learning_rate"),
    rule("schedule", "lr_scheduler", to=SCHEDULES),
    rule("batch_size", "train_batch_size"),
    rule("accumulate", "gradient_accumulation_steps"),
    rule("steps", "max_train_steps", zero_is_off=True),
    rule("save_every", "checkpoint_step_interval", "checkpointing_steps", zero_is_off=True),
    rule("keep", "checkpoints_total_limit"),
    rule("caption_dropout", "caption_dropout_probability"),
    rule("max_grad_norm", "max_grad_norm"),
    rule("dtype", "mixed_precision", to=PRECISIONS),
    rule("seed", "seed"),
    rule("preview_steps", "validation_num_inference_steps"),
)
IDLE = {
    "always": "model_family model_type model_flavour lora_type flux_guidance_* resolution_type "
    "pretrained_model_name_or_path",
    "buckets": "aspect_bucket_* minimum_image_size maximum_image_size target_downsample_size",
    "cache": "vae_batch_size vae_cache_* cache_* compress_disk_cache text_encoder_batch_size",
    "files": "output_dir resume_from_checkpoint",
    "log": "report_to tracker_* validation_* num_eval_images disable_benchmark logging_dir eval_*",
    "memory": "base_model_precision quantize_via gradient_checkpointing* fuse_qkv_projections "
    "attention_mechanism ramtorch* *offload* dataloader_* webhook_*",
    "upload": "push_* hub_*",
}
DATA_IDLE = {
    "always": "id type dataset_type conditioning_type caption_strategy crop* resolution_type "
    "metadata_backend",
    "buckets": IDLE["buckets"],
    "cache": "cache_* vae_cache_* skip_file_discovery",
}


def recognise(content: Mapping[str, Any]) -> bool:
    return bool(MARKS & {key.lstrip("-") for key in content})


def convert(content: Mapping[str, Any], path: Path) -> tuple[Job, list[str]]:
    """The settings as a job, and what of them was not taken over."""
    theirs = Theirs({key.lstrip("-"): value for key, value in content.items()})
    left = theirs.left
    require_trained(left.get("model_family"), left.get("model_flavour"))
    if str(left.get("lora_type", "standard")) != "standard" or left.get("model_type") == "full":
        raise JobError(
            say(
                "{name} is {value}; this trainer has {choices}.",
                name="lora_type", value=left.get("lora_type", left.get("model_type")),
                choices="lora, dora, lokr, loha",
            )
        )  # fmt: skip
    flavour = theirs.text("model_flavour")
    sources = pictures(theirs, path)
    if "resolution" in left:
        sizes = as_list(left["resolution"])
        resolution(theirs, "resolution", sizes)
    theirs.apply(RULES)
    if theirs.take("use_dora"):
        theirs.set("adapter", "dora", "use_dora", True)
    if theirs.take("use_ema"):
        theirs.apply([rule("ema", "ema_decay")])
    epochs = round(theirs.number("num_train_epochs")) if "steps" not in theirs.config else 0
    warmup(theirs, "lr_warmup_steps", theirs.config.get("steps"))
    name = theirs.text("tracker_run_name") or path.parent.name
    family = str(left.get("model_family") or "")
    other = re.search(r"flux[\W_]*2|klein|qwen", family, re.IGNORECASE)
    name_of_model = f"{family} {flavour}" if other else f"FLUX.1-{flavour or 'dev'}"
    model = model_files(theirs, name_of_model)
    return build(name, model, sources, theirs, IDLE, epochs=epochs)


def pictures(theirs: Theirs, path: Path) -> list[dict[str, Any]]:
    """The `pairs` entries: each data set of pictures with the ones that condition it."""
    named = theirs.text("data_backend_config")
    backends = mappings(read_content(find_beside(path, named, "data_backend_config")), named)
    folders = {each.get("id"): each.get("instance_data_dir") for each in backends}
    controls = {name for each in backends for name in as_list(each.get("conditioning_data") or [])}
    sources = []
    for place, backend in enumerate(backends, 1):
        kind = str(backend.get("dataset_type") or "image")
        if kind != "image" or backend.get("disabled") or backend.get("id") in controls:
            continue
        part = Theirs(backend, f"{Path(named).name}[{place}].")
        wanted = as_list(part.take("conditioning_data", default=[]))
        repeats = int(part.number("repeats")) + 1  # theirs counts what comes after the first time
        befores = [folders.get(name) for name in wanted]
        caption = part.take("instance_prompt")
        sources.append(source(part, befores, part.take("instance_data_dir"), repeats, caption))
        part.take("resolution")
        part.close(DATA_IDLE)
        theirs.adopt(part)
    return sources
