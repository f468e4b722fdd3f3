"""ai-toolkit's jobs: YAML by hand, JSON from its page (config/examples/*kontext*.yaml there)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...language import say
from ...trainer.runs.job import Job, JobError
from .contents import as_list
from .models import model_files, require_trained
from .terms import (
    ADAPTERS,
    FULL_RANK,
    LOSSES,
    PRECISIONS,
    SCHEDULES,
    build,
    density,
    optimizer,
    resolution,
    source,
)
from .translate import Theirs, mappings, rule

TRAINERS = ("sd_trainer", "ui_trainer", "diffusion_trainer")  # types of process that train a LoRA
RULES = (
    rule("adapter", "network.type", to=ADAPTERS),
    rule("rank", "network.linear", "network.rank"),
    rule("dropout", "network.dropout"),
    rule("save_dtype", "save.dtype", to=PRECISIONS),
    rule("save_every", "save.save_every", zero_is_off=True),
    rule("keep", "save.max_step_saves_to_keep"),
    rule("batch_size", "train.batch_size"),
    rule("steps", "train.steps"),
    rule("seed", "train.seed"),
    rule("max_grad_norm", "train.max_grad_norm"),
    rule("accumulate", "train.gradient_accumulation_steps", "train.gradient_accumulation"),
    rule("optimizer", "train.optimizer", to=optimizer),
    rule("learning_rate", "train.lr"),
    rule("weight_decay", "train.optimizer_params.weight_decay"),
    rule("schedule", "train.lr_scheduler", to=SCHEDULES),
    rule("dtype", "train.dtype", to=PRECISIONS),
    rule("loss", "train.loss_type", to=LOSSES),
    rule("preview_steps", "sample.sample_steps"),
)
DATA_RULES = (
    rule("caption_dropout", "caption_dropout_rate"),
    rule("flip", "flip_x"),
    rule("outside_mask", "mask_min_value"),
)
# Plain sigmoid is not shifted; `weighted` draws evenly, and weighs the loss a little
DENSITIES: dict[str, dict[str, Any]] = {
    "sigmoid": {"timesteps": "logit_normal", "sigma_shift": 1.0},
    "linear": {"timesteps": "detail"},
    "weighted": {"timesteps": "detail"},
    "shift": {"timesteps": "balanced"},
}
IDLE = {
    "always": "type train.train_unet train.noise_scheduler train.content_or_style model.arch "
    "model.is_flux network.transformer_only save.save_format",
    "cache": "train.cache_text_embeddings",
    "files": "training_folder sqlite_db_path",
    "log": "performance_log_every log_dir logging.* train.skip_first_sample sample.* "
    "train.force_first_sample",
    "memory": "device train.gradient_checkpointing train.unload_text_encoder model.quantize* "
    "model.qtype* model.low_vram model.layer_offloading* model.auto_memory model.compile "
    "model.dtype",
    "other": "network.conv*",
    "rank": "network.linear_alpha network.alpha",
    "upload": "save.push_to_hub save.hf_*",
}
DATA_IDLE = {
    "always": "type num_frames network_weight",
    "buckets": "buckets bucket_tolerance enable_ar_bucket",
    "cache": "cache_latents* cache_text_embeddings",
    "memory": "num_workers prefetch_factor",
    "other": "shrink_video_to_frames do_i2v do_audio fps",
}


def recognise(content: Mapping[str, Any]) -> bool:
    config = content.get("config")
    return isinstance(config, Mapping) and "process" in config


def convert(content: Mapping[str, Any]) -> tuple[Job, list[str]]:
    """The first process as a job, and what of the file was not taken over."""
    processes = mappings(content["config"]["process"] or {}, "config.process") or [{}]
    process, *more = processes
    kind = str(process.get("type") or TRAINERS[0])
    if kind not in TRAINERS or not process.get("network"):
        raise JobError(
            say(
                "This ai-toolkit job ({kind}) does not train a LoRA: it needs `network`, and one "
                "of the types {trainers}.",
                kind=kind, trainers=", ".join(TRAINERS),
            )
        )  # fmt: skip
    theirs = Theirs({key: value for key, value in process.items() if key != "datasets"})
    theirs.remarks += [say("a second process: {kind}", kind=each.get("type")) for each in more]
    arch = theirs.left.get("model.arch")
    require_trained(arch, theirs.left.get("model.name_or_path"))
    trigger = theirs.text("trigger_word")
    sources = []
    for number, dataset in enumerate(mappings(process.get("datasets") or [], "datasets"), 1):
        part = Theirs(dataset, f"datasets[{number}].")
        sources.append(pictures(part, trigger))
        part.apply(DATA_RULES)
        if "resolution" in part.left:
            resolution(part, "resolution", as_list(part.left["resolution"]))
        part.close(DATA_IDLE)
        theirs.adopt(part)
    theirs.apply(RULES)
    theirs.default("schedule", "constant")
    adapter(theirs)
    rate(theirs)
    betas = as_list(theirs.take("train.optimizer_params.betas", default=[]))
    for ours, beta in zip(("beta1", "beta2"), betas, strict=False):
        theirs.set(ours, beta, "train.optimizer_params.betas", betas)
    density(theirs, "train.timestep_type", DENSITIES)
    if theirs.take("train.ema_config.use_ema"):
        theirs.apply([rule("ema", "train.ema_config.ema_decay")])
    theirs.take("train.ema_config.ema_decay")
    if theirs.take("train.disable_sampling"):
        theirs.config["preview_steps"] = 0
    model = model_files(theirs, theirs.text("model.name_or_path"), family=arch)
    start = theirs.text("network.pretrained_lora_path")
    name = str(content["config"].get("name") or "ai_toolkit").replace("[trigger]", trigger)
    return build(name, model, sources, theirs, IDLE, start=start)


def pictures(part: Theirs, trigger: str) -> dict[str, Any]:
    """A data set's `pairs` entry."""
    numbered = [part.take(f"control_path_{number}") for number in (1, 2, 3)]
    control = part.take("control_path")
    if part.take("invert_mask"):
        raise JobError(
            say(
                "{name} is on: there black parts of a mask are learnt, here white ones. Invert "
                "the masks, and remove this line.",
                name=f"{part.where}invert_mask",
            )
        )
    if "mask_path" in part.left:
        part.config["outside_mask"] = 0.0  # theirs, unless mask_min_value says more
    if str(part.left.get("caption_ext")).lstrip(".") in ("txt", "caption", "json"):
        part.take("caption_ext")
    return source(
        part,
        [each for each in numbered if each] or control,
        part.take("folder_path", "dataset_path"),
        part.take("num_repeats"),
        part.take("default_caption"),
        trigger=part.text("trigger_word") or trigger,
        mask_folder=part.take("mask_path"),
    )


def adapter(theirs: Theirs) -> None:
    """LoKr's size. Theirs is of full rank unless the file says otherwise."""
    factor = theirs.number("network.lokr_factor") if "network.lokr_factor" in theirs.left else -1
    full = theirs.take("network.lokr_full_rank", default=True)
    if theirs.config.get("adapter") != "lokr":
        return
    theirs.set("lokr_factor", max(0, factor), "network.lokr_factor", factor)
    if full:
        theirs.set("rank", FULL_RANK, "network.lokr_full_rank", 1)
        theirs.remark(
            "network.lokr_full_rank", full, say("here the rank is at most {most}", most=FULL_RANK)
        )


def rate(theirs: Theirs) -> None:
    """ai-toolkit itself takes 1 for Prodigy where the file has the rate of another optimiser."""
    given = theirs.config.get("learning_rate", 1.0)
    if theirs.config.get("optimizer") == "prodigy" and given < 0.1:
        theirs.set("learning_rate", 1.0, "train.lr", given)
        theirs.remark("train.lr", given, say("1 for Prodigy, as in ai-toolkit"))
