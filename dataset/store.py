"""Writing pairs to disk, whole or not at all."""

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

import numpy as np
from PIL import Image

from .image import to_rgb
from .pair import DatasetError, Pair


def to_image(values: np.ndarray) -> Image.Image:
    """[H, W, C] floats in 0..1 (1, 3 or 4 channels) as an 8-bit RGB picture."""
    levels = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
    return to_rgb(Image.fromarray(levels[..., 0] if levels.shape[-1] == 1 else levels))


def save_png(image: Image.Image, path: Path) -> None:
    """Write a PNG under its final name only once it is complete."""
    _replace_with(path, lambda file: image.save(file, "PNG", compress_level=4))


def save_text(text: str, path: Path) -> None:
    """Write UTF-8 text under its final name only once it is complete."""
    _replace_with(path, lambda file: file.write(text.encode("utf-8")))


def write_set(
    controls: Sequence[Image.Image],
    targets: Sequence[Image.Image],
    captions: Sequence[str],
    folder: Path,
) -> tuple[Pair, ...]:
    """Pairs `image_0001`, … in a folder named by their content; equal ones are not written again.

    One caption serves all pairs; otherwise there must be one for each.
    """
    if len(controls) != len(targets):
        raise DatasetError(
            f"{len(controls)} control pictures, but {len(targets)} targets. Every control needs "
            "its target, in the same order."
        )
    if len(captions) not in (1, len(targets)):
        raise DatasetError(
            f"{len(captions)} captions for {len(targets)} pairs. Give one for all, or one for each."
        )
    texts = list(captions) * len(targets) if len(captions) == 1 else list(captions)
    content = hashlib.sha256()
    for image in (*controls, *targets):
        content.update(repr(image.size).encode() + image.tobytes())
    own = folder / content.hexdigest()[:16]
    pairs = []
    for number, (control, target, text) in enumerate(zip(controls, targets, texts, strict=True), 1):
        name = f"image_{number:04d}"
        paths = own / "control" / f"{name}.png", own / "target" / f"{name}.png"
        for image, path in zip((control, target), paths, strict=True):
            if not path.exists():
                save_png(image, path)
                os.utime(path, (0, 0))  # named by content: when it was written means nothing
        pairs.append(Pair(name, paths[:1], paths[1], text.strip()))
    return tuple(pairs)


def _replace_with(path: Path, write: Callable[[BinaryIO], object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.parent / f".partial_{uuid4().hex}"  # short: the name itself may be 250 letters
    try:
        with partial.open("wb") as file:
            write(file)
        os.replace(partial, path)
    except OSError as error:
        raise DatasetError(f"{path} cannot be written: {error.strerror or error}.") from error
    finally:
        partial.unlink(missing_ok=True)
