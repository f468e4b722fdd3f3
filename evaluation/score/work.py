"""The progress of scoring: one bar, one time left, for losses, pictures and strengths together."""

from __future__ import annotations

import time

from PIL import Image

from ...language import say
from ...trainer.host import Progress

PARTS = 1000  # of the bar


class Work:
    """The whole work, in forward passes of the transformer.

    It starts with the maximum and shrinks by what turns out not to be needed, so that the bar never
    moves back.
    """

    def __init__(self, most: int, node_id: str | None = None) -> None:
        self.total, self.done, self.started = most, 0, time.monotonic()
        self.progress = Progress(PARTS, node_id)

    def expect(self, planned: int, needed: int) -> None:
        """Correct the total: of `planned` passes only `needed` ones are needed."""
        self.total -= planned - needed

    def advance(self, passes: int, label: str, preview: Image.Image | None = None) -> None:
        """Raises Interrupted once the user presses Cancel."""
        self.done += passes
        self.total = max(self.total, self.done)
        spent = time.monotonic() - self.started
        left = spent / max(1, self.done) * (self.total - self.done)
        text = say(
            "{label}: {done} of {count} forward passes, {minutes:.1f} min left",
            label=label,
            done=self.done,
            count=self.total,
            minutes=left / 60,
        )
        part = PARTS * self.done // max(1, self.total)
        self.progress.update(part, text if self.done else label, preview)


class PictureWork:
    """The part of `Work` that makes `count` pictures of `steps` passes each."""

    def __init__(self, work: Work, count: int, steps: int) -> None:
        self.work, self.count, self.steps = work, count, steps
        self.made: int | None = None

    def update(self, step: int, text: str = "", preview: Image.Image | None = None) -> None:
        """`step` pictures exist; those of the first call existed before."""
        if self.made is None:
            self.work.expect(self.count * self.steps, (self.count - step) * self.steps)
            self.made = step
        passes, self.made = (step - self.made) * self.steps, step
        self.work.advance(passes, text, preview)
