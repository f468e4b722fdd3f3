"""Which control belongs to which target, by name."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .files import Key, Listing, Picture, composed, folded, require_pictures, require_unique
from .names import ENDINGS, ending_patterns, literal_length, own_patterns
from .pair import DatasetError, Pair
from .text import read_captions

Side = dict[Key, tuple[str, Picture]]
"""Pictures of one side by key, with the name they share with the other side."""


@dataclass(frozen=True)
class Matching:
    """Which pictures form pairs, and what was left over."""

    pairs: tuple[Pair, ...]
    leftovers: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Match:
    name: str
    target: Picture
    controls: tuple[Path, ...]
    text: Path | None


def match_folders(
    controls: Sequence[Listing], target: Listing, together: bool = False
) -> Matching:
    """Pair every target with the control of its name in each control folder.

    Several control folders give one pair each, or with `together` one pair with all of them. A
    control may lie in the same repeat folder as its target or directly in the control folder.
    """
    for listing in (*controls, target):
        require_pictures(listing)
        require_unique(listing)
    found = [_lookup(listing, target.pictures) for listing in controls]
    leftovers = [
        f"{len(missing)} targets have no control of the same name: {_names(missing)} "
        f"(looked in {listing.folder})"
        for listing, side in zip(controls, found, strict=True)
        if (missing := [p for p in target.pictures if p.key not in side])
    ]
    for listing, side in zip(controls, found, strict=True):
        used = {picture.path for picture in side.values()}
        if spare := [p for p in listing.pictures if p.path not in used]:
            leftovers.append(
                f"{len(spare)} controls have no target of the same name: {_names(spare)} "
                f"(looked in {target.folder})"
            )

    matches = []
    for picture in target.pictures:
        text = target.texts.get(picture.key)
        if together or len(controls) <= 1:
            if all(picture.key in side for side in found):
                paths = tuple(side[picture.key].path for side in found)
                matches.append(_Match(picture.name, picture, paths, text))
        else:
            matches += [
                _Match(f"{picture.name}_{listing.folder.name}", picture, (control.path,), text)
                for listing, side in zip(controls, found, strict=True)
                if (control := side.get(picture.key))
            ]
    notes = [f"Folder not read: {path}" for path in target.subfolders]
    return Matching(_pairs(matches), tuple(leftovers), tuple(notes))


def match_endings(listing: Listing, pattern: str = "") -> Matching:
    """Pair the pictures of one folder by the endings of their names, or by the user's pattern."""
    require_pictures(listing)
    require_unique(listing)
    if pattern:
        sides, told = _sorted_by(listing.pictures, own_patterns(pattern)), pattern
    else:
        choices = [(_sorted_by(listing.pictures, ending_patterns(e)), e) for e in ENDINGS]
        sides, ending = max(choices, key=lambda choice: len(_complete(choice[0])))
        told = f"_{ending[0]} / _{ending[1]}"
    names = _complete(sides)
    if not names:
        endings = ", ".join(f"_{first}/_{second}" for first, second in ENDINGS)
        raise DatasetError(
            f"No two pictures in {listing.folder} belong together by "
            f"{'the pattern ' + pattern if pattern else 'their endings (' + endings + ')'}. "
            f"It holds {_names(listing.pictures[:5])} … Choose the control and the target folder, "
            "or write your own pattern, such as {name}_old | {name}_new."
        )
    matches = []
    for key in names:
        *controls, (name, target) = (side[key] for side in sides)
        text = listing.texts.get(target.key) or listing.texts.get(key)
        matches.append(_Match(name, target, tuple(c.path for _, c in controls), text))
    paired = {path for match in matches for path in (*match.controls, match.target.path)}
    spare = [picture for picture in listing.pictures if picture.path not in paired]
    leftovers = [f"{len(spare)} pictures in {listing.folder} have no partner by {told}: "
                 f"{_names(spare)}"] if spare else []
    return Matching(_pairs(matches), tuple(leftovers), (f"Names end in {told}",))


def _lookup(listing: Listing, targets: Iterable[Picture]) -> dict[Key, Picture]:
    """The control for each target's key; one in the same repeat folder goes first."""
    by_key = {picture.key: picture for picture in listing.pictures}
    found = {}
    for target in targets:
        control = by_key.get(target.key) or by_key.get(("", target.key[1]))
        if control:
            found[target.key] = control
    return found


def _sorted_by(pictures: Iterable[Picture], patterns: Sequence[re.Pattern[str]]) -> list[Side]:
    """One dictionary per side, by common name; the most specific pattern claims a picture."""
    sides: list[Side] = [{} for _ in patterns]
    order = sorted(range(len(patterns)), key=lambda i: -literal_length(patterns[i]))
    for picture in pictures:
        for i in order:
            if match := patterns[i].fullmatch(composed(picture.name)):
                sides[i][picture.group, folded(match["name"])] = match["name"], picture
                break
    return sides


def _complete(sides: Sequence[Side]) -> list[Key]:
    return [key for key in sides[-1] if all(key in side for side in sides)]


def _pairs(matches: Sequence[_Match]) -> tuple[Pair, ...]:
    """Pairs with their captions; a name used in several repeat folders gets the folder's name."""
    texts = read_captions(match.text for match in matches if match.text)
    uses = Counter(match.name for match in matches)
    return tuple(
        Pair(
            stem=m.name if uses[m.name] == 1 else f"{m.target.path.parent.name}_{m.name}",
            controls=m.controls,
            target=m.target.path,
            caption=texts[m.text] if m.text else "",
            repeats=m.target.repeats,
        )
        for m in matches
    )


def _names(pictures: Iterable[Picture]) -> str:
    return ", ".join(picture.path.name for picture in pictures)
