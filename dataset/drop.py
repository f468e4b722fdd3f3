"""Which of two sets of file names belong together, before any file is there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from .files import folded
from .names import CONTROL, TARGET, ending_of


@dataclass(frozen=True)
class NamedPair:
    """Places of a control and a target in the two sets, and the name they get."""

    control: int
    target: int
    name: str


def match_names(controls: Sequence[str], targets: Sequence[str]) -> list[NamedPair]:
    """Pairs of equal names; else of names that are equal without the ending that says their side
    (`ring_before`, `ring_after`). Each file is in one pair at most.
    """
    pairs: list[NamedPair] = []
    free = set(range(len(controls)))
    open_targets = list(range(len(targets)))
    for rule in (_whole, _without_ending):
        by_key: dict[str, int] = {}
        for place in sorted(free, reverse=True):  # of two, the first
            by_key[folded(rule(controls[place], CONTROL))] = place
        left = []
        for place in open_targets:
            name = rule(targets[place], TARGET)
            control = by_key.pop(folded(name), None)
            if control is None:
                left.append(place)
            else:
                free.discard(control)
                pairs.append(NamedPair(control, place, name))
        open_targets = left
    return sorted(pairs, key=lambda pair: pair.target)


def _whole(name: str, _side: str) -> str:
    return stem_of(name)


def _without_ending(name: str, side: str) -> str:
    ending = ending_of(stem_of(name))
    if not ending or ending[1] != side:
        return stem_of(name)
    number = f"_{ending[3]}" if ending[3] else ""
    return ending[0] + number


def stem_of(name: str) -> str:
    """The name without folders and its last suffix; letters that no file may have become `_`."""
    stem = PurePosixPath(name.replace("\\", "/")).stem
    return re.sub(r'[<>:"|?*\x00-\x1f]', "_", stem).strip(" .") or "_"
