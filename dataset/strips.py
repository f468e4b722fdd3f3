"""Several pictures as one."""

from collections.abc import Sequence

from PIL import Image


def pasted(images: Sequence[Image.Image], down: bool = False, ground: str = "black") -> Image.Image:
    """The images in a row, or `down` one below the other; `ground` shows where one is shorter."""
    widths, heights = zip(*(image.size for image in images), strict=True)
    strip = Image.new(
        "RGB", (max(widths), sum(heights)) if down else (sum(widths), max(heights)), ground
    )
    at = 0
    for image in images:
        strip.paste(image, (0, at) if down else (at, 0))
        at += image.height if down else image.width
    return strip
