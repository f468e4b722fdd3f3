"""The cheap checks, made whenever pairs are loaded and again when training starts.

Certain mistakes are errors, doubts are warnings. `copies` has those for pictures that occur twice.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from ..language import say
from .copies import Contents, contents, identical, one_target, repeated, spread
from .finding import ERROR, WARNING, Finding
from .geometry import Size, same_aspect
from .image import picture_size, read_all
from .load import require_controls
from .pair import DatasetError, Pair, PairedDataset
from .swapped import swapped
from .text import listed

MOST_HELD_OUT = 0.4
"""A hold-out beyond this share of the pairs is probably a mistake: a fraction holds out a third of
the smallest sets that can have a verdict, and less of all others."""

LETTERS = "letters"
"""The kind of finding that only concerns models with T5."""

NO_CAPTION = "no caption"

LOOKED_AT = 200
"""Pairs, evenly spaced, whose sizes are read."""

SMALL = 1024**2
"""A target of fewer pixels, and of less than a quarter of its control's, was perhaps exported too
small. Larger ones have all that training uses."""


def doubts(dataset: PairedDataset, without: Collection[str] = ()) -> list[str]:
    """What is doubtful about the pairs, in sentences, `without` findings of these kinds. Raises
    DatasetError for certain mistakes."""
    chosen = [found for found in require_sound(dataset.pairs) if found.kind not in without]
    return [*dataset.doubts, *(finding.sentence for finding in chosen)]


def require_sound(pairs: Sequence[Pair]) -> list[Finding]:
    """The findings that are no errors. Raises DatasetError for those that are."""
    if any(pair.controls for pair in pairs):
        require_controls(pairs)
    return without_errors(quick_findings(pairs))


def without_errors(findings: list[Finding]) -> list[Finding]:
    """The findings. Raises DatasetError if some are errors."""
    errors = [finding.sentence for finding in findings if finding.severity == ERROR]
    if errors:
        raise DatasetError("\n".join(errors))
    return findings


def quick_findings(pairs: Sequence[Pair]) -> list[Finding]:
    """Sides that have changed places, no edit, copies, odd sizes, a large or leaking hold-out,
    captions."""
    content = contents(pairs)
    return [
        *swapped(pairs),
        *sizes(pairs),
        *identical(pairs, content),
        *repeated(pairs, content),
        *one_target(pairs, content),
        *held_out(pairs, content),
        *uncaptioned(pairs),
        *unreadable_letters(pairs),
    ]


def sizes(pairs: Sequence[Pair]) -> list[Finding]:
    """Pairs whose sides differ in shape, and targets much smaller than their controls."""
    paired = spread([pair for pair in pairs if pair.controls], LOOKED_AT)
    paths = [path for pair in paired for path in _shown(pair)]
    size = read_all(dict.fromkeys(paths), picture_size)
    findings = []
    if other := [p for p in paired if not same_aspect(size[p.controls[0]], size[p.target])]:
        findings.append(
            Finding(
                "aspect",
                WARNING,
                say(
                    "Control and target differ in shape in {count} of {all} pairs: {names}.",
                    count=len(other),
                    all=len(paired),
                    names=_sizes_named(other, size),
                ),
                say("Crop both alike from the originals, unless the edit is to change the shape."),
                tuple(pair.stem for pair in other),
            )
        )
    if small := [
        pair
        for pair in paired
        if area(size[pair.target]) < min(SMALL, area(size[pair.controls[0]]) / 4)
    ]:
        findings.append(
            Finding(
                "size",
                WARNING,
                say(
                    "The target is much smaller than the control in {count} of {all} pairs: "
                    "{names}.",
                    count=len(small),
                    all=len(paired),
                    names=_sizes_named(small, size),
                ),
                say("Training shrinks both to the target's size. Use the full-size target."),
                tuple(pair.stem for pair in small),
            )
        )
    return findings


def area(size: Size) -> int:
    return size[0] * size[1]


def _sizes_named(pairs: Sequence[Pair], size: Mapping[Path, Size]) -> str:
    def named(path: Path) -> str:
        return "{}×{}".format(*size[path])

    return listed([f"{p.stem} ({named(p.controls[0])} → {named(p.target)})" for p in pairs], most=5)


def held_out(pairs: Sequence[Pair], content: Contents) -> list[Finding]:
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
    trained = {content[path] for p in pairs if p.split != "holdout" for path in _shown(p)}
    both = [p.stem for p in held if trained.intersection(content[path] for path in _shown(p))]
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
            NO_CAPTION,
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


def _mostly_foreign(caption: str) -> bool:
    """Whether most letters are of a script without an alphabet of Latin, as T5's is."""
    letters = [letter for letter in caption if letter.isalpha()]
    return sum(ord(letter) > 0x24F for letter in letters) > len(letters) / 2
