"""The metadata of LoRA files, for model browsers and other trainers.

modelspec.* keys follow Stability AI's model specification 1.0.0, ss_* and sshs_* keys those of
kohya's sd-scripts. Everything follows from the run: a file written again has the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps
from torch import Tensor

from ...files import write_atomically
from ..config import TrainConfig
from ..files import header, packed
from .identity import Identity

HASHES = ("modelspec.hash_sha256", "sshs_model_hash")
CLAUSE_ENDS = ",.;:!?\n，。；：！？"
# A single word before the first comma; longer Chinese ones are instructions
TRIGGER = re.compile(r"([!-+\--~]{1,24}|[^\x00-\x7f，]{1,5}) ?[,，]")
THUMBNAIL = 256  # pixels a side, as the specification recommends


def save_lora(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]) -> None:
    """Write a LoRA file atomically, with the hash of its tensors in the metadata.

    The hash is the sha256 of everything after the header: "all tensor content" of the
    specification, and kohya's `sshs_model_hash`.
    """
    entries, data = packed(tensors)
    digest = hashlib.sha256(data).hexdigest()
    hashes = dict(zip(HASHES, (f"0x{digest}", digest), strict=True))
    write_atomically(path, header(entries, {**metadata, **hashes}), data)


def without_hashes(metadata: Mapping[str, str]) -> dict[str, str]:
    """A file's metadata without the hashes, which `save_lora` computes anew."""
    return {key: text for key, text in metadata.items() if key not in HASHES}


def run_metadata(run: str, step: int, identity: Identity) -> dict[str, str]:
    """The metadata of a run's LoRA after `step` steps."""
    config, title = identity.config, f"{run}_{step:06d}"
    side = max(config.sides)
    return {
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.title": title,
        "modelspec.resolution": f"{side}x{side}",
        **about_pairs(run, step, identity),
        "ss_network_dim": str(config.rank),
        "ss_network_alpha": str(config.alpha),
        "ss_learning_rate": str(config.learning_rate),
        "ss_resolution": f"({side}, {side})",
        "ss_steps": str(step),
        "ss_output_name": title,
        "ss_sd_model_hash": identity.base_hash,
        "ss_dataset_hash": identity.dataset_hash,
        "ss_training_config": json.dumps(asdict(config)),
    }


def origin(settings: Mapping[str, Any]) -> dict[str, str]:
    """The day a run was begun, and the file of its base model, if its run.yaml has them.

    Not the time of saving: it would change the bytes of a checkpoint that is written again.
    """
    files = settings.get("model")
    names = (
        [files.get("diffusion_model"), files.get("checkpoint")] if isinstance(files, dict) else []
    )
    name = next((name for name in names if name), files if isinstance(files, str) else "")
    entries = {
        "modelspec.date": str(settings.get("begun", "")),
        "ss_sd_model_name": os.path.basename(str(name).replace("\\", "/")),
    }
    return {key: text for key, text in entries.items() if text}


def about_pairs(run: str, step: int, identity: Identity) -> dict[str, str]:
    """Metadata derived from the pairs; nothing for a run without a record of them."""
    pairs = [pair for pair in identity.pairs.values() if pair.get("split", "train") == "train"]
    if not pairs:
        return {}
    captions = [pair.get("caption", "") for pair in pairs]
    repeats = [int(pair.get("repeats", 1)) for pair in pairs]
    pictures, per_step = sum(repeats), identity.config.batch_size * identity.config.accumulate
    tags: Counter[str] = Counter()
    for caption, count in zip(captions, repeats, strict=True):
        for tag in filter(None, (part.strip() for part in caption.split(","))):
            tags[tag] += count
    kind = "before/after pairs" if any(pair.get("controls") for pair in pairs) else "pictures"
    words = shared_words(captions)
    trigger = TRIGGER.match(words)
    entries = {
        "modelspec.description": f"Trained for {step} steps on {len(pairs)} {kind}.",
        "modelspec.trigger_phrase": trigger[1] if trigger else "",
        "modelspec.usage_hint": f"Prompt: {words}" if words else "",
        "ss_num_train_images": str(pictures),
        "ss_epoch": str(math.ceil(step * per_step / pictures)),
        "ss_tag_frequency": json.dumps({run: dict(tags.most_common())}, ensure_ascii=False),
    }
    return {key: text for key, text in entries.items() if text}


def shared_words(captions: Sequence[str]) -> str:
    """The words that all captions begin with, such as a trigger word and an instruction.

    Cut after a clause if possible, else after a word.
    """
    texts = {caption.strip() for caption in captions}
    shared = os.path.commonprefix(list(texts))
    if shared in texts:
        return shared
    for ends in (CLAUSE_ENDS, " "):
        length = max(shared.rfind(end) for end in ends) + 1
        if length:
            return shared[:length].strip()
    return ""


def adapter(config: TrainConfig) -> dict[str, str]:
    """LyCORIS' names for the kind of adapter; nothing for a plain LoRA."""
    if config.adapter == "lora":
        return {}
    arguments = {
        "dora": {"algo": "lora", "dora_wd": "True", "wd_on_output": "False"},
        "lokr": {"algo": "lokr", "factor": str(config.lokr_factor or -1)},
        "loha": {"algo": "loha"},
    }
    return {
        "ss_network_module": "lycoris.kohya",
        "ss_network_args": json.dumps(arguments[config.adapter]),
    }


def thumbnail(picture: Image.Image) -> str:
    """The middle of a picture, small, as the data URI that model browsers show."""
    content = io.BytesIO()
    small = ImageOps.fit(picture.convert("RGB"), (THUMBNAIL, THUMBNAIL))
    small.save(content, "jpeg", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}"
