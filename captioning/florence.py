"""Florence-2: answers task tokens instead of questions."""

import re
from collections.abc import Sequence
from typing import Any

import torch

from ..values import read_json
from .captioner import Sample
from .florence_legacy import is_legacy, read_legacy
from .transformers_captioner import TransformersCaptioner

TASKS = {
    "caption": "<CAPTION>",
    "detailed caption": "<DETAILED_CAPTION>",
    "more detailed caption": "<MORE_DETAILED_CAPTION>",
    "tags (PromptGen)": "<GENERATE_TAGS>",
    "mixed caption (PromptGen)": "<MIXED_CAPTION>",
    "mixed caption plus (PromptGen)": "<MIXED_CAPTION_PLUS>",
    "analyze (PromptGen)": "<ANALYZE>",
    "objects": "<OD>",
    "region captions": "<DENSE_REGION_CAPTION>",
    "text in the picture": "<OCR>",
}
"""Every task that yields words without further input; positions are left out of the text."""

_SPECIAL = re.compile(r"</?(?:s|pad|unk|mask)>")
_POSITIONS = re.compile(r"(?:<(?:loc_\d+|/?poly|and|sep)>)+")


class Florence(TransformersCaptioner):
    """`task` is a key of TASKS. Beam search of 3, as its authors use it."""

    def __init__(self, *args: Any, task: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.task = TASKS[task]
        self.generation = {"num_beams": 3} | self.generation

    def question(self) -> str:
        return self.task

    def read(self, options: dict[str, Any]) -> tuple[Any, Any]:
        folder = self.weights.folder
        config = read_json((folder / "config.json").read_text(encoding="utf-8"))
        if is_legacy(config):
            return read_legacy(folder, config, options)
        return super().read(options)

    def inputs(self, processor: Any, samples: Sequence[Sample]) -> Any:
        pictures = [sample[0] for sample in samples]
        return processor(
            images=pictures, text=[self.task] * len(samples), return_tensors="pt", padding=True
        )

    def decode(self, processor: Any, output: torch.Tensor) -> list[str]:
        # with special tokens, for the words between positions would run into each other
        texts = processor.batch_decode(output, skip_special_tokens=False)
        return [_without_positions(text) for text in texts]


def _without_positions(text: str) -> str:
    parts = _POSITIONS.split(_SPECIAL.sub("", text))
    words = [part.strip() for part in parts if part.strip()]
    return ", ".join(dict.fromkeys(words))
