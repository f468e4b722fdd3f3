"""Check a whole dataset before any model is loaded. Thresholds: docs/guide/checks.md."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path

import numpy as np
from PIL import Image

from ..language import say
from .alike import NEAR, SAME, Groups, distances, near_pairs
from .check_pair import Look, look_at
from .copies import contents
from .files import folded, list_folder
from .finding import ERROR, NOTE, WARNING, Finding
from .image import open_rgb, picture_size
from .masks import open_mask
from .measure import grey, offset
from .pair import DatasetError, Pair, PairedDataset
from .quick import held_out, uncaptioned, unreadable_letters
from .swapped import swapped
from .text import listed

FEWEST_PAIRS = 15
"""Guides: 15–20 pictures at least, 20–60 pairs for an edit."""

LONG_CAPTION = 512
"""T5 tokens that FLUX was trained with."""

VERSION = 25
"""Correlation peak at 128 x 128 that confirms equal hashes: versions 68–127, others up to 11."""

UNIFORM = 18
"""Median hash distance of all targets; different photographs have 32."""

MOST_COMPARED = 5_000
"""Most pairs of pictures with near hashes to compare closely: each opens up to four files."""

SAMPLED = 1000
"""Targets, evenly spaced, that are checked for likeness to one another."""

CountTokens = Callable[[str], int]


def check(
    dataset: PairedDataset,
    count_tokens: CountTokens | None = None,
    tick: Callable[[], object] = lambda: None,
) -> list[Finding]:
    """All findings on a dataset. Decodes every picture once; `tick` is called after each pair."""
    looks = {}
    for pair in dataset:
        looks[pair.stem] = look_at(pair)
        tick()
    return [
        *swapped(dataset.pairs, [look.worse for look in looks.values()]),
        *held_out(dataset.pairs, contents(dataset.pairs)),
        *(finding for look in looks.values() for finding in look.findings),
        *duplicates(dataset.pairs, looks),
        *leftovers(dataset.pairs),
        *masks([pair for pair in dataset if looks[pair.stem].hashes]),
        *captions(dataset.pairs, count_tokens),
        *amount(dataset.pairs, looks),
    ]


def duplicates(pairs: Sequence[Pair], looks: dict[str, Look]) -> list[Finding]:
    """Pairs that show the same picture; an error where one is held out and the other trained on."""
    seen = [pair for pair in pairs if looks[pair.stem].hashes]
    findings: list[Finding] = []
    known = Groups(pair.stem for pair in seen)
    targets, controls = ([looks[pair.stem].hashes[end] for pair in seen] for end in (-1, 0))
    compared = 0
    # the nearest first: in a large set many are near by chance
    for i, j in chain(*(near_pairs(targets, controls, within) for within in (SAME, NEAR))):
        one, other = seen[i], seen[j]
        if one.target == other.target or known.root(one.stem) == known.root(other.stem):
            continue
        compared += 1
        if compared > MOST_COMPARED:
            findings.append(
                Finding(
                    "duplicate",
                    NOTE,
                    say(
                        "So many pictures have a similar composition that only {count} of them "
                        "were compared closely.",
                        count=MOST_COMPARED,
                    ),
                    say("There may be more copies than those listed here."),
                )
            )
            break
        if not _agree(one, other, looks):
            continue
        known.join(one.stem, other.stem)
        leak = one.split != other.split
        findings.append(_leaking(one, other) if leak else _doubled(one, other))
    return findings


def _leaking(one: Pair, other: Pair) -> Finding:
    return Finding(
        "duplicate",
        ERROR,
        say(
            "{one} and {other} show the same picture, and only one of them is held out.",
            one=one.stem,
            other=other.stem,
        ),
        say("Remove one, or hold out both."),
        (one.stem, other.stem),
    )


def _doubled(one: Pair, other: Pair) -> Finding:
    return Finding(
        "duplicate",
        WARNING,
        say("{one} and {other} show the same picture.", one=one.stem, other=other.stem),
        say("Remove one of them."),
        (one.stem, other.stem),
    )


def leftovers(pairs: Sequence[Pair]) -> list[Finding]:
    """Pictures beside the pairs' files that belong to no pair, and files that share a name."""
    used = {path for pair in pairs for path in (*pair.controls, pair.target)}
    masks = {pair.mask for pair in pairs if pair.mask}
    findings = []
    for folder in sorted({path.parent for path in used}):
        names = {folded(path.stem) for path in used if path.parent == folder}
        spare = [p.path for p in list_folder(folder).pictures if p.path not in used | masks]
        spare = [path for path in spare if path.parent == folder]
        alone = [path.name for path in spare if folded(path.stem) not in names]
        double = [path.name for path in spare if folded(path.stem) in names]
        if alone:
            findings.append(
                Finding(
                    "orphan",
                    WARNING,
                    say("No pair uses {names} in {folder}.", names=listed(alone), folder=folder),
                    say("Add the picture of the same name on the other side, or remove these."),
                )
            )
        if double:
            findings.append(
                Finding(
                    "double name",
                    WARNING,
                    say(
                        "Other pictures of the same names are used instead of {names} in {folder}.",
                        names=listed(double),
                        folder=folder,
                    ),
                    say("Keep one file of each name."),
                )
            )
    return findings


def masks(pairs: Sequence[Pair]) -> list[Finding]:
    """Masks that cannot be opened, do not fit their target, or are black."""
    findings = []
    for pair in pairs:
        try:
            if pair.mask:
                open_mask(pair.mask, pair.target, picture_size(pair.target))
        except DatasetError as error:
            findings.append(
                Finding(
                    "mask",
                    ERROR,
                    str(error),
                    say("Training would stop at this mask."),
                    (pair.stem,),
                )
            )
    return findings


def captions(pairs: Sequence[Pair], count_tokens: CountTokens | None) -> list[Finding]:
    """Missing, garbled or overlong captions, and an instruction that some pairs lack."""
    findings = [*uncaptioned(pairs), *unreadable_letters(pairs)]
    garbled = tuple(pair.stem for pair in pairs if _garbled(pair.caption))
    if garbled:
        findings.append(
            Finding(
                "garbled caption",
                ERROR,
                say(
                    "The captions of {names} were read in the wrong encoding.",
                    names=listed(list(garbled)),
                ),
                say("Save the texts as UTF-8."),
                garbled,
            )
        )
    for pair in pairs:
        tokens = count_tokens(pair.caption) if count_tokens else 0
        if tokens > LONG_CAPTION:
            findings.append(
                Finding(
                    "long caption",
                    WARNING,
                    say("The caption of {name} has {count} tokens.", name=pair.stem, count=tokens),
                    say(
                        "Keep it under {most}, the longest that FLUX was trained on.",
                        most=LONG_CAPTION,
                    ),
                    (pair.stem,),
                )
            )
    return findings + _missing_instruction([pair for pair in pairs if pair.caption.strip()])


def amount(pairs: Sequence[Pair], looks: dict[str, Look]) -> list[Finding]:
    """Too few pairs, or all of them much alike."""
    findings = []
    if len(pairs) < FEWEST_PAIRS:
        findings.append(
            Finding(
                "few pairs",
                WARNING,
                say("There are only {count} pairs.", count=len(pairs)),
                say(
                    "Use at least {fewest}, better 20 to 60, to show all that the edit must do.",
                    fewest=FEWEST_PAIRS,
                ),
            )
        )
    hashes = [looks[pair.stem].hashes[-1] for pair in pairs if looks[pair.stem].hashes]
    hashes = hashes[:: -(-len(hashes) // SAMPLED) or 1]
    if len(hashes) >= 4:
        apart = distances(hashes)[np.triu_indices(len(hashes), 1)]
        if np.median(apart) < UNIFORM:
            findings.append(
                Finding(
                    "uniform",
                    NOTE,
                    say("All targets have a very similar composition."),
                    say("Vary angle, light and subject, unless they are meant to be alike."),
                )
            )
    return findings


def _agree(one: Pair, other: Pair, looks: dict[str, Look]) -> bool:
    """Whether a side of one pair is a version of the same side of another; targets come first."""
    sides = zip(
        looks[one.stem].hashes[::-1],
        looks[other.stem].hashes[::-1],
        (one.target, *one.controls[:1]),
        (other.target, *other.controls[:1]),
        strict=False,
    )
    return any(
        (first ^ second).bit_count() <= NEAR and offset(_small(path), _small(twin)).peak > VERSION
        for first, second, path, twin in sides
    )


@lru_cache(maxsize=512)
def _small(path: Path) -> np.ndarray:
    """Luminance at 128 x 128. Opened again, because twenty thousand would fill the memory."""
    return grey(open_rgb(path).resize((128, 128), Image.Resampling.BOX))


def _garbled(caption: str) -> bool:
    """Whether a caption is UTF-8 misread in a Windows encoding, or has lost letters."""
    if "\ufffd" in caption:
        return True
    for encoding in ("cp1252", "gb18030"):
        try:
            meant = caption.encode(encoding).decode("utf-8")
        except UnicodeError:
            continue
        if len(caption) - len(meant) >= 1 and sum(not letter.isascii() for letter in caption) >= 2:
            return True
    return False


def _missing_instruction(pairs: Sequence[Pair]) -> list[Finding]:
    """A clause that most captions share and some lack."""
    clauses = [
        {clause.strip().casefold() for clause in re.split(r"[,.;，。；、\n]", pair.caption)} - {""}
        for pair in pairs
    ]
    counts = Counter(clause for found in clauses for clause in found)
    if not counts:
        return []
    clause, count = max(counts.items(), key=lambda entry: (entry[1], len(entry[0])))
    lacking = tuple(p.stem for p, found in zip(pairs, clauses, strict=True) if clause not in found)
    if not lacking or count < max(3, 0.6 * len(pairs)):
        return []
    return [
        Finding(
            "instruction missing",
            WARNING,
            say(
                "{count} captions say “{clause}”, these do not: {names}.",
                count=count,
                clause=clause,
                names=listed(list(lacking)),
            ),
            say("Give all pairs the same instruction (Caption Pairs)."),
            lacking,
        )
    ]
