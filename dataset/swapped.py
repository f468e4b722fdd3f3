"""Whether control and target have changed places: evidence for and against, in points."""

import os
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

from ..language import say
from .copies import spread
from .finding import ERROR, WARNING, Finding
from .names import CONTROL, TARGET, ending_of, side_of_path
from .pair import Pair

LOOKED_AT = 200
"""Pairs, evenly spaced, beside which captions are looked for."""

Evidence = Sequence[tuple[int, str]]
"""Points that they are swapped, or negative ones that they are not, with the reason."""


def swapped(pairs: Sequence[Pair], worse_sides: Sequence[str] = ()) -> list[Finding]:
    """Whether control and target are swapped, by names, captions and, if given, appearance."""
    paired = [pair for pair in pairs if pair.controls]
    if not paired:
        return []
    evidence = [*_folder_names(paired), *_file_names(paired), *_captions_beside(paired)]
    votes = {side: worse_sides.count(side) for side in (CONTROL, TARGET)}
    if votes[TARGET] >= max(3, 0.6 * len(paired)) and votes[TARGET] > 4 * votes[CONTROL]:
        worse = say(
            "{count} of {all} targets look like their control made worse",
            count=votes[TARGET],
            all=len(paired),
        )
        evidence.append((1, worse))
    return verdict(
        evidence,
        say(
            "Control is the picture before the edit. Exchange the two folders if this is so; "
            "otherwise rename them."
        ),
    )


def verdict(evidence: Evidence, remedy: str) -> list[Finding]:
    """An error if there are more than two points, a warning if there is one, else nothing."""
    weight = sum(weight for weight, _ in evidence)
    if weight <= 0:
        return []
    reasons = say("; ").join(reason for weight, reason in evidence if weight > 0)
    message = say("Control and target seem to be swapped: {reasons}.", reasons=reasons)
    return [Finding("swapped", ERROR if weight > 2 else WARNING, message, remedy)]


def _folder_names(pairs: Sequence[Pair]) -> list[tuple[int, str]]:
    """Two points against for each folder that is named like its side, up to three for one that is
    named like the other side. Only names below the folder that both sides share count."""
    evidence: dict[tuple[str, str], tuple[int, str]] = {}
    for folders in sorted({(pair.controls[0].parent, pair.target.parent) for pair in pairs}):
        for side, parts in zip((CONTROL, TARGET), _below_shared(*folders), strict=True):
            found, weight = side_of_path(parts)
            if found == side:
                evidence[side, found] = -2, ""
            elif found and weight > evidence.get((side, found), (0, ""))[0]:
                evidence[side, found] = weight, _named(side, "/".join(parts))
    return list(evidence.values())


def _below_shared(control: Path, target: Path) -> list[tuple[str, ...]]:
    """The parts of two folders' paths below the folder that both lie in; if one lies in the other,
    it keeps its own name. Empty for one and the same folder."""
    if control == target:
        return [(), ()]
    both = zip(control.parts[:-1], target.parts[:-1], strict=False)
    same = takewhile(lambda pair: os.path.normcase(pair[0]) == os.path.normcase(pair[1]), both)
    shared = sum(1 for _ in same)
    return [control.parts[shared:], target.parts[shared:]]


def _named(side: str, name: str) -> str:
    if side == CONTROL:
        return say("the control folder is called “{name}”", name=name)
    return say("the target folder is called “{name}”", name=name)


def _file_names(pairs: Sequence[Pair]) -> list[tuple[int, str]]:
    """Three points if controls end as targets do (`ring_after`) and targets as controls do."""
    ends = [(ending_of(pair.controls[0].stem), ending_of(pair.target.stem)) for pair in pairs]
    wrong = sum(
        one is not None and other is not None and (one[1], other[1]) == (TARGET, CONTROL)
        for one, other in ends
    )
    if wrong < max(1, 0.6 * len(pairs)):
        return []
    shown = f"{pairs[0].controls[0].name} → {pairs[0].target.name}"
    return [(3, say("the file names say the opposite ({names})", names=shown))]


def _captions_beside(pairs: Sequence[Pair]) -> list[tuple[int, str]]:
    """Two points if captions lie beside controls alone, one against if beside targets alone."""
    some = spread(pairs, LOOKED_AT)
    if any(pair.controls[0].parent == pair.target.parent for pair in some):
        return []
    controls = any(_has_text(pair.controls[0]) for pair in some)
    targets = any(_has_text(pair.target) for pair in some)
    if controls == targets:
        return []
    return [(2, say("the captions lie beside the controls"))] if controls else [(-1, "")]


def _has_text(picture: Path) -> bool:
    return any(picture.with_suffix(suffix).is_file() for suffix in (".txt", ".caption"))
