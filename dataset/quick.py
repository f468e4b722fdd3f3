"""The cheap checks, made whenever pairs are loaded and again when training starts.

Certain mistakes are errors, doubts are warnings. Opens no picture.
"""

import os
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

from ..files import content_hash
from ..language import say
from .finding import ERROR, WARNING, Finding
from .load import require_controls
from .names import CONTROL, TARGET, ending_of, side_of_path
from .pair import DatasetError, Pair
from .text import listed

MOST_HELD_OUT = 0.4
"""A hold-out beyond this share of the pairs is probably a mistake: a fraction holds out a third of
the smallest sets that can have a verdict, and less of all others."""

LETTERS = "letters"
"""The kind of finding that only concerns models with T5."""

LOOKED_AT = 200
"""Pairs whose captions are looked for beside them."""


def require_sound(pairs: Sequence[Pair]) -> list[Finding]:
    """The doubts about the pairs. Raises DatasetError for certain mistakes."""
    if any(pair.controls for pair in pairs):
        require_controls(pairs)
    findings = quick_findings(pairs)
    errors = [finding for finding in findings if finding.severity == ERROR]
    if errors:
        raise DatasetError("\n".join(f"{error.message} {error.remedy}" for error in errors))
    return findings


def quick_findings(pairs: Sequence[Pair]) -> list[Finding]:
    """Sides that have changed places, no edit, a large or leaking hold-out, captions."""
    return [
        *swapped(pairs),
        *identical(pairs),
        *held_out(pairs),
        *uncaptioned(pairs),
        *unreadable_letters(pairs),
    ]


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
    weight = sum(weight for weight, _ in evidence)
    if weight <= 0:
        return []
    reasons = say("; ").join(reason for weight, reason in evidence if weight > 0)
    return [
        Finding(
            "swapped",
            ERROR if weight > 2 else WARNING,
            say("Control and target seem to be swapped: {reasons}.", reasons=reasons),
            say(
                "Control is the picture before the edit. Exchange the two folders if this is so; "
                "otherwise rename them."
            ),
        )
    ]


def identical(pairs: Sequence[Pair]) -> list[Finding]:
    """Pairs whose control and target are the same file, or copies of one."""
    same = [pair.stem for pair in pairs for path in pair.controls[:1] if _copies(path, pair.target)]
    if not same:
        return []
    return [
        Finding(
            "identical",
            ERROR if len(same) > len(pairs) / 2 else WARNING,
            say(
                "{count} of {all} pairs have the same file on both sides, so there is no edit: "
                "{names}.",
                count=len(same),
                all=len(pairs),
                names=listed(same, most=20),
            ),
            say("Put the edited picture in its place, or remove the pair."),
            tuple(same),
        )
    ]


def held_out(pairs: Sequence[Pair]) -> list[Finding]:
    """A hold-out of nearly half or more, and pictures that are trained on and held out too."""
    held = [pair for pair in pairs if pair.split == "holdout"]
    findings = []
    if len(held) > MOST_HELD_OUT * len(pairs):
        findings.append(
            Finding(
                "hold-out",
                WARNING,
                say(
                    "{count} of {all} pairs are held out: nothing is learnt from them.",
                    count=len(held),
                    all=len(pairs),
                ),
                say(
                    "Lower holdout (below 1 it is a share: 0.15 is 15 %; four to eight pairs are "
                    "enough), or add pairs."
                ),
            )
        )
    trained = {path for pair in pairs if pair.split != "holdout" for path in _shown(pair)}
    both = [pair.stem for pair in held if trained.intersection(_shown(pair))]
    if both:
        findings.append(
            Finding(
                "leak",
                WARNING,
                say("Both held out and trained on: {names}.", names=listed(both, most=20)),
                say("Hold out all pairs of a picture, or none; otherwise the verdict is too good."),
                tuple(both),
            )
        )
    return findings


def _shown(pair: Pair) -> tuple[Path, ...]:
    """The pictures that a pair is about; further references may be the same in all pairs."""
    return (*pair.controls[:1], pair.target)


def uncaptioned(pairs: Sequence[Pair]) -> list[Finding]:
    empty = [pair.stem for pair in pairs if not pair.caption.strip()]
    if not empty:
        return []
    none = say("No pair has a caption yet.")
    some = say(
        "{count} of {all} pairs have no caption: {names}.",
        count=len(empty),
        all=len(pairs),
        names=listed(empty, most=20),
    )
    return [
        Finding(
            "no caption",
            WARNING,
            none if len(empty) == len(pairs) else some,
            say("Set a default caption or use Caption Pairs."),
            tuple(empty),
        )
    ]


def unreadable_letters(pairs: Sequence[Pair]) -> list[Finding]:
    """Captions in letters that T5 has no tokens for; it reads them as one unknown word."""
    foreign = [pair for pair in pairs if _mostly_foreign(pair.caption)]
    if not foreign:
        return []
    return [
        Finding(
            LETTERS,
            WARNING,
            say(
                "{count} of {all} captions are in letters that T5 cannot read, such as “{text}”.",
                count=len(foreign),
                all=len(pairs),
                text=foreign[0].caption[:30],
            ),
            say(
                "FLUX.1 reads with T5: write the instruction in English. FLUX.2 and Qwen-Image "
                "read Chinese."
            ),
            tuple(pair.stem for pair in foreign),
        )
    ]


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
    some = pairs[:: -(-len(pairs) // LOOKED_AT)]
    if any(pair.controls[0].parent == pair.target.parent for pair in some):
        return []
    controls = any(_has_text(pair.controls[0]) for pair in some)
    targets = any(_has_text(pair.target) for pair in some)
    if controls == targets:
        return []
    return [(2, say("the captions lie beside the controls"))] if controls else [(-1, "")]


def _has_text(picture: Path) -> bool:
    return any(picture.with_suffix(suffix).is_file() for suffix in (".txt", ".caption"))


def _copies(one: Path, other: Path) -> bool:
    if one == other:
        return True
    return one.stat().st_size == other.stat().st_size and content_hash(one) == content_hash(other)


def _mostly_foreign(caption: str) -> bool:
    """Whether most letters are of a script without an alphabet of Latin, as T5's is."""
    letters = [letter for letter in caption if letter.isalpha()]
    return sum(ord(letter) > 0x24F for letter in letters) > len(letters) / 2
