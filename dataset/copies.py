"""Pictures that occur twice: on both sides of a pair, in two pairs, as the target of all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from ..files import content_hash, file_mark
from ..language import say
from .check_pair import same_picture
from .finding import ERROR, WARNING, Finding
from .image import open_rgb
from .pair import Pair
from .text import listed

OPENED = 3
"""Pairs that are opened to see whether there is an edit; if not in them, then in none."""

FEWEST = 4
"""Pairs from which on more than half must not have the same target."""

Contents = Mapping[Path, str]
"""What each picture's file holds: equal for copies."""

Thing = TypeVar("Thing")


def contents(pairs: Sequence[Pair]) -> Contents:
    """The contents of all pictures; only files of the same size are read."""
    paths = dict.fromkeys(path for pair in pairs for path in (*pair.controls, pair.target))
    size = {path: path.stat().st_size if path.is_file() else 0 for path in paths}
    uses = Counter(size.values())
    copied = {path for path in paths if size[path] and uses[size[path]] > 1}
    return {path: content_hash(path) if path in copied else str(path) for path in paths}


def identical(pairs: Sequence[Pair], content: Contents) -> list[Finding]:
    """Pairs whose control and target are the same file or copies of one, and sets of which the
    pairs that are opened, the first, the middle and the last, show no edit."""
    same: list[Pair] = []
    others: list[Pair] = []
    for pair in pairs:
        if pair.controls:
            copied = content[pair.controls[0]] == content[pair.target]
            (same if copied else others).append(pair)
    findings = []
    if same:
        findings.append(
            _no_edit(
                same,
                len(same) > len(pairs) / 2,
                say(
                    "{count} of {all} pairs have the same file on both sides, so there is no edit: "
                    "{names}.",
                    count=len(same),
                    all=len(pairs),
                    names=listed([pair.stem for pair in same], most=20),
                ),
            )
        )
    opened = spread(others, OPENED)
    likeness = [alike(p.controls[0], p.target) for p in opened]
    if opened and all(likeness):
        findings.append(
            _no_edit(
                opened,
                all(each == EQUAL for each in likeness),
                say(
                    "Control and target show the same picture in all pairs that were opened: "
                    "{names} (of {all}).",
                    names=listed([pair.stem for pair in opened]),
                    all=len(pairs),
                ),
            )
        )
    return findings


def _no_edit(pairs: Sequence[Pair], certain: bool, message: str) -> Finding:
    remedy = say("Put the edited picture in its place, or remove the pair.")
    stems = tuple(pair.stem for pair in pairs)
    return Finding("identical", ERROR if certain else WARNING, message, remedy, stems)


EQUAL, NEARLY, DIFFERENT = "equal", "nearly", ""


def alike(one: Path, other: Path) -> str:
    """How much two pictures are alike: in every pixel, as a JPEG is like its original, or not."""
    return _alike(one, other, file_mark(one) + file_mark(other))


@lru_cache(maxsize=1000)
def _alike(one: Path, other: Path, _marks: str) -> str:
    first, second = open_rgb(one), open_rgb(other)
    if first.size == second.size and first.tobytes() == second.tobytes():
        return EQUAL
    return NEARLY if same_picture(first, second) else DIFFERENT


def repeated(pairs: Sequence[Pair], content: Contents) -> list[Finding]:
    """Pairs of the same pictures, caption and split as one before them."""
    known: dict[tuple[str, ...], str] = {}
    twice = []
    for pair in pairs:
        key = (pair.caption, pair.split, *(content[path] for path in (*pair.controls, pair.target)))
        first = known.setdefault(key, pair.stem)
        if first != pair.stem:
            twice.append((first, pair.stem))
    if not twice:
        return []
    return [
        Finding(
            "duplicate",
            WARNING,
            say(
                "{count} of {all} pairs are copies of others: {names}.",
                count=len(twice),
                all=len(pairs),
                names=listed([f"{first} = {again}" for first, again in twice], most=20),
            ),
            say("Remove them; to make a pair count more often, use `repeats`."),
            tuple(again for _, again in twice),
        )
    ]


def one_target(pairs: Sequence[Pair], content: Contents) -> list[Finding]:
    """More than half of the pairs have the same target, though their controls differ in name."""
    paired = [pair for pair in pairs if pair.controls]
    controls = {(content[pair.target], pair.controls[0].stem): pair for pair in paired}
    uses = Counter(target for target, _ in controls)
    target, count = max(uses.items(), key=lambda entry: entry[1], default=("", 0))
    if len(paired) < FEWEST or count <= len(paired) / 2:
        return []
    same = [pair for (own, _), pair in controls.items() if own == target]
    return [
        Finding(
            "one target",
            WARNING,
            say(
                "{count} of {all} pairs have the same picture as target: {names}.",
                count=count,
                all=len(paired),
                names=listed([pair.stem for pair in same], most=20),
            ),
            say("The LoRA would learn to draw it. Give each control its own edited picture."),
            tuple(pair.stem for pair in same),
        )
    ]


def spread(things: Sequence[Thing], most: int) -> list[Thing]:
    """At most `most` of the things, evenly spaced from the first to the last."""
    if len(things) <= most:
        return list(things)
    return [things[round(i * (len(things) - 1) / (most - 1))] for i in range(most)]
