"""Which control belongs to which target, by name."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from ..language import say
from .captions import find_captions
from .files import (
    Key,
    Listing,
    Picture,
    composed,
    folded,
    require_pictures,
    require_unique,
    taken_as_size,
)
from .masks import Masks, find_masks, is_mask_folder, mask_of, named_masks, stored_masks
from .names import CONTROL, TARGET, USUAL_ENDINGS, ending_of, literal_length, own_patterns
from .pair import DatasetError, Matching, Pair, named_apart
from .text import listed

Named = dict[Key, tuple[str, Picture]]
"""Pictures of one side by key, with the name they share with the other side."""


@dataclass(frozen=True)
class _Match:
    """`texts` are the keys under which the target's caption may lie."""

    name: str
    target: Picture
    controls: tuple[Picture, ...]
    texts: tuple[Key, ...]
    mask: Path | None


def match_folders(
    controls: Sequence[Listing],
    target: Listing,
    together: bool = False,
    masks_in: Listing | None = None,
) -> Matching:
    """Pair every target with the control of its name in each control folder.

    Several control folders give one pair each, or with `together` one pair with all of them; none
    gives pairs without control. A control may lie in the same repeat folder as its target or
    directly in the control folder. `ring_0.png` and `ring_1.png` are two references of `ring.png`
    if there is no control called `ring`. A picture without a partner that is named like the mask of
    a target is its mask.
    """
    _require_apart([listing.folder for listing in (*controls, target)])
    for listing in (*controls, target):
        require_pictures(listing)
        require_unique(listing)
    masks = find_masks(target, controls, masks_in)
    used = {picture.path for picture in masks.values()}
    targets = [picture for picture in target.pictures if picture.path not in used]
    sides = [_partners(listing, targets) for listing in controls]
    leftovers = [line for listing in (*controls, target) for line in _unreadable(listing)]
    for listing, side in zip(controls, sides, strict=True):
        leftovers += _without_partner(listing, side, target, targets, used)

    matches = []
    for picture in targets:
        mask = mask_of(masks, picture.key)
        found = [side.get(picture.key, ()) for side in sides]
        if together or len(controls) <= 1:
            both = tuple(control for side in found for control in side)
            if all(found):
                matches.append(_Match(picture.name, picture, both, (picture.key,), mask))
        else:
            matches += [
                _Match(f"{picture.name}_{each.folder.name}", picture, own, (picture.key,), mask)
                for each, own in zip(controls, found, strict=True)
                if own
            ]
    notes = [
        say("Folder not read: {path}", path=path)
        for path in target.subfolders
        if not is_mask_folder(path, target.folder)
    ]
    if twins := named_masks(targets, {picture.key[1] for picture in targets}).values():
        notes.append(
            say("On both sides, so pairs rather than masks: {names}", names=listed(_names(twins)))
        )
    pairs, more = _pairs(matches, target, controls)
    notes += [*more, *_sizes_said(target), *_masks_said(masks, matches)]
    left_over = _left_over((*controls, target), pairs, used)
    return Matching(pairs, target.folder, tuple(leftovers), tuple(notes), left_over=left_over)


def match_endings(listing: Listing, pattern: str = "", masks_in: Listing | None = None) -> Matching:
    """Pair the pictures of one folder by the endings of their names, or by the user's pattern."""
    require_pictures(listing)
    require_unique(listing)
    sides, rule = _by_pattern(listing, pattern) if pattern else _by_endings(listing)
    names = [key for key in sides[-1] if any(key in side for side in sides[:-1])]
    if pattern:
        names = [key for key in names if all(key in side for side in sides)]
    if not names:
        raise DatasetError(
            say(
                "No two pictures in {folder} belong together by {rule}. It holds {names}. Choose "
                "the control and the target folder, or write your own pattern: {{name}}_old | "
                "{{name}}_new.",
                folder=listing.folder,
                rule=rule,
                names=listed(_names(listing.pictures), most=5),
            )
        )
    paired = {side[key][1].path for side in sides for key in names if key in side}
    spare = [picture for picture in listing.pictures if picture.path not in paired]
    targets = {sides[-1][key][1].key[1] for key in names}
    masks = {
        **stored_masks(listing, given=masks_in),
        **named_masks(spare, {key[1] for key in names} | targets),
    }
    used = {picture.path for picture in masks.values()}
    spare = [picture for picture in spare if picture.path not in used]
    matches = []
    for key in names:
        *controls, (name, target) = (side[key] for side in sides if key in side)
        mask = mask_of(masks, target.key, key)
        before = tuple(control for _, control in controls)
        matches.append(_Match(name, target, before, (target.key, key), mask))
    leftovers = _unreadable(listing)
    if spare:
        leftovers.append(
            say(
                "{count} pictures in {folder} have no partner by {rule}: {names}",
                count=len(spare),
                folder=listing.folder,
                rule=rule,
                names=listed(_names(spare)),
            )
        )
    pairs, more = _pairs(matches, listing, [listing])
    notes = [say("Names end in {rule}", rule=rule), *more, *_masks_said(masks, matches)]
    left_over = _left_over([listing], pairs, used)
    return Matching(pairs, listing.folder, tuple(leftovers), tuple(notes), left_over=left_over)


def _require_apart(folders: Sequence[Path]) -> None:
    for one, other in combinations(folders, 2):
        if os.path.samefile(one, other):
            raise DatasetError(
                say(
                    "{folder} is chosen twice, so pictures would be pairs with themselves. Choose "
                    "the folder before the edit and the one after it; if one folder holds both, "
                    "leave the target folder empty.",
                    folder=one,
                )
            )


def _partners(listing: Listing, targets: Sequence[Picture]) -> dict[Key, tuple[Picture, ...]]:
    """The controls for each target's key; those in the same repeat folder go first.

    Only if no control has a target's name, `name_0`, `name_1`, … are its references in order
    (musubi-tuner's rule), unless another target has that name.
    """
    by_key = {picture.key: (picture,) for picture in listing.pictures}
    names = {target.key[1] for target in targets}
    numbered: dict[Key, list[tuple[int, Picture]]] = {}
    for picture in listing.pictures:
        match = re.fullmatch(r"(.+)_(\d{1,3})", picture.key[1])
        if match and picture.key[1] not in names:
            numbered.setdefault((picture.group, match[1]), []).append((int(match[2]), picture))
    references = {
        key: tuple(picture for _, picture in sorted(places, key=lambda place: place[0]))
        for key, places in numbered.items()
    }
    partners = {}
    for target in targets:
        keys = target.key, ("", target.key[1])
        choices = [side[key] for side in (by_key, references) for key in keys if key in side]
        if choices:
            partners[target.key] = choices[0]
    return partners


def _without_partner(
    listing: Listing,
    partners: dict[Key, tuple[Picture, ...]],
    target: Listing,
    targets: Sequence[Picture],
    masks: set[Path],
) -> list[str]:
    """Targets and controls of one control folder that have nothing on the other side."""
    lines = []
    if missing := [picture for picture in targets if picture.key not in partners]:
        lines.append(
            say(
                "{count} targets have no control of the same name: {names} (looked in {folder})",
                count=len(missing),
                names=listed(_names(missing)),
                folder=listing.folder,
            )
        )
    used = {picture.path for side in partners.values() for picture in side} | masks
    if spare := [picture for picture in listing.pictures if picture.path not in used]:
        lines.append(
            say(
                "{count} controls have no target of the same name: {names} (looked in {folder})",
                count=len(spare),
                names=listed(_names(spare)),
                folder=target.folder,
            )
        )
    return lines


def _left_over(listings: Sequence[Listing], pairs: Sequence[Pair], masks: set[Path]) -> int:
    """The number of pictures that are in no pair, those that cannot be opened included."""
    found = {picture.path for listing in listings for picture in listing.pictures}
    used = {path for pair in pairs for path in pair.files}
    return len(found - used - masks) + sum(len(listing.unreadable) for listing in listings)


def _unreadable(listing: Listing) -> list[str]:
    if not listing.unreadable:
        return []
    return [
        say(
            "{count} pictures in {folder} are in a format that cannot be opened here: {names}. "
            "Export them as PNG or JPEG",
            count=len(listing.unreadable),
            folder=listing.folder,
            names=listed(list(listing.unreadable)),
        )
    ]


def _by_pattern(listing: Listing, pattern: str) -> tuple[list[Named], str]:
    """A dictionary per side, by common name; the most specific pattern claims a picture."""
    patterns = own_patterns(pattern)
    sides: list[Named] = [{} for _ in patterns]
    order = sorted(range(len(patterns)), key=lambda i: -literal_length(patterns[i]))
    for picture in listing.pictures:
        for i in order:
            if match := patterns[i].fullmatch(composed(picture.name)):
                sides[i][picture.group, folded(match["name"])] = match["name"], picture
                break
    return sides, pattern


def _by_endings(listing: Listing) -> tuple[list[Named], str]:
    """As `_by_pattern`: first the controls by number (fal's `_start`, `_start2`), then the target.

    Where targets are numbered too (`ring_after_2`), the number belongs to the name. Of two
    pictures for one place the first is taken; the other is left over.
    """
    endings = [(picture, ending_of(picture.name)) for picture in listing.pictures]
    known = [(picture, *ending) for picture, ending in endings if ending]
    per_pair = any(number and side == TARGET for _, _, side, _, number in known)
    sides: dict[tuple[str, int], Named] = {(TARGET, 0): {}}
    words: dict[str, set[str]] = {CONTROL: set(), TARGET: set()}
    for picture, name, side, word, number in known:
        if per_pair and number:
            name, number = f"{name}_{number}", 0
        place = sides.setdefault((side, number), {})
        place.setdefault((picture.group, folded(name)), (name, picture))
        words[side].add(f"_{word}")
    rule = " / ".join(", ".join(sorted(words[side])) for side in (CONTROL, TARGET))
    if not all(words.values()):
        rule = say("their endings ({endings})", endings=USUAL_ENDINGS)
    return [sides[place] for place in sorted(sides)], rule  # “control” sorts before “target”


def _pairs(
    matches: Sequence[_Match], target: Listing, controls: Sequence[Listing]
) -> tuple[tuple[Pair, ...], list[str]]:
    """Pairs with their captions, and notes on captions and references."""
    wanted = {match.target.path: match.texts for match in matches}
    beside = {match.target.path: [c.key for c in match.controls] for match in matches}
    captions, notes = find_captions(wanted, target, beside, controls)
    pairs = [
        Pair(
            stem=match.name,
            controls=tuple(control.path for control in match.controls),
            target=match.target.path,
            caption=captions.get(match.target.path, ""),
            repeats=match.target.repeats,
            mask=match.mask,
        )
        for match in matches
    ]
    references = Counter(len(pair.controls) for pair in pairs)
    if max(references, default=0) > 1:
        counted = ", ".join(f"{count} × {references[count]}" for count in sorted(references))
        notes.append(say("References × pairs: {counted}", counted=counted))
    return named_apart(pairs), notes


def _sizes_said(target: Listing) -> list[str]:
    return [
        say(
            "{folder}: the number is read as a size, not as repeats. To repeat its pictures that "
            "often, use `repeats` in a table or in run.yaml.",
            folder=folder.name,
        )
        for folder in (target.folder, *target.repeat_folders)
        if taken_as_size(folder)
    ]


def _masks_said(masks: Masks, matches: Sequence[_Match]) -> list[str]:
    """Notes: how many pairs have a mask, and which masks have no target."""
    if not masks:
        return []
    used = {match.mask for match in matches}
    odd = [picture for picture in masks.values() if picture.path not in used]
    masked = sum(match.mask is not None for match in matches)
    lines = [say("{count} of {all} pairs have a mask", count=masked, all=len(matches))]
    if odd:
        lines.append(say("Masks without a target: {names}", names=listed(_names(odd))))
    return lines


def _names(pictures: Iterable[Picture]) -> list[str]:
    return [picture.path.name for picture in pictures]
