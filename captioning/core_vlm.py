"""Vision-language models that ComfyUI loads itself as a text encoder: Qwen3-VL, Qwen3.5, Gemma."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from PIL.Image import Resampling

from ..dataset.pixels import to_values
from ..language import say
from .captioner import CaptionError, Sample
from .residence import unload

if TYPE_CHECKING:
    from comfy.sd import CLIP as Clip

MODELS = "Qwen3-VL, Qwen3.5, Gemma 3/4"
SUITABLE = f"{MODELS} with vision, in models/text_encoders"


class CoreVision:
    """Asks a CLIP object that can see pictures and write text. One prompt may show several."""

    sees_several = True
    batch_size = 1  # ComfyUI generates for one prompt at a time

    def __init__(
        self,
        clip: Clip,
        prompt: str,
        max_tokens: int = 256,
        temperature: float = 0.0,
        seed: int = 0,
        keep: bool = True,
    ) -> None:
        self.clip, self.prompt, self.keep = clip, prompt.strip(), keep
        self.settings = {
            "do_sample": temperature > 0,
            "max_length": max_tokens,
            "temperature": temperature or 1.0,
            "seed": seed,
        }
        if not _writes(clip):
            raise CaptionError(
                say(
                    "{encoder} encodes text but cannot write it. Connect a CLIP loader with "
                    "{models} (models/text_encoders).",
                    encoder=type(clip.cond_stage_model).__name__,
                    models=MODELS,
                )
            )

    def key(self) -> str:
        model = type(self.clip.cond_stage_model).__name__
        weights = self.clip.patcher.model_size()
        return repr((type(self).__name__, model, weights, self.prompt, self.settings))

    def describe(self, samples: Sequence[Sample]) -> list[str]:
        return [self._ask(sample) for sample in samples]

    def _ask(self, sample: Sample) -> str:
        with torch.inference_mode():
            tokens = self.clip.tokenize(self.prompt, image=_batch(sample), min_length=1)
            pictures = sum(isinstance(token[0], dict) for row in _rows(tokens) for token in row)
            if pictures != len(sample):
                raise CaptionError(
                    say(
                        "{encoder} sees {count} of {all} pictures. Connect a CLIP loader with "
                        "{models} that has vision (models/text_encoders).",
                        encoder=type(self.clip.cond_stage_model).__name__,
                        count=pictures,
                        all=len(sample),
                        models=MODELS,
                    )
                )
            return self.clip.decode(self.clip.generate(tokens, **self.settings)).strip()

    def release(self) -> None:
        if not self.keep:
            unload(self.clip.patcher)


def _writes(clip: Clip) -> bool:
    encoder = clip.cond_stage_model
    inner = getattr(encoder, getattr(encoder, "clip", ""), encoder)
    return hasattr(getattr(inner, "transformer", None), "generate")


def _rows(tokens: dict[str, Any]) -> list[list[Any]]:
    return next(iter(tokens.values()))


def _batch(sample: Sample) -> torch.Tensor:
    """[pictures, H, W, 3] in 0..1; ComfyUI wants one size, so all get that of the first."""
    size = sample[0].size
    pictures = [p if p.size == size else p.resize(size, Resampling.LANCZOS) for p in sample]
    return torch.stack([torch.from_numpy(to_values(picture)) for picture in pictures])
