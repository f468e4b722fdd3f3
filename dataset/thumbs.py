"""Small pictures of pairs, made once: before and after side by side in one file."""

import hashlib
import os
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from uuid import uuid4

from PIL import Image

from ..files import file_mark
from .image import open_grey, open_rgb, thumbnail
from .pair import Pair

SIDE = 320
PAPER = (43, 46, 52)
RED = (230, 40, 60)


def sprite(pair: Pair, folder: Path) -> Path:
    """A JPEG of the first control and the target, in frames of one size, kept in `folder`.

    Made anew only when a picture changes. Raises DatasetError for pictures that cannot be opened.
    """
    files = (*pair.controls[:1], pair.target)
    marks = "\0".join(map(file_mark, files)).encode("utf-8", "surrogatepass")
    path = folder / f"{hashlib.sha256(marks).hexdigest()[:32]}.jpg"
    if path.exists():
        return path
    small = [thumbnail(file, SIDE) for file in files]
    width, height = (max(picture.size[side] for picture in small) for side in (0, 1))
    sheet = Image.new("RGB", (width * len(small), height), PAPER)
    for place, picture in enumerate(small):
        left = place * width + (width - picture.width) // 2
        sheet.paste(picture, (left, (height - picture.height) // 2))
    content = BytesIO()
    sheet.save(content, "JPEG", quality=82)
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"{uuid4().hex}.tmp"
    partial.write_bytes(content.getvalue())
    with suppress(PermissionError):  # Windows, where another request has just made and opened it
        os.replace(partial, path)
    return path


def whole(pair: Pair, side: str) -> bytes:
    """PNG of a picture as training opens it: "target", "masked" (the target, red where nothing is
    learnt), or the number of a control. Raises DatasetError and IndexError.
    """
    masked = side == "masked"
    picture = open_rgb(pair.target if masked or side == "target" else pair.controls[int(side)])
    if masked and pair.mask:
        mask = open_grey(pair.mask).resize(picture.size)
        picture = Image.composite(picture, Image.blend(picture, flat(picture), 0.6), mask)
    content = BytesIO()
    picture.save(content, "PNG", compress_level=1)
    return content.getvalue()


def flat(picture: Image.Image) -> Image.Image:
    return Image.new("RGB", picture.size, RED)
