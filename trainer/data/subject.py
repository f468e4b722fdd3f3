"""A test picture for a LoRA: the model's inputs and, if known, the result to expect."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

from PIL import Image

from ...dataset.geometry import Size, crop_alike
from ...dataset.image import open_rgb
from ...dataset.pair import Pair
from ...language import say
from .sizes import Sizes


@dataclass(frozen=True, eq=False)
class Subject:
    """A test picture: controls and, if known, the true result. `size` is the result's.

    `whole` are the uncropped controls, for text encoders that see them.
    """

    name: str
    caption: str
    controls: tuple[Image.Image, ...]
    target: Image.Image | None
    size: Size
    whole: tuple[Image.Image, ...] = ()

    @cached_property
    def references(self) -> tuple[str, ...]:
        """Digests of the controls."""
        return tuple(picture_digest(control) for control in self.controls)


def subject_of_pair(pair: Pair, sizes: Sizes) -> Subject:
    """The pair as it is trained on, whichever split it belongs to."""
    target, whole = open_rgb(pair.target), tuple(map(open_rgb, pair.controls))
    size, reference = sizes.fit(target.size)
    target, *controls = crop_alike([target, *whole], [size, *(reference for _ in whole)])
    held_out = pair.split == "holdout"
    name = pair.stem if held_out else say("{name} (trained on)", name=pair.stem)
    return Subject(name, pair.caption, tuple(controls), target, size, whole)


def subject_of_image(image: Image.Image, name: str, sizes: Sizes, caption: str = "") -> Subject:
    """A test picture without a known result."""
    size, reference = sizes.fit(image.size)
    return Subject(name, caption, tuple(crop_alike([image], [reference])), None, size, (image,))


def picture_digest(image: Image.Image) -> str:
    """A digest of an RGB picture's pixels and size."""
    digest = hashlib.sha256(f"{image.width}x{image.height}".encode())
    digest.update(image.convert("RGB").tobytes())
    return digest.hexdigest()[:16]
