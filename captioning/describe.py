"""Asks a captioner about the pictures of many pairs, one answer at a time."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from ..dataset.image import open_rgb
from ..dataset.pair import DatasetError, Pair
from ..language import say
from .captioner import Captioner, CaptionError, Sample
from .journal import Journal
from .presets import WHAT_CHANGED


class Side(str, Enum):
    """Which pictures of a pair are described; CHANGED: both, and how they differ."""

    TARGET = "target"
    CONTROL = "control"
    BOTH = "control and target"
    CHANGED = "what changed"


@dataclass(frozen=True)
class Answer:
    """The description of one pair; `problem` instead of `text` if there is none.

    `pictures` are those just shown to a captioner; empty if the text was known.
    """

    pair: Pair
    text: str = ""
    problem: str = ""
    pictures: Sample = ()
    remembered: bool = False


class Asked:
    """A captioner that sees several pictures, with another question than its own."""

    sees_several = True

    def __init__(self, captioner: Any, question: str) -> None:
        self.captioner, self.question = captioner, question
        self.batch_size = captioner.batch_size

    @contextmanager
    def asking(self) -> Iterator[None]:
        own, self.captioner.prompt = self.captioner.prompt, self.question
        try:
            yield
        finally:
            self.captioner.prompt = own

    def key(self) -> str:
        with self.asking():
            return self.captioner.key()

    def describe(self, samples: Sequence[Sample]) -> list[str]:
        with self.asking():
            return self.captioner.describe(samples)

    def release(self) -> None:
        self.captioner.release()


def describe_pairs(
    pairs: Sequence[Pair],
    captioner: Captioner,
    side: Side,
    journal: Journal,
    skip_failed: bool,
) -> Iterator[Answer]:
    """One answer per pair, roughly in their order, each as soon as it is in the journal.

    A picture that cannot be opened, or about which the model says nothing, gives an answer with a
    problem if `skip_failed`, and otherwise raises. A problem of the captioner itself always raises
    CaptionError.
    """
    if side in (Side.BOTH, Side.CHANGED) and not captioner.sees_several:
        raise CaptionError(
            say(
                "This captioner sees one picture at a time. Choose {target} or {control}, or "
                "connect a vision-language model.",
                target=Side.TARGET.value,
                control=Side.CONTROL.value,
            )
        )
    if side is Side.CHANGED:
        captioner = Asked(captioner, WHAT_CHANGED)
    settings = captioner.key()
    most = None if captioner.sees_several else 1
    files = {pair.stem: pictures_of(pair, side)[:most] for pair in pairs}
    keys = {stem: Journal.key(settings, paths) for stem, paths in files.items()}
    waiting: list[Answer] = []
    for pair in pairs:
        known = journal.get(keys[pair.stem])
        if known is not None:
            yield Answer(pair, known, remembered=True)
            continue
        try:
            pictures = tuple(open_rgb(path) for path in files[pair.stem])
        except DatasetError as error:
            if not skip_failed:
                raise
            yield Answer(pair, problem=str(error))
            continue
        waiting.append(Answer(pair, pictures=pictures))
        if len(waiting) == captioner.batch_size:
            yield from _answered(waiting, captioner, journal, keys, skip_failed)
            waiting = []
    if waiting:
        yield from _answered(waiting, captioner, journal, keys, skip_failed)


def pictures_of(pair: Pair, side: Side) -> tuple[Path, ...]:
    """The files that a description is about. Raises DatasetError if the pair has no such side."""
    controls = pair.controls if side is not Side.TARGET else ()
    if side is not Side.TARGET and not controls:
        raise DatasetError(
            say(
                "{name} has no control picture. Describe the target instead.",
                name=pair.stem,
            )
        )
    return controls if side is Side.CONTROL else (*controls, pair.target)


def _answered(
    waiting: list[Answer],
    captioner: Captioner,
    journal: Journal,
    keys: dict[str, str],
    skip_failed: bool,
) -> Iterator[Answer]:
    for answer in _ask(waiting, captioner):
        if answer.problem and not skip_failed:
            raise CaptionError(answer.problem)
        if answer.text:
            journal.add(keys[answer.pair.stem], answer.text)
        yield answer


def _ask(waiting: list[Answer], captioner: Captioner) -> list[Answer]:
    """Answers of one model call; a batch that fails because of one picture is asked one by one."""
    try:
        texts = captioner.describe([question.pictures for question in waiting])
    except CaptionError:
        raise
    except ValueError as error:  # raised by image processors for a picture they refuse
        if len(waiting) > 1:
            return [answer for question in waiting for answer in _ask([question], captioner)]
        question = waiting[0]
        name = question.pair.target.name
        problem = say("{name} could not be described: {error}", name=name, error=error)
        return [Answer(question.pair, problem=problem)]
    return [_checked(question, text) for question, text in zip(waiting, texts, strict=True)]


def _checked(question: Answer, text: str) -> Answer:
    # models that think aloud put the answer behind their thoughts
    words = " ".join(text.rpartition("</think>")[2].split())
    nothing = say("The captioner said nothing about {name}.", name=question.pair.target.name)
    return Answer(question.pair, words, "" if words else nothing, question.pictures)
