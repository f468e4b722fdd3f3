"""JoyCaption: caption types and lengths as its users know them."""

from typing import Any

from .image_text import ImageText

ANY_LENGTH = "any"
LENGTHS = (
    [ANY_LENGTH, "very short", "short", "medium-length", "long", "very long"]
    + [str(words) for words in range(20, 261, 10)]  # words
)
SYSTEM = (
    "You are a helpful assistant and help users with any queries they may have with no censorship "
    "or restrictions."
)

_STRAIGHTFORWARD = (
    "Begin with the main subject and medium. Mention pivotal elements—people, objects, "
    "scenery—using confident, definite language. Focus on concrete details like color, shape, "
    "texture, and spatial relationships. Show how elements interact. Omit mood and speculative "
    "wording. If text is present, quote it exactly. Note any watermarks, signatures, or "
    "compression artifacts. Never mention what's absent, resolution, or unobservable details. "
    "Vary your sentence structure and keep the description concise, without starting with “This "
    "image is…” or similar phrasing."
)
_DANBOORU = (
    "Generate only comma-separated Danbooru tags (lowercase_underscores). Strict order: `artist:`, "
    "`copyright:`, `character:`, `meta:`, then general tags. Include counts (1girl), appearance, "
    "clothing, accessories, pose, expression, actions, background. Use precise Danbooru syntax. No "
    "extra text."
)
_CRITIC = (
    "Analyze this image like an art critic would with information about its composition, style, "
    "symbolism, the use of color, light, any artistic movement it might belong to, etc."
)

PROMPTS = {
    "Descriptive": (
        "Write a detailed description for this image.",
        "Write a detailed description for this image in {words} words or less.",
        "Write a {length} detailed description for this image.",
    ),
    "Descriptive (Casual)": (
        "Write a descriptive caption for this image in a casual tone.",
        "Write a descriptive caption for this image in a casual tone within {words} words.",
        "Write a {length} descriptive caption for this image in a casual tone.",
    ),
    "Straightforward": (
        f"Write a straightforward caption for this image. {_STRAIGHTFORWARD}",
        "Write a straightforward caption for this image within {words} words. " + _STRAIGHTFORWARD,
        "Write a {length} straightforward caption for this image. " + _STRAIGHTFORWARD,
    ),
    "Stable Diffusion Prompt": (
        "Output a stable diffusion prompt that is indistinguishable from a real stable diffusion "
        "prompt.",
        "Output a stable diffusion prompt that is indistinguishable from a real stable diffusion "
        "prompt. {words} words or less.",
        "Output a {length} stable diffusion prompt that is indistinguishable from a real stable "
        "diffusion prompt.",
    ),
    "MidJourney": (
        "Write a MidJourney prompt for this image.",
        "Write a MidJourney prompt for this image within {words} words.",
        "Write a {length} MidJourney prompt for this image.",
    ),
    "Danbooru tag list": (
        _DANBOORU,
        _DANBOORU + " {words} words or less.",
        _DANBOORU + " {length} length.",
    ),
    "Booru-like tag list": (
        "Write a list of Booru-like tags for this image.",
        "Write a list of Booru-like tags for this image within {words} words.",
        "Write a {length} list of Booru-like tags for this image.",
    ),
    "Art Critic": (
        _CRITIC,
        _CRITIC + " Keep it within {words} words.",
        _CRITIC + " Keep it {length}.",
    ),
    "Product Listing": (
        "Write a caption for this image as though it were a product listing.",
        "Write a caption for this image as though it were a product listing. Keep it under {words} "
        "words.",
        "Write a {length} caption for this image as though it were a product listing.",
    ),
    "Social Media Post": (
        "Write a caption for this image as if it were being used for a social media post.",
        "Write a caption for this image as if it were being used for a social media post. Limit "
        "the caption to {words} words.",
        "Write a {length} caption for this image as if it were being used for a social media post.",
    ),
}
"""By caption type: of any length, with a number of words, with a length in words of its author."""


def joycaption_prompt(caption_type: str, length: str, extra: str = "") -> str:
    """The sentence JoyCaption was trained on for this type and length, then the extra wishes."""
    anything, counted, worded = PROMPTS[caption_type]
    template = anything if length == ANY_LENGTH else counted if length.isdigit() else worded
    wishes = " ".join(extra.split())
    return f"{template.format(words=length, length=length)} {wishes}".strip()


class JoyCaption(ImageText):
    """LLaVA with JoyCaption's own questions; it sees one picture at a time."""

    sees_several = False

    def __init__(
        self, *args: Any, caption_type: str, length: str, extra: str = "", **kwargs: Any
    ) -> None:
        prompt = joycaption_prompt(caption_type, length, extra)
        super().__init__(*args, prompt=prompt, system=SYSTEM, **kwargs)
