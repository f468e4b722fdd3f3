"""WD14 taggers (v2 and v3): tags with probabilities, through onnxruntime."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..language import say
from .captioner import CaptionError, Sample
from .folders import SOURCES

GENERAL, CHARACTER, RATING = "0", "4", "9"
RATINGS = ("leave out", "first", "last")

# in these the underscore is part of the face
_FACES = frozenset(
    "0_0 (o)_(o) +_+ +_- ._. <o>_<o> <|>_<|> =_= >_< 3_3 6_9 >_o @_@ ^_^ o_o u_u x_x |_| "
    "||_||".split()
)


@dataclass(frozen=True)
class TagChoice:
    """Which tags are kept, and how they are written."""

    general_threshold: float = 0.35
    character_threshold: float = 0.85
    exclude: str = ""
    underscores: bool = False
    rating: str = "leave out"
    escape_brackets: bool = True


def find_taggers(roots: Iterable[Path]) -> dict[str, Path]:
    """ONNX files by label: `name.onnx` beside `name.csv`, or a folder with `model.onnx`."""
    found: dict[str, Path] = {}
    for root in roots:
        if not root.is_dir():
            continue
        for model in sorted([*root.glob("*.onnx"), *root.glob("*/model.onnx")]):
            if labels_file(model) is not None:
                name = model.parent.name if model.name == "model.onnx" else model.stem
                found.setdefault(name, model)
    return found


def labels_file(model: Path) -> Path | None:
    """The CSV that names the model's outputs."""
    candidates = (model.with_suffix(".csv"), model.parent / "selected_tags.csv")
    return next((path for path in candidates if path.is_file()), None)


class Tagger:
    """Comma-separated tags: characters first, then general ones, the most probable in front."""

    sees_several = False

    def __init__(self, model: Path, choice: TagChoice, batch_size: int = 1, keep: bool = False):
        self.model, self.choice = model, choice
        self.batch_size, self.keep = batch_size, keep
        self._session: Any = None

    def key(self) -> str:
        return repr((type(self).__name__, self.model, self.choice))

    def describe(self, samples: Sequence[Sample]) -> list[str]:
        session = self._session = self._session or _open(self.model)
        feed = session.get_inputs()[0]
        batch = np.stack([_pixels(sample[0], feed.shape[1]) for sample in samples])
        scores = session.run([session.get_outputs()[0].name], {feed.name: batch})[0]
        labels = _labels(self.model, scores.shape[1])
        return [", ".join(chosen_tags(labels, row, self.choice)) for row in scores]

    def release(self) -> None:
        if not self.keep:
            self._session = None


def chosen_tags(
    labels: Sequence[tuple[str, str]], scores: Sequence[float], choice: TagChoice
) -> list[str]:
    """Tags above their threshold. `labels` are (name, category), `scores` in 0..1."""
    excluded = {_plain(tag) for tag in choice.exclude.split(",")}
    limits = {CHARACTER: choice.character_threshold, GENERAL: choice.general_threshold}
    ranked = sorted(zip(labels, scores, strict=True), key=lambda entry: -entry[1])
    chosen = [
        name
        for wanted in (CHARACTER, GENERAL)
        for (name, category), score in ranked
        if category == wanted and score > limits[wanted] and _plain(name) not in excluded
    ]
    rating = next((name for (name, category), _ in ranked if category == RATING), "")
    if rating and choice.rating != "leave out":
        chosen = [rating, *chosen] if choice.rating == "first" else [*chosen, rating]
    return [_written(tag, choice) for tag in chosen]


def _plain(tag: str) -> str:
    return tag.strip().lower().replace(" ", "_").replace("\\", "")


def _written(tag: str, choice: TagChoice) -> str:
    if not choice.underscores and tag not in _FACES:
        tag = tag.replace("_", " ")
    if choice.escape_brackets:  # bare brackets weight a word in ComfyUI's prompts
        tag = tag.replace("(", "\\(").replace(")", "\\)")
    return tag


def _pixels(picture: Image.Image, size: int) -> np.ndarray:
    """[size, size, 3] float32 in 0..255, BGR, centred on white, as in the taggers' training."""
    scale = size / max(picture.size)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    square = Image.new("RGB", (size, size), "white")
    corner = ((size - width) // 2, (size - height) // 2)
    square.paste(picture.resize((width, height), Image.Resampling.BICUBIC), corner)
    return np.asarray(square, np.float32)[:, :, ::-1]


def _open(model: Path) -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise CaptionError(
            say(
                "Tagging needs the package onnxruntime. Install it into ComfyUI's Python (pip "
                "install onnxruntime, or onnxruntime-gpu), then restart ComfyUI."
            )
        ) from None
    preferred = ("CUDAExecutionProvider", "DmlExecutionProvider", "CPUExecutionProvider")
    available = onnxruntime.get_available_providers()
    try:
        return onnxruntime.InferenceSession(
            str(model), providers=[name for name in preferred if name in available]
        )
    except Exception as error:  # onnxruntime's own exception types have no common base
        raise CaptionError(
            say(
                "{path} could not be opened ({error}). Download it again from the model's page "
                "(Hugging Face: {source}).",
                path=model,
                error=error,
                source=SOURCES["WD14"],
            )
        ) from error


def _labels(model: Path, outputs: int) -> list[tuple[str, str]]:
    file = labels_file(model)
    if file is None:
        raise CaptionError(
            say(
                "{name} has no tag list. Put {file} (or selected_tags.csv) into {folder}.",
                name=model.name,
                file=f"{model.stem}.csv",
                folder=model.parent,
            )
        )
    try:
        with file.open(encoding="utf-8-sig", newline="") as rows:
            labels = [(row["name"], row["category"]) for row in csv.DictReader(rows)]
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise CaptionError(
            say(
                "{file} is no tag list ({error}). Download it again from the model's page.",
                file=file, error=error,
            )
        ) from error  # fmt: skip
    if len(labels) != outputs:
        raise CaptionError(
            say(
                "{file} lists {tags} tags, {name} has {outputs} outputs: they belong to different "
                "models. Download both from the same page.",
                file=file,
                tags=len(labels),
                name=model.name,
                outputs=outputs,
            )
        )
    return labels
