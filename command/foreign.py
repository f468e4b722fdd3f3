"""Other trainers' files as jobs: ai-toolkit's YAML, musubi-tuner's and kohya's TOML, lora-scripts'.

The essentials are taken over: names, folders, sizes, speeds. Whatever else is set is listed.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ..trainer.host.files import EXAMPLES
from ..trainer.runs.job import Job, JobError

HOLDOUT = 0.15
OPTIMIZERS = {
    "adamw": "adamw", "adamw8bit": "adamw8bit", "adamw_8bit": "adamw8bit",
    "pagedadamw8bit": "adamw8bit", "prodigy": "prodigy", "prodigyopt": "prodigy",
    "adafactor": "adafactor", "lion": "lion", "lion8bit": "lion", "came": "came",
    "adamwschedulefree": "schedulefree", "prodigyplusschedulefree": "prodigyplus",
}  # fmt: skip
SCHEDULES = {
    "constant": "constant", "constant_with_warmup": "constant", "cosine": "cosine",
    "cosine_with_restarts": "cosine_restarts", "linear": "linear", "polynomial": "polynomial",
}  # fmt: skip
PRECISIONS = {
    "bf16": "bf16", "bfloat16": "bf16", "fp16": "fp16", "float16": "fp16",
    "fp32": "fp32", "float32": "fp32", "float": "fp32",
}  # fmt: skip
# Their densities of noise levels as ours; a plain sigmoid is not shifted
TIMESTEPS: dict[str, dict[str, Any]] = {
    "sigmoid": {"timesteps": "logit_normal", "sigma_shift": 1.0},
    "linear": {"timesteps": "detail"},
    "weighted": {"timesteps": "detail"},
    "uniform": {"timesteps": "detail"},
    "sigma": {"timesteps": "detail"},
    "flux_shift": {"timesteps": "balanced"},
    "shift": {"timesteps": "logit_normal", "sigma_shift": 1.0},
}
LOSSES = {"l2": "mse", "mse": "mse", "huber": "huber"}
KOHYA = {"datasets", "dataset_config", "network_dim", "train_data_dir", "output_name"}


def read_files(paths: Sequence[Path]) -> tuple[Job, list[str]]:
    """The job that these files describe together, and what of them was ignored.

    Raises JobError for a file that cannot be read, or is none of the kinds known.
    """
    content: dict[str, Any] = {}
    for path in paths:
        content |= read_mapping(path)
    if "process" in (content.get("config") or {}):
        return ai_toolkit(content)
    if content.keys() & {"pairs", "model"} or content.keys() <= {"name", "config"}:
        return Job.parse(content), []
    return kohya(content, paths[0])


def read_mapping(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise JobError(f"{path} cannot be read: {error}.") from None
    if path.suffix.lower() == ".toml":
        toml = toml_reader()
        parse, broken = toml.loads, toml.TOMLDecodeError
    else:
        parse, broken = yaml.safe_load, yaml.YAMLError  # JSON is YAML
    try:
        content = parse(text)
    except broken as error:
        raise JobError(f"{path} is broken: {error}") from None
    if not isinstance(content, dict):
        raise JobError(f"{path} holds no settings. Write `key: value` lines.")
    return content


def toml_reader() -> Any:
    for name in ("tomllib", "tomli"):  # the first comes with Python 3.11
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError:
            continue
    raise JobError("TOML needs Python 3.11, or the package tomli (pip install tomli).")


class Theirs:
    """Another trainer's settings, by dotted names; what is never taken has been ignored."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        self.left = dict(flat(content))
        self.config: dict[str, Any] = {}

    def take(self, *names: str, default: Any = None) -> Any:
        """The first of these that is set; all of them count as used."""
        values = [self.left.pop(name, None) for name in names]
        return next((value for value in values if value is not None), default)

    def set(
        self, ours: str, *theirs: str, to: Callable[[Any], Any] | Mapping | None = None
    ) -> None:
        """Take a setting over; one that `to` has no word for counts as ignored."""
        name = next((name for name in theirs if self.left.get(name) is not None), None)
        if name is None:
            return
        value = self.left[name]
        if isinstance(to, Mapping):
            value = to.get(str(value).lower())
        elif to:
            value = to(value)
        if value is not None:
            self.take(*theirs)
            self.config[ours] = value

    def ignored(self) -> list[str]:
        return [f"{name}: {value}" for name, value in self.left.items() if value not in _NOTHING]


_NOTHING = (None, "", False, [], {})


def flat(content: Mapping[str, Any], above: str = "") -> list[tuple[str, Any]]:
    """Nested settings as (dotted name, value)."""
    pairs: list[tuple[str, Any]] = []
    for key, value in content.items():
        inside = isinstance(value, Mapping)
        pairs += flat(value, f"{above}{key}.") if inside else [(f"{above}{key}", value)]
    return pairs


# ---- ai-toolkit ----------------------------------------------------------------------------


def ai_toolkit(content: Mapping[str, Any]) -> tuple[Job, list[str]]:
    process, *more = content["config"]["process"]
    theirs = Theirs(process)
    datasets = theirs.take("datasets", default=[])
    sources, ignored = [], [f"a second process: {each.get('type')}" for each in more]
    for number, dataset in enumerate(datasets, 1):
        part = Theirs(dataset)
        sources.append(
            source(
                part.take("control_path", "control_path_1"),
                part.take("folder_path", "dataset_path"),
                part.take("num_repeats"),
                part.take("default_caption"),
            )
        )
        part.set("caption_dropout", "caption_dropout_rate")
        part.set("flip", "flip_x")
        sizes = part.take("resolution", default=512)
        sides = sizes if isinstance(sizes, list) else [sizes]
        size = {"resolution": sides[0]} if len(sides) == 1 else {"resolutions": sides}
        given = {**part.config, **size}
        theirs.config |= given if number == 1 else {}
        lines = [*part.ignored(), *differing(theirs.config, given)]
        ignored += [f"datasets[{number}].{line}" for line in lines]
    theirs.set("rank", "network.linear", "network.rank")
    theirs.set("alpha", "network.linear_alpha")
    theirs.set("save_dtype", "save.dtype", to=PRECISIONS)
    theirs.set("save_every", "save.save_every")
    theirs.set("keep", "save.max_step_saves_to_keep")
    for name in ("batch_size", "steps", "seed", "max_grad_norm"):
        theirs.set(name, f"train.{name}")
    theirs.set("accumulate", "train.gradient_accumulation_steps", "train.gradient_accumulation")
    theirs.set("learning_rate", "train.lr")
    theirs.set("optimizer", "train.optimizer", to=OPTIMIZERS)
    theirs.set("weight_decay", "train.optimizer_params.weight_decay")
    theirs.set("schedule", "train.lr_scheduler", to=SCHEDULES)
    theirs.config.setdefault("schedule", "constant")  # theirs, where the file says nothing
    theirs.set("dtype", "train.dtype", to=PRECISIONS)
    theirs.set("loss", "train.loss_type", to=LOSSES)
    timesteps(theirs, "train.timestep_type")
    if theirs.take("train.ema_config.use_ema"):
        theirs.set("ema", "train.ema_config.ema_decay")
    theirs.set("preview_steps", "sample.sample_steps")
    if theirs.take("train.disable_sampling"):
        theirs.config["preview_steps"] = 0
    model = models(ignored, diffusion_model=theirs.take("model.name_or_path"))
    trigger = theirs.take("trigger_word")
    if trigger:
        ignored.append(f"trigger_word: {trigger} (write it into the captions)")
    name = str(content["config"].get("name") or "ai_toolkit").replace("[trigger]", trigger or "")
    return job(name, model, sources, theirs), [*ignored, *theirs.ignored()]


# ---- musubi-tuner, kohya, lora-scripts -----------------------------------------------------


def kohya(content: dict[str, Any], path: Path) -> tuple[Job, list[str]]:
    """Flat settings, or in sections whose names mean nothing; pairs in `datasets` or a folder."""
    beside = content.get("dataset_config") or content.get("dataset_arguments", {}).get(
        "dataset_config"
    )
    if beside:
        content = {**read_mapping(path.parent / beside), **content, "dataset_config": None}
    general, datasets = content.pop("general", {}), content.pop("datasets", [])
    sections = [value for value in content.values() if isinstance(value, dict)]
    for section in sections:
        content = {**section, **content}
    content = {key: value for key, value in content.items() if not isinstance(value, dict)}
    if not datasets and not content.keys() & KOHYA:
        raise JobError(
            f"{path} is neither ours (name, model, pairs, config) nor a file of ai-toolkit, "
            "musubi-tuner, kohya or lora-scripts."
        )
    theirs = Theirs(content)
    sources: list[dict[str, Any]] = []
    ignored: list[str] = []
    for number, dataset in enumerate(datasets, 1):
        for subset in dataset.get("subsets") or [{}]:
            part = Theirs({**general, **dataset, **subset})
            part.take("subsets")
            sources.append(pictures(part))
            shared(part)
            theirs.config = {**part.config, **theirs.config}
            lines = [*part.ignored(), *differing(theirs.config, part.config)]
            ignored += [f"datasets[{number}].{line}" for line in lines]
    if not datasets:
        sources.append(pictures(theirs))
    shared(theirs)
    theirs.set("rank", "network_dim")
    theirs.config["alpha"] = float(theirs.take("network_alpha", default=1))  # theirs by default
    theirs.set("learning_rate", "unet_lr", "learning_rate")
    theirs.set("schedule", "lr_scheduler", to=SCHEDULES)
    theirs.config.setdefault("schedule", "constant")
    theirs.set("warmup_steps", "lr_warmup_steps", to=whole)
    theirs.set("restarts", "lr_scheduler_num_cycles", "lr_restart_cycles")
    theirs.set("optimizer", "optimizer_type", to=OPTIMIZERS)
    theirs.set("accumulate", "gradient_accumulation_steps")
    theirs.set("steps", "max_train_steps")
    theirs.set("save_every", "save_every_n_steps")
    theirs.set("save_dtype", "save_precision", to=PRECISIONS)
    theirs.set("dtype", "mixed_precision", to=PRECISIONS)
    theirs.set("guidance", "guidance_scale")
    theirs.set("loss", "loss_type", to=LOSSES)
    for name in ("seed", "max_grad_norm"):
        theirs.set(name, name)
    arguments(theirs, "optimizer_args", {"weight_decay": "weight_decay"})
    arguments(theirs, "network_args", {"loraplus_lr_ratio": "lora_plus"})
    timesteps(theirs, "timestep_sampling")
    shift = theirs.take("discrete_flow_shift")
    if theirs.config.get("sigma_shift") and shift:
        theirs.config["sigma_shift"] = shift
    if theirs.left.get("weighting_scheme") == "none":
        theirs.take("weighting_scheme")
    model = models(
        ignored,
        diffusion_model=theirs.take("dit", "pretrained_model_name_or_path"),
        clip_l=theirs.take("clip_l", "text_encoder2"),
        t5xxl=theirs.take("t5xxl", "text_encoder1"),
        vae=theirs.take("ae", "vae"),
    )
    epochs = int(theirs.take("max_train_epochs", default=0))
    if epochs:
        theirs.config.pop("steps", None)
    often = int(theirs.take("save_every_n_epochs", default=0))
    begin = theirs.take("network_weights", default="")
    name = str(theirs.take("output_name", default=path.stem))
    made = job(name, model, sources, theirs, start=begin, epochs=epochs, save_every_epochs=often)
    return made, [*ignored, *theirs.ignored()]


def pictures(theirs: Theirs) -> dict[str, Any]:
    """Where a dataset's pairs are: a table, two folders, or one that holds both."""
    table = theirs.take("image_jsonl_file")
    if table:
        return source(None, table, theirs.take("num_repeats"), None)
    return source(
        theirs.take("control_directory", "conditioning_data_dir"),
        theirs.take("image_directory", "image_dir", "train_data_dir"),
        theirs.take("num_repeats"),
        theirs.take("class_tokens"),
    )


def shared(theirs: Theirs) -> None:
    """Settings that stand with the datasets or with the rest."""
    theirs.set("batch_size", "train_batch_size", "batch_size")
    theirs.set("resolution", "resolution", to=side)
    theirs.set("reference_resolution", "control_resolution", to=side)
    theirs.set("caption_dropout", "caption_dropout_rate")
    theirs.set("flip", "flip_aug")


def arguments(theirs: Theirs, name: str, known: Mapping[str, str]) -> None:
    """kohya's lists of "key=value"."""
    given = theirs.take(name, default=[])
    unknown = []
    for text in [given] if isinstance(given, str) else given:
        key, _, value = str(text).partition("=")
        if key.strip() in known:
            theirs.config[known[key.strip()]] = value.strip()
        else:
            unknown.append(text)
    theirs.left[name] = unknown


def whole(value: Any) -> int | None:
    """A number of steps; kohya takes a fraction of all steps too, which is not known here."""
    return int(value) if float(value) >= 1 or float(value) == 0 else None


def side(value: Any) -> int:
    """Side of the square as large as "768,1024", [768, 1024] or 768, in steps of 16."""
    parts = value.split(",") if isinstance(value, str) else value
    sides = [float(part) for part in (parts if isinstance(parts, list) else [parts])]
    return round(math.sqrt(sides[0] * sides[-1]) / 16) * 16


# ---- what they share -----------------------------------------------------------------------


def differing(config: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """What a dataset sets for its own pairs, where ours has one value for all."""
    return [f"{name}: {value}" for name, value in given.items() if config.get(name) != value]


def timesteps(theirs: Theirs, name: str) -> None:
    ours = TIMESTEPS.get(str(theirs.left.get(name)))
    if ours:
        theirs.take(name)
        theirs.config |= ours


def source(control: Any, target: Any, repeats: Any, caption: Any) -> dict[str, Any]:
    """A `pairs` entry; with one folder alone it must hold both sides."""
    folders = {"control_folder": control, "target_folder": target}
    if not control:
        folders = {"control_folder": target}
    rest = {"repeats": None if repeats == 1 else repeats, "default_caption": caption}
    named = {key: value for key, value in {**folders, **rest}.items() if value}
    return {**named, "holdout": HOLDOUT}


def models(
    ignored: list[str], diffusion_model: Any, clip_l: Any = "", t5xxl: Any = "", vae: Any = ""
) -> dict[str, Any]:
    """ComfyUI's files: those named, or for a folder of diffusers' the usual single file."""
    if not str(diffusion_model).lower().endswith((".safetensors", ".sft", ".gguf")):
        ignored.append(f"model {diffusion_model}: it is {EXAMPLES['diffusion_model']} in ComfyUI")
        diffusion_model = EXAMPLES["diffusion_model"]
    usual = yaml.safe_load(EXAMPLES["text_encoders"])
    return {
        "diffusion_model": diffusion_model,
        "text_encoders": [clip_l or usual[0], t5xxl or usual[1]],
        "vae": vae or EXAMPLES["vae"],
    }


def job(
    name: str, model: dict[str, Any], sources: list[dict[str, Any]], theirs: Theirs, **more: Any
) -> Job:
    content = {"name": name, "model": model, "pairs": sources, "config": theirs.config, **more}
    return Job.parse(content)
