"""Which control belongs to which target, by name."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .files import Key, Listing, Picture, composed, folded, require_pictures, require_unique
from .masks import Masks, find_masks, is_mask_folder, mask_of, named_masks, stored_masks
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
    mask: Path | None


def match_folders(controls: Sequence[Listing], target: Listing, together: bool = False) -> Matching:
    """Pair every target with the control of its name in each control folder.

    Several control folders give one pair each, or with `together` one pair with all of them. A
    control may lie in the same repeat folder as its target or directly in the control folder.
    What has no partner and is called as the mask of a target is that.
    """
    for listing in (*controls, target):
        require_pictures(listing)
        require_unique(listing)
    masks = find_masks(target, controls)
    named = {picture.path for picture in masks.values()}
    targets = [picture for picture in target.pictures if picture.path not in named]
    found = [_lookup(listing, targets) for listing in controls]
    leftovers = [
        f"{len(missing)} targets have no control of the same name: {_names(missing)} "
        f"(looked in {listing.folder})"
        for listing, side in zip(controls, found, strict=True)
        if (missing := [p for p in targets if p.key not in side])
    ]
    for listing, side in zip(controls, found, strict=True):
        used = {picture.path for picture in side.values()} | named
        if spare := [p for p in listing.pictures if p.path not in used]:
            leftovers.append(
                f"{len(spare)} controls have no target of the same name: {_names(spare)} "
                f"(looked in {target.folder})"
            )

    matches = []
    for picture in targets:
        text, mask = target.texts.get(picture.key), mask_of(masks, picture.key)
        if together or len(controls) <= 1:
            if all(picture.key in side for side in found):
                paths = tuple(side[picture.key].path for side in found)
                matches.append(_Match(picture.name, picture, paths, text, mask))
        else:
            matches += [
                _Match(
                    f"{picture.name}_{listing.folder.name}", picture, (control.path,), text, mask
                )
                for listing, side in zip(controls, found, strict=True)
                if (control := side.get(picture.key))
            ]
    notes = [
        f"Folder not read: {path}"
        for path in target.subfolders
        if not is_mask_folder(path, target.folder)
    ]
    if twins := named_masks(targets, {picture.key[1] for picture in targets}).values():
        notes.append(f"On both sides, so pairs and no masks: {_names(twins)}")
    return Matching(_pairs(matches), tuple(leftovers), (*notes, *_masks_told(masks, matches)))


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
    paired = {side[key][1].path for side in sides for key in names}
    spare = [picture for picture in listing.pictures if picture.path not in paired]
    targets = {sides[-1][key][1].key[1] for key in names}
    masks = {**stored_masks(listing), **named_masks(spare, {key[1] for key in names} | targets)}
    named = {picture.path for picture in masks.values()}
    spare = [picture for picture in spare if picture.path not in named]
    matches = []
    for key in names:
        *controls, (name, target) = (side[key] for side in sides)
        text = listing.texts.get(target.key) or listing.texts.get(key)
        mask = mask_of(masks, target.key, key)
        matches.append(_Match(name, target, tuple(c.path for _, c in controls), text, mask))
    leftovers = (
        [f"{len(spare)} pictures in {listing.folder} have no partner by {told}: {_names(spare)}"]
        if spare
        else []
    )
    notes = (f"Names end in {told}", *_masks_told(masks, matches))
    return Matching(_pairs(matches), tuple(leftovers), notes)


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
            mask=m.mask,
        )
        for m in matches
    )


def _masks_told(masks: Masks, matches: Sequence[_Match]) -> list[str]:
    """How many pairs have a mask, and which masks are nobody's."""
    used = {match.mask for match in matches}
    odd = [picture for picture in masks.values() if picture.path not in used]
    told = [f"{sum(bool(m.mask) for m in matches)} of {len(matches)} pairs have a mask"]
    return [*told, *([f"Masks without a target: {_names(odd)}"] if odd else [])] if masks else []


def _names(pictures: Iterable[Picture]) -> str:
    return ", ".join(picture.path.name for picture in pictures)
