"""One node per kind of captioner: which model, and how to ask it."""

from typing import Any

from comfy_api.latest import io

from ..captioning.blip import Blip
from ..captioning.core_vlm import SUITABLE, CoreVision
from ..captioning.florence import TASKS, Florence
from ..captioning.image_text import ImageText
from ..captioning.joycaption import LENGTHS, PROMPTS, JoyCaption
from ..captioning.tagger import RATINGS, TagChoice, Tagger
from .captioner_inputs import (
    BLIP,
    FLORENCE,
    JOYCAPTION,
    VISION_LANGUAGE,
    asking_inputs,
    model_input,
    question_of,
    running_inputs,
    sampling,
    tagger_file,
    tagger_input,
    transformers_captioner,
)
from .sockets import CaptionerSocket

CATEGORY = "training/kontext/captions/captioners"


class CoreCaptioner(io.ComfyNode):
    """ComfyUI's own vision-language models."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="KontextCoreCaptioner",
            display_name="Captioner: ComfyUI Model (Qwen3-VL, Gemma)",
            category=CATEGORY,
            description="Describes pictures with a vision-language model that ComfyUI loads "
            "itself. Needs no extra package; may look at control and target together.",
            search_aliases=["caption", "qwen", "gemma", "vlm", "text generate"],
            inputs=[
                io.Clip.Input("clip", tooltip=f"From Load CLIP: {SUITABLE}."),
                *asking_inputs(),
                io.Boolean.Input(
                    "keep_loaded",
                    default=False,
                    tooltip="Keep the model on the card after captioning.",
                ),
            ],
            outputs=[CaptionerSocket.Output(display_name="captioner")],
        )

    @classmethod
    def execute(
        cls, clip: Any, question: str, own_question: str, keep_loaded: bool, **asking: Any
    ) -> io.NodeOutput:
        prompt = question_of(question, own_question)
        return io.NodeOutput(CoreVision(clip, prompt, keep=keep_loaded, **asking))


class FlorenceCaptioner(io.ComfyNode):
    """Florence-2 and its fine-tunes."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="KontextFlorenceCaptioner",
            display_name="Captioner: Florence-2",
            category=CATEGORY,
            description="Describes pictures with Florence-2 or PromptGen, in the new file layout "
            "or the old one (microsoft). Small and quick.",
            search_aliases=["caption", "florence2", "promptgen", "打标"],
            inputs=[
                model_input(FLORENCE, "Folders in models/LLM and models/florence2."),
                io.Combo.Input(
                    "task",
                    options=list(TASKS),
                    default="caption",
                    tooltip="What to write. 'caption' is the shortest. PromptGen tasks work with "
                    "PromptGen models only.",
                ),
                io.Int.Input(
                    "max_tokens", default=256, min=8, max=1024, tooltip="Longest answer, in tokens."
                ),
                *running_inputs(),
            ],
            outputs=[CaptionerSocket.Output(display_name="captioner")],
        )

    @classmethod
    def execute(cls, model: str, task: str, max_tokens: int, **running: Any) -> io.NodeOutput:
        return transformers_captioner(
            Florence, FLORENCE, model, {"max_new_tokens": max_tokens}, task=task, **running
        )


class BlipCaptioner(io.ComfyNode):
    """BLIP and BLIP-2."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="KontextBlipCaptioner",
            display_name="Captioner: BLIP / BLIP-2",
            category=CATEGORY,
            description="One short sentence per picture: what a style LoRA needs.",
            search_aliases=["caption", "blip2", "打标"],
            inputs=[
                model_input(BLIP, "Folders in models/blip and models/LLM."),
                io.String.Input(
                    "beginning",
                    default="",
                    tooltip="How the sentence begins, for example: a photo of. BLIP-2 also takes a "
                    "question: Question: what is it made of? Answer:",
                ),
                io.Int.Input(
                    "beams",
                    default=3,
                    min=1,
                    max=10,
                    tooltip="Number of candidate sentences to compare (beam search); 1 is fastest.",
                ),
                *running_inputs(),
            ],
            outputs=[CaptionerSocket.Output(display_name="captioner")],
        )

    @classmethod
    def execute(cls, model: str, beginning: str, beams: int, **running: Any) -> io.NodeOutput:
        generation = {"num_beams": beams, "max_new_tokens": 75}
        return transformers_captioner(Blip, BLIP, model, generation, prompt=beginning, **running)


class JoyCaptioner(io.ComfyNode):
    """JoyCaption (LLaVA)."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="KontextJoyCaptioner",
            display_name="Captioner: JoyCaption",
            category=CATEGORY,
            description="Describes pictures with JoyCaption, in its own caption types and lengths.",
            search_aliases=["caption", "joy caption", "llava", "打标"],
            inputs=[
                model_input(JOYCAPTION, "Folders in models/LLM, LLavacheckpoints."),
                io.Combo.Input(
                    "caption_type",
                    options=list(PROMPTS),
                    default="Straightforward",
                    tooltip="The kind of text.",
                ),
                io.Combo.Input(
                    "length",
                    options=LENGTHS,
                    default="20",
                    tooltip="Its length; a number is the maximum in words.",
                ),
                io.String.Input(
                    "extra",
                    default="",
                    multiline=True,
                    tooltip="Further instructions, for example: Do NOT mention any text that is in "
                    "the image.",
                ),
                io.Float.Input(
                    "temperature",
                    default=0.6,
                    min=0.0,
                    max=2.0,
                    step=0.05,
                    tooltip="0: always the likeliest word. Its author recommends 0.6.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=2**32 - 1,
                    control_after_generate=False,
                    tooltip="Another seed gives other words.",
                ),
                *running_inputs(),
            ],
            outputs=[CaptionerSocket.Output(display_name="captioner")],
        )

    @classmethod
    def execute(cls, model: str, temperature: float, **others: Any) -> io.NodeOutput:
        generation = sampling(512, temperature, top_p=0.9, top_k=0)
        return transformers_captioner(JoyCaption, JOYCAPTION, model, generation, **others)


class VisionCaptioner(io.ComfyNode):
    """Any image-text-to-text model of transformers."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="KontextVisionCaptioner",
            display_name="Captioner: Vision-Language Model",
            category=CATEGORY,
            description="Describes pictures with Qwen2.5-VL, Qwen3-VL, PaliGemma, GIT or any other "
            "image-text-to-text model folder. Chat models may look at control and target together.",
            search_aliases=["caption", "qwen-vl", "paligemma", "git", "internvl", "打标"],
            inputs=[
                model_input(VISION_LANGUAGE, "Folders in models/LLM, VLM, prompt_generator."),
                *asking_inputs(),
                *running_inputs(),
            ],
            outputs=[CaptionerSocket.Output(display_name="captioner")],
        )

    @classmethod
    def execute(
        cls,
        model: str,
        question: str,
        own_question: str,
        max_tokens: int,
        temperature: float,
        **running: Any,
    ) -> io.NodeOutput:
        generation, prompt = sampling(max_tokens, temperature), question_of(question, own_question)
        return transformers_captioner(
            ImageText, VISION_LANGUAGE, model, generation, prompt=prompt, **running
        )


class TagCaptioner(io.ComfyNode):
    """WD14 taggers."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="KontextTagCaptioner",
            display_name="Captioner: WD14 Tags",
            category=CATEGORY,
            description="Tags pictures with a WD14 tagger (v2 or v3). Needs onnxruntime.",
            search_aliases=["tagger", "wd14", "booru", "deepbooru", "tags", "打标"],
            inputs=[
                tagger_input(),
                io.Float.Input(
                    "general_threshold",
                    default=0.35,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="How sure the tagger must be. Lower: more tags, and more wrong ones.",
                ),
                io.Float.Input(
                    "character_threshold",
                    default=0.85,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="The same for names of known characters.",
                ),
                io.String.Input(
                    "exclude",
                    default="",
                    tooltip="Tags to leave out, separated by commas.",
                ),
                io.Boolean.Input(
                    "underscores", default=False, tooltip="Write long_hair instead of long hair."
                ),
                io.Combo.Input(
                    "rating",
                    options=list(RATINGS),
                    default=RATINGS[0],
                    tooltip="Where the rating tag (general, sensitive …) goes.",
                ),
                io.Boolean.Input(
                    "escape_brackets",
                    default=True,
                    tooltip="Write \\(series\\): bare brackets would weight the word in ComfyUI.",
                ),
                io.Int.Input(
                    "batch_size", default=1, min=1, max=64, tooltip="Pictures per model call."
                ),
                io.Boolean.Input(
                    "keep_loaded", default=False, tooltip="Keep the tagger in memory afterwards."
                ),
            ],
            outputs=[CaptionerSocket.Output(display_name="captioner")],
        )

    @classmethod
    def execute(
        cls, model: str, batch_size: int, keep_loaded: bool, **choice: Any
    ) -> io.NodeOutput:
        return io.NodeOutput(
            Tagger(tagger_file(model), TagChoice(**choice), batch_size, keep_loaded)
        )


NODES = [
    CoreCaptioner,
    FlorenceCaptioner,
    BlipCaptioner,
    JoyCaptioner,
    VisionCaptioner,
    TagCaptioner,
]
