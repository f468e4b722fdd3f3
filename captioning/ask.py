"""Descriptions by a captioner for a desk, which keeps them until the user accepts them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .captioner import Captioner
from .describe import Side, describe_pairs
from .desk import Asking, Desk
from .journal import Journal


def describe_chosen(
    desk: Desk,
    numbers: Sequence[int],
    captioner: Captioner,
    side: Side,
    journal: Journal,
    progress: Callable[[int], object],
) -> None:
    """Ask about the pairs with these numbers; each answer is on the desk as soon as it is known.

    A picture that cannot be described is reported there. Raises CaptionError for a problem of the
    captioner itself.
    """
    pairs = [desk.pairs[number] for number in numbers]
    keys = {pair.stem: desk.opened.keys[n] for pair, n in zip(pairs, numbers, strict=True)}
    known = desk.asking
    asking = Asking(known.texts, known.problems, 0, len(pairs), working=True)
    desk.asking = asking
    try:
        answers = describe_pairs(pairs, captioner, side, journal, skip_failed=True)
        for done, answer in enumerate(answers, 1):
            desk.answer(keys[answer.pair.stem], answer.text, answer.problem)
            asking.done = done
            progress(done)
    finally:
        asking.working = False
        captioner.release()
