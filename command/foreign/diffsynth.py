"""Command lines of DiffSynth-Studio's examples/flux/model_training/train.py."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...language import say
from ...trainer.runs.job import Job, JobError
from .models import model_files, require_trained
from .terms import build, source
from .translate import Theirs, rule

RULES = (
    rule("rank", "lora_rank"),
    rule("learning_rate"),
    rule("accumulate", "gradient_accumulation_steps"),
    rule("weight_decay"),
    rule("save_every", "save_steps"),
    rule("seed"),
)
IDLE = {
    "always": "script lora_base_model remove_prefix_in_ckpt align_to_opensource_format "
    "extra_inputs data_file_keys task find_unused_parameters dataset include",
    "files": "output_path local_dir",
    "memory": "use_gradient_checkpointing* dataset_num_workers config_file",
}


def recognise(content: Mapping[str, Any]) -> bool:
    return "dataset_metadata_path" in content


def convert(content: Mapping[str, Any], path: Path) -> tuple[Job, list[str]]:
    """The options as a job, and what of them was not taken over."""
    theirs = Theirs(content)
    models = theirs.text("model_id_with_origin_paths").split(",")
    require_trained(models[0].partition(":")[0])
    if "lora_base_model" not in theirs.left:
        raise JobError(
            say("{path} trains a whole model. This trainer trains LoRAs: --lora_base_model dit.",
                path=path)
        )  # fmt: skip
    table = theirs.take("dataset_metadata_path")
    if str(theirs.left.get("dataset_base_path", "")).rstrip("/") == str(Path(str(table)).parent):
        theirs.take("dataset_base_path")
    sources = [source(theirs, None, table, theirs.take("dataset_repeat"))]
    if "max_pixels" in theirs.left:
        side = round(math.sqrt(theirs.number("max_pixels")) / 16) * 16
        theirs.set("resolution", side, "max_pixels")
    theirs.apply(RULES)
    theirs.default("schedule", "constant")
    epochs = round(theirs.number("num_epochs"))
    model = model_files(theirs, models[0].partition(":")[0])
    return build(path.stem, model, sources, theirs, IDLE, epochs=epochs)
