"""Finds captioning models in the user's folders, and names what is missing in incomplete ones."""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..language import say
from ..values import read_json
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
    "Florence-2": "florence-community/Florence-2-large",
    "BLIP": "Salesforce/blip-image-captioning-large",
    "JoyCaption": "fancyfeast/llama-joycaption-beta-one-hf-llava",
    "Vision-language": "Qwen/Qwen3-VL-4B-Instruct",
    "WD14": "SmilingWolf/wd-eva02-large-tagger-v3 (model.onnx, selected_tags.csv)",
}
"""Hugging Face repositories to download from where a model, or a part of it, is missing."""

BROKEN = (OSError, ValueError, LookupError, TypeError, AttributeError)  # a file of any content
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
        problem = say("{file} is a download that did not finish", file=unfinished[0])
        raise _incomplete(folder, problem, source)
    if not any(any(folder.glob(name)) for name in _TOKENIZERS):
        raise _incomplete(folder, say("{file} is missing", file="tokenizer.json"), source)
    if not any((folder / name).is_file() for name in _PROCESSORS):
        problem = say("{file} is missing", file="preprocessor_config.json")
        raise _incomplete(folder, problem, source)
    for weights in _weight_files(folder, source):
        problem = _damage(weights)
        if problem:
            raise _incomplete(folder, problem, source)


def weight_bytes(folder: Path) -> int:
    """Size of the weights on disk."""
    return sum(path.stat().st_size for path in _weight_files(folder, ""))


def _weight_files(folder: Path, source: str) -> list[Path]:
    for index in ("model.safetensors.index.json", "pytorch_model.bin.index.json"):
        if (folder / index).is_file():
            try:
                shards = read_json((folder / index).read_text(encoding="utf-8"))["weight_map"]
                return [folder / name for name in sorted(set(shards.values()))]
            except BROKEN:
                raise _incomplete(folder, say("{file} is damaged", file=index), source) from None
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (folder / name).is_file():
            return [folder / name]
    raise _incomplete(folder, say("{file} is missing", file="model.safetensors"), source)


def _damage(weights: Path) -> str:
    """In words, what is wrong with a weight file; empty if nothing is."""
    name = weights.name
    if not weights.is_file():
        return say("{file} is missing", file=name)
    size = weights.stat().st_size
    with weights.open("rb") as file:
        start = file.read(64)
        if start.startswith(b"version https://git-lfs"):
            return say(
                "{file} is only a Git LFS pointer; the weights themselves were not downloaded",
                file=name,
            )
        if weights.suffix != ".safetensors":
            return "" if size else say("{file} is empty", file=name)
        if size < 8:
            return say("{file} is cut off ({size:,} bytes)", file=name, size=size)
        header = struct.unpack("<Q", start[:8])[0]
        if size < 8 + header:
            return say("{file} is cut off ({size:,} bytes)", file=name, size=size)
        file.seek(8)
        content = file.read(header)
    try:
        tensors = read_json(content.decode("utf-8"))
        ends = [entry["data_offsets"][1] for key, entry in tensors.items() if key != "__metadata__"]
        expected = 8 + header + max(ends, default=0)
    except BROKEN:
        return say("{file} is damaged", file=name)
    if size >= expected:
        return ""
    return say(
        "{file} is cut off ({size:,} of {expected:,} bytes)",
        file=name,
        size=size,
        expected=expected,
    )


def _incomplete(folder: Path, problem: str, source: str) -> CaptionError:
    return CaptionError(
        say(
            "{name} is incomplete: {problem}. Download it again from the model's page (Hugging "
            "Face: {source}) into {folder}.",
            name=folder.name,
            problem=problem,
            source=source,
            folder=folder,
        )
    )


def _read_folder(config: Path) -> ModelFolder | None:
    try:
        content = read_json(config.read_text(encoding="utf-8"))
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
