"""How far scoring is: one bar and one time left for losses, pictures and strengths together."""

from __future__ import annotations

import time

from PIL import Image

from ...language import say
from ...trainer.host import Progress

PARTS = 1000  # of the bar


class Work:
    """All that is to be done, in forward passes of the transformer.

    It begins with the most that there can be and shrinks with what turns out not to be needed, so
    that the bar never goes back.
    """

    def __init__(self, most: int, node_id: str | None = None) -> None:
        self.total, self.done, self.started = most, 0, time.monotonic()
        self.progress = Progress(PARTS, node_id)

    def expect(self, planned: int, needed: int) -> None:
        """Of what was counted as `planned` so many are needed."""
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
        """So many pictures are there; those of the first call were there before."""
        if self.made is None:
            self.work.expect(self.count * self.steps, (self.count - step) * self.steps)
            self.made = step
        passes, self.made = (step - self.made) * self.steps, step
        self.work.advance(passes, text, preview)
