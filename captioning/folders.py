"""Finds captioning models where users keep them, and says what is missing in a broken one."""

import json
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .captioner import CaptionError

FAMILIES = {
    "florence2": "Florence-2",
    "blip": "BLIP",
    "blip-2": "BLIP-2",
    "llava": "LLaVA",
    "qwen2_5_vl": "Qwen2.5-VL",
    "qwen3_vl": "Qwen3-VL",
    "paligemma": "PaliGemma",
    "git": "GIT",
}
"""Names users know, by the `model_type` in config.json; other types are shown as they are."""

SOURCES = {
    "Florence-2": "florence-community/Florence-2-large or a PromptGen version of it",
    "BLIP": "Salesforce/blip-image-captioning-large",
    "JoyCaption": "fancyfeast/llama-joycaption-beta-one-hf-llava",
    "Vision-language": "Qwen/Qwen3-VL-4B-Instruct or Qwen/Qwen2.5-VL-7B-Instruct",
    "WD14": "SmilingWolf/wd-eva02-large-tagger-v3 (model.onnx and selected_tags.csv)",
}
"""Hugging Face repositories to name when nothing, or only a part, is there."""

_TOKENIZERS = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json", "*.model")
_PROCESSORS = ("preprocessor_config.json", "processor_config.json")
_UNFINISHED = ("*.incomplete", "*.part", "*.crdownload", "*.aria2", "*.tmp")


@dataclass(frozen=True)
class ModelFolder:
    """A folder with a config.json; `kind` is its model_type."""

    path: Path
    kind: str
    needs_remote_code: bool

    @property
    def label(self) -> str:
        family = FAMILIES.get(self.kind, self.kind)
        note = ", not supported" if self.needs_remote_code else ""
        return f"{self.path.parent.name}/{self.path.name} ({family}{note})"


def find_models(roots: Iterable[Path]) -> list[ModelFolder]:
    """Every model folder directly inside the roots, sorted by label; unreadable ones are left out.

    Two names of one folder (`LLM` and `llm` on Windows) count once.
    """
    found: dict[Path, ModelFolder] = {}
    for root in roots:
        if not root.is_dir():
            continue
        for config in sorted(root.glob("*/config.json")):
            folder = _read_folder(config)
            if folder is not None:
                found.setdefault(config.parent.resolve(), folder)
    return sorted(found.values(), key=lambda folder: folder.label.lower())


def check_complete(folder: Path, source: str) -> None:
    """Raise CaptionError naming the first file that is missing or cut off. Reads headers only."""
    unfinished = [path.name for pattern in _UNFINISHED for path in folder.glob(pattern)]
    if unfinished:
        raise _incomplete(folder, f"{unfinished[0]} is a download that did not finish", source)
    if not any(any(folder.glob(name)) for name in _TOKENIZERS):
        raise _incomplete(folder, "tokenizer.json is missing", source)
    if not any((folder / name).is_file() for name in _PROCESSORS):
        raise _incomplete(folder, "preprocessor_config.json is missing", source)
    for weights in _weight_files(folder, source):
        problem = _damage(weights)
        if problem:
            raise _incomplete(folder, f"{weights.name} {problem}", source)


def weight_bytes(folder: Path) -> int:
    """Size of the weights on disk."""
    return sum(path.stat().st_size for path in _weight_files(folder, ""))


def _weight_files(folder: Path, source: str) -> list[Path]:
    for index in ("model.safetensors.index.json", "pytorch_model.bin.index.json"):
        if (folder / index).is_file():
            shards = json.loads((folder / index).read_text(encoding="utf-8"))["weight_map"]
            return [folder / name for name in sorted(set(shards.values()))]
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (folder / name).is_file():
            return [folder / name]
    raise _incomplete(folder, "model.safetensors is missing", source)


def _damage(weights: Path) -> str:
    """What is wrong with a weight file, or an empty string."""
    if not weights.is_file():
        return "is missing"
    size = weights.stat().st_size
    with weights.open("rb") as file:
        start = file.read(64)
        if start.startswith(b"version https://git-lfs"):
            return "is only a Git LFS pointer; the weights themselves were not downloaded"
        if weights.suffix != ".safetensors":
            return "is empty" if size == 0 else ""
        if size < 8:
            return f"is cut off ({size} bytes)"
        header = struct.unpack("<Q", start[:8])[0]
        if size < 8 + header:
            return f"is cut off ({size:,} bytes)"
        file.seek(8)
        tensors = json.loads(file.read(header))
    ends = [entry["data_offsets"][1] for name, entry in tensors.items() if name != "__metadata__"]
    expected = 8 + header + max(ends, default=0)
    return f"is cut off ({size:,} of {expected:,} bytes)" if size < expected else ""


def _incomplete(folder: Path, problem: str, source: str) -> CaptionError:
    return CaptionError(
        f"{folder.name} is incomplete: {problem}. Download it again from the model's page "
        f"(Hugging Face: {source}) into {folder}."
    )


def _read_folder(config: Path) -> ModelFolder | None:
    try:
        content = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(content, dict) or "model_type" not in content:
        return None
    kind = str(content["model_type"])
    if kind in FAMILIES:
        return ModelFolder(config.parent, kind, False)
    # importing transformers' model tables takes a second: only for types this file does not list
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as NATIVE,
    )

    if kind in NATIVE:
        return ModelFolder(config.parent, kind, False)
    return ModelFolder(config.parent, kind, True) if "auto_map" in content else None
