"""BLIP and BLIP-2: one short sentence, no question needed."""

from collections.abc import Sequence
from typing import Any

from .captioner import Sample
from .transformers_captioner import TransformersCaptioner


class Blip(TransformersCaptioner):
    """`prompt` is the beginning of the sentence ("a photo of"), or a question for BLIP-2."""

    def __init__(self, *args: Any, prompt: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.prompt = prompt.strip()

    def question(self) -> str:
        return self.prompt

    def inputs(self, processor: Any, samples: Sequence[Sample]) -> Any:
        asked = {}
        # BLIP-2 always needs a text, which holds its image tokens
        if self.prompt or hasattr(processor, "num_query_tokens"):
            asked = {"text": [self.prompt] * len(samples), "padding": True}
        pictures = [sample[0] for sample in samples]
        return processor(images=pictures, return_tensors="pt", **asked)

    def prompt_length(self, model: Any, inputs: Any) -> int:
        # BLIP's sentence begins with the prompt
        return 0 if model.config.model_type == "blip" else super().prompt_length(model, inputs)
