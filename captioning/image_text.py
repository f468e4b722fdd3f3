"""Any image-text-to-text model of transformers: Qwen-VL, PaliGemma, GIT, LLaVA and the rest."""

from collections.abc import Sequence
from typing import Any

from ..language import say
from .captioner import CaptionError, Sample
from .transformers_captioner import TransformersCaptioner

PICTURE, TEXT = {"type": "image"}, "text"


class ImageText(TransformersCaptioner):
    """Asks through the model's own chat template where it has one; plainly otherwise.

    Models with a chat template may be shown several pictures in one question.
    """

    sees_several = True

    def __init__(self, *args: Any, prompt: str, system: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.prompt, self.system = prompt.strip(), system.strip()

    def question(self) -> str:
        return f"{self.system}\n{self.prompt}"

    def inputs(self, processor: Any, samples: Sequence[Sample]) -> Any:
        if not getattr(processor, "chat_template", None):
            return self._plain(processor, _single(samples, say("it has no chat template")))
        if _takes_plain_strings(processor):
            why = say("its chat template takes one picture")
            return self._string_chat(processor, _single(samples, why))
        return processor.apply_chat_template(
            [self._conversation(sample) for sample in samples],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={"padding": True},
        )

    def _conversation(self, sample: Sample) -> list[dict[str, Any]]:
        pictures = [{"type": "image", "image": picture} for picture in sample]
        question = {"role": "user", "content": [*pictures, {"type": TEXT, TEXT: self.prompt}]}
        system = {"role": "system", "content": [{"type": TEXT, TEXT: self.system}]}
        return [system, question] if self.system else [question]

    def _string_chat(self, processor: Any, samples: Sequence[Sample]) -> Any:
        # such templates (JoyCaption's) put the picture after the first message, the system's
        system = self.system or "You are a helpful image captioner."
        text = processor.apply_chat_template(
            [{"role": "system", "content": system}, {"role": "user", "content": self.prompt}],
            tokenize=False,
            add_generation_prompt=True,
        )
        pictures = [sample[0] for sample in samples]
        return processor(
            text=[text] * len(samples), images=pictures, return_tensors="pt", padding=True
        )

    def _plain(self, processor: Any, samples: Sequence[Sample]) -> Any:
        pictures = [sample[0] for sample in samples]
        if type(processor).__name__ == "GitProcessor":  # takes a prompt as the caption's beginning
            return processor(images=pictures, return_tensors="pt")
        text = self.prompt
        if type(processor).__name__ == "PaliGemmaProcessor":
            text = "<image>" + text
        return processor(
            images=pictures, text=[text] * len(samples), return_tensors="pt", padding=True
        )


def _single(samples: Sequence[Sample], why: str) -> Sequence[Sample]:
    if any(len(sample) > 1 for sample in samples):
        raise CaptionError(
            say(
                "This model sees one picture at a time, because {why}. Describe the target or the "
                "control, or use Qwen-VL for both.",
                why=why,
            )
        )
    return samples


def _takes_plain_strings(processor: Any) -> bool:
    """Whether the chat template prints a list of contents as it stands instead of reading it."""
    contents = [PICTURE, {"type": TEXT, TEXT: "probe"}]
    probe = [
        {"role": "system", "content": [{"type": TEXT, TEXT: "probe"}]},
        {"role": "user", "content": contents},
    ]
    from jinja2 import TemplateError

    try:
        shown = processor.apply_chat_template(probe, tokenize=False, add_generation_prompt=True)
    except (TypeError, TemplateError):  # the template does text operations on the list
        return True
    return "'type'" in shown or '"type"' in shown
