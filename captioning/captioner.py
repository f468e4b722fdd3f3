"""The interface of every captioner. The rest of the pack knows nothing else about them."""

from collections.abc import Sequence
from typing import Protocol

from PIL.Image import Image

Sample = tuple[Image, ...]
"""The pictures that one description is about: usually one, control(s) then target for an edit."""


class CaptionError(ValueError):
    """A captioner cannot do what was asked; the message says what to change."""


class Captioner(Protocol):
    """Turns pictures into text. Loads its model when it is first asked to describe something."""

    batch_size: int
    sees_several: bool
    """Whether one description may be about several pictures (control and target)."""

    def key(self) -> str:
        """Everything that the text depends on, except the pictures."""

    def describe(self, samples: Sequence[Sample]) -> list[str]:
        """One text per sample, in order. One model call however many samples there are."""

    def release(self) -> None:
        """Free the model when the work is done, unless the user wants to keep it."""
