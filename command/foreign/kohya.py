"""Files for kohya's sd-scripts, of musubi-tuner, lora-scripts and FluxGym, which all speak alike.

Settings are flat or in sections whose names mean nothing; pairs are in `datasets`, in a file that
`dataset_config` names, or in one folder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...language import say
from ...trainer.runs.job import Job, JobError
from .contents import as_list, beside
from .models import model_files, require_trained
from .terms import (
    ADAPTERS,
    LOSSES,
    PRECISIONS,
    SCHEDULES,
    build,
    density,
    optimizer,
    rank,
    resolution,
    side,
    source,
    warmup,
)
from .translate import Rule, Theirs, is_set, mappings, rule

KEYS = {
    "datasets",
    "dataset_config",
    "network_dim",
    "network_module",
    "train_data_dir",
    "output_name",
}
SECTIONS = ("general", "datasets")
PAIRS = {*SECTIONS}
"""The keys of a file that holds data sets alone."""
OF_A_SIZE = (
    "resolution",
    "batch_size",
    "enable_bucket",
    "min_bucket_reso",
    "max_bucket_reso",
    "bucket_reso_steps",
    "bucket_no_upscale",
    "cache_directory",
)
RULES = (
    rule("rank", "network_dim", to=rank),
    rule("alpha", "network_alpha", zero_is_off=True),
    rule("dropout", "network_dropout"),
    rule("optimizer", "optimizer_type", to=optimizer),
    rule("learning_rate", "unet_lr", "learning_rate", zero_is_off=True),
    rule("schedule", "lr_scheduler", to=SCHEDULES),
    rule("restarts", "lr_scheduler_num_cycles", "lr_restart_cycles", zero_is_off=True),
    rule("accumulate", "gradient_accumulation_steps", zero_is_off=True),
    rule("steps", "max_train_steps", zero_is_off=True),
    rule("save_every", "save_every_n_steps", zero_is_off=True),
    rule("save_dtype", "save_precision", to=PRECISIONS),
    rule("dtype", "mixed_precision", to=PRECISIONS),
    rule("guidance", "guidance_scale"),
    rule("loss", "loss_type", to=LOSSES),
    rule("huber_delta", "huber_c"),
    rule("seed", "seed"),
    rule("max_grad_norm", "max_grad_norm"),
)
SHARED = (  # stand with the data sets or with the rest
    rule("batch_size", "train_batch_size", "batch_size", zero_is_off=True),
    rule("reference_resolution", "control_resolution", to=side),
    rule("caption_dropout", "caption_dropout_rate"),
    rule("flip", "flip_aug"),
)
OPTIMIZER_RULES = (
    rule("weight_decay"),
    rule("beta1"),
    rule("beta2"),
)
NETWORK_RULES = (
    rule("lora_plus", "loraplus_unet_lr_ratio", "loraplus_lr_ratio", zero_is_off=True),
    rule("adapter", "algo", to=ADAPTERS),
    rule("lokr_factor", "factor", to=lambda factor: max(0, int(float(factor)))),
)
ADAFACTOR = {"scale_parameter": "false", "relative_step": "false", "warmup_init": "false"}
"""Its options as ours has them; with relative steps the learning rate means nothing."""
ARGUMENTS = {"preset", "conv_dim", "conv_alpha", "use_tucker", "use_cp", "bypass_mode"}
"""Of LyCORIS, for convolutions, which FLUX.1 has none of."""
MODULES = {"loha": "loha", "lokr": "lokr", "lycoris": "lora"}
IDLE = {
    "always": "network_module network_train_unet_only model_train_type model_type split_mode "
    "model_prediction_type apply_t5_attn_mask t5xxl_max_token_length t5_max_token_length "
    "save_model_as caption_extension caption_extention alpha_mask architecture script "
    "num_processes num_machines sdxl_no_half_vae max_token_length model_version",
    "buckets": "enable_bucket bucket_* min_bucket_reso max_bucket_reso no_resize_control "
    "resize_interpolation",
    "cache": "*cache_* skip_cache_check vae_batch_size text_encoder_batch_size "
    "skip_latents_validity_check num_timestep_buckets",
    "files": "output_dir save_last_n_* save_n_epoch_ratio save_state*",
    "log": "log* sample_* wandb_* use_wandb show_timesteps debug_dataset config_file",
    "memory": "gradient_checkpointing* *blocks_to_swap block_swap* sdpa xformers flash* split_attn "
    "attn_mode mem_eff_* lowram lowvram highvram fp8_* full_bf16 full_fp16 "
    "cpu_offload_checkpointing max_data_loader_n_workers persistent_data_loader_workers "
    "num_cpu_threads_per_process "
    "dynamo_* compile* torch_compile fused_backward_pass fused_optimizer_groups "
    "blockwise_fused_optimizers gpu_ids multi_gpu ddp_* deepspeed disable_mmap_load_safetensors "
    "vae_dtype dit_dtype text_encoder_dtype vae_tiling vae_chunk_size "
    "img_in_txt_in_offloading use_pinned_memory_for_block_swap main_process_port",
    "metadata": "metadata_* training_comment no_metadata",
    "other": "v2 v_parameterization clip_g sdxl* sd3* conv_* prior_loss_weight",
    "upload": "huggingface_* async_upload",
}  # fmt: skip


def joined(one: Mapping[str, str], other: Mapping[str, str]) -> dict[str, str]:
    return {reason: f"{one.get(reason, '')} {other.get(reason, '')}" for reason in {**one, **other}}


def recognise(content: Mapping[str, Any]) -> bool:
    inside = [value for value in content.values() if isinstance(value, Mapping)]
    return any(KEYS & part.keys() for part in (content, *inside))


def convert(
    content: Mapping[str, Any], path: Path, idle: Mapping[str, str] = {}
) -> tuple[Job, list[str]]:
    """The settings as a job, and what of them was not taken over. `idle` adds to IDLE."""
    require_module(flattened(content))  # before its pairs are looked for
    content = with_datasets(content, path)
    general = content.get("general") or {}
    datasets = mappings(content.get("datasets") or [], "datasets")
    theirs = Theirs(flattened(content))
    module = theirs.text("network_module")
    masked = theirs.take("masked_loss")
    sources: list[dict[str, Any]] = []
    for number, dataset in enumerate(every_size(datasets), 1):
        part = Theirs({**general, **dataset}, f"datasets[{number}].")
        sources.append(pictures(part, masked))
        shared(part)
        part.close(IDLE)
        theirs.adopt(part)
    if not datasets:
        sources.append(pictures(theirs, masked))
    shared(theirs)
    if masked:
        theirs.default("outside_mask", 0.0)
    theirs.apply(RULES)
    theirs.default("schedule", "constant")
    kind = next((ours for part, ours in MODULES.items() if part in module), "")
    if kind:
        theirs.default("adapter", kind)
    arguments(theirs, "optimizer_args", OPTIMIZER_RULES)
    arguments(theirs, "network_args", NETWORK_RULES)
    if module or theirs.origin.keys() & {"rank", "alpha"}:
        theirs.default("alpha", 1.0)
        theirs.default("rank", 4)
    noise(theirs, musubi="dit" in theirs.left)
    begin = theirs.text("network_weights")
    model = model_files(
        theirs,
        theirs.text("dit", "pretrained_model_name_or_path"),
        theirs.text("clip_l", "text_encoder2"),
        theirs.text("t5xxl", "text_encoder1", "text_encoder"),
        theirs.text("ae", "vae"),
        family=f"{module} {content.get('model_version', '')}",
    )
    epochs = round(theirs.number("max_train_epochs"))
    if epochs:
        theirs.config.pop("steps", None)
    warmup(theirs, "lr_warmup_steps", theirs.config.get("steps"))
    often = round(theirs.number("save_every_n_epochs"))
    name = theirs.text("output_name") or path.stem
    more = {"start": begin, "epochs": epochs, "save_every_epochs": often}
    return build(name, model, sources, theirs, joined(IDLE, idle), **more)


def with_datasets(content: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The settings with the pairs of the file that `dataset_config` names.

    It lies beside the settings, or where the trainer was started: in a folder above them.
    """
    inside = [value for value in content.values() if isinstance(value, Mapping)]
    named = [part["dataset_config"] for part in (content, *inside) if part.get("dataset_config")]
    if not named:
        return dict(content)
    datasets = beside(path, str(named[0]), "dataset_config")
    return {**datasets, **content, "dataset_config": None}


def every_size(datasets: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The data sets, one for each subset; the same pictures at several resolutions are one, with a
    tuple of these."""
    found: list[dict[str, Any]] = []
    for dataset in datasets:
        for subset in mappings(dataset.get("subsets") or [{}], "subsets"):
            own = {key: value for key, value in {**dataset, **subset}.items() if key != "subsets"}
            same = next((each for each in found if pictured(each) == pictured(own)), None)
            if same and "resolution" in same.keys() & own.keys():
                before = same["resolution"]
                sizes = before if isinstance(before, tuple) else (before,)
                same["resolution"] = (*sizes, own["resolution"])
            else:
                found.append(own)
    return found


def pictured(dataset: Mapping[str, Any]) -> dict[str, Any]:
    """What a data set says besides its size."""
    return {key: value for key, value in dataset.items() if key not in OF_A_SIZE}


def flattened(content: Mapping[str, Any]) -> dict[str, Any]:
    """All settings in one level; those outside of sections come first."""
    flat: dict[str, Any] = {}
    for name, section in content.items():
        if isinstance(section, Mapping) and name not in SECTIONS:
            flat = {**section, **flat}
    own = {name: value for name, value in content.items() if not isinstance(value, Mapping)}
    return {**flat, **{name: value for name, value in own.items() if name not in SECTIONS}}


def require_module(flat: Mapping[str, Any]) -> None:
    """Raise JobError for files that train another model than FLUX.1, or no LoRA."""
    names = ("model_train_type", "model_type", "model_version", "dit")
    require_trained(*(flat.get(name) for name in (*names, "pretrained_model_name_or_path")))
    module = str(flat.get("network_module") or "")
    kind = module.rpartition(".")[2]
    if kind in ("lora", "lora_fa", "dylora"):
        raise JobError(
            say(
                "This file trains Stable Diffusion ({name}). This trainer trains FLUX.1, which "
                "is networks.lora_flux in kohya's scripts.",
                name=f"network_module {module}",
            )
        )
    if "oft" in kind:
        raise JobError(
            say(
                "{name} is {value}; this trainer has {choices}.",
                name="network_module", value=module, choices="lora, dora, lokr, loha",
            )
        )  # fmt: skip
    require_trained(kind.removeprefix("lora_"))


def pictures(theirs: Theirs, masked: Any) -> dict[str, Any]:
    """Where a data set's pairs are: a table, two folders, or one that holds both."""
    repeats, caption = theirs.take("num_repeats"), theirs.take("class_tokens")
    table = theirs.take("image_jsonl_file")
    if table:
        return source(theirs, None, table, repeats)
    beside = theirs.take("conditioning_data_dir")
    return source(
        theirs,
        theirs.take("control_directory", default=None if masked else beside),
        theirs.take("image_directory", "image_dir", "train_data_dir"),
        repeats,
        caption,
        mask_folder=beside if masked else None,
    )


def shared(theirs: Theirs) -> None:
    """Settings that stand with the data sets or with the rest."""
    theirs.apply(SHARED)
    sizes = theirs.left.get("resolution")
    if is_set(sizes):
        resolution(theirs, "resolution", [*sizes] if isinstance(sizes, tuple) else [sizes])


def arguments(theirs: Theirs, name: str, rules: tuple[Rule, ...]) -> None:
    """kohya's lists of "key=value", or one text of them with blanks between."""
    given: Any = theirs.take(name, default=[])
    words: list[Any] = given.replace('"', " ").split() if isinstance(given, str) else as_list(given)
    inner = Theirs(dict(pairs_of(words)), f"{name}.")
    if theirs.config.get("optimizer") == "adafactor" and name == "optimizer_args":
        adafactor(theirs, inner)
    for convolutional in ARGUMENTS & inner.left.keys() if name == "network_args" else ():
        inner.take(convolutional)
    inner.apply(rules)
    decomposed = str(inner.left.get("dora_wd")).lower() == "true"
    if decomposed and inner.config.get("adapter", "lora") == "lora":
        inner.set("adapter", "dora", "dora_wd", inner.take("dora_wd"))
    theirs.config |= inner.config
    theirs.origin |= {ours: (f"{name}.{key}", value) for ours, (key, value) in inner.origin.items()}
    theirs.remarks += inner.remarks
    unknown = [f"{key}={value}" for key, value in inner.left.items() if str(value) != "False"]
    if unknown:
        theirs.left[name] = unknown


def pairs_of(words: list[Any]) -> Iterator[tuple[str, Any]]:
    for word in map(str, words):
        key, _, value = (part.strip() for part in word.partition("="))
        if key == "betas":
            betas = value.strip("()").split(",")
            yield from zip(("beta1", "beta2"), map(str.strip, betas), strict=False)
        else:
            yield key, value or True


def adafactor(theirs: Theirs, inner: Theirs) -> None:
    """kohya's own default are relative steps, in which the learning rate means nothing."""
    relative = str(inner.left.get("relative_step", True)).lower() == "true"
    for key, ours in ADAFACTOR.items():
        if str(inner.left.get(key)).lower() == ours:
            inner.take(key)
    if relative and "learning_rate" in theirs.config:
        name, value = theirs.origin["learning_rate"]
        del theirs.config["learning_rate"]
        words = say("has no meaning with relative_step=True, which this trainer's Adafactor lacks")
        theirs.remark(name, value, words)


def noise(theirs: Theirs, musubi: bool) -> None:
    """The density of noise levels; `sigma` is even, and shifted, and so is `shift` a sigmoid."""
    shift = theirs.number("discrete_flow_shift") or (1.0 if musubi else 3.0)
    spread = theirs.number("sigmoid_scale") or 1.0
    scheme = str(theirs.left.get("weighting_scheme") or "none")
    bell = {"timesteps": "logit_normal", "sigma_spread": spread}
    known: dict[str, dict[str, Any]] = {
        "sigma": {"timesteps": "uniform", "sigma_shift": shift},
        "uniform": {"timesteps": "detail"},
        "sigmoid": {**bell, "sigma_shift": 1.0},
        "shift": {**bell, "sigma_shift": shift},
        "flux_shift": {"timesteps": "balanced"} if spread == 1 else {**bell, "sigma_shift": 0.0},
    }
    if theirs.left.get("timestep_sampling") == "sigma" and scheme != "none":
        known = {}  # drawn by the scheme instead
    density(theirs, "timestep_sampling", known)
    if scheme == "none":
        theirs.take("weighting_scheme")
