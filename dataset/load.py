"""From the user's input to a paired dataset: kind of source, captions, hold-out."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..language import say
from .alike import HashStore, source_groups
from .archive import unpack
from .choices import FILE, decide, read_choices
from .files import Listing, list_folder, missing_folder, resolve
from .masks import FOLDER
from .match import match_endings, match_folders
from .names import CONTROL, TARGET, side_of
from .pair import DatasetError, Matching, Pair, PairedDataset
from .rows import TABLE_SUFFIXES
from .split import hold_out_shares
from .table import read_table
from .text import listed

APART, TOGETHER = "one pair per folder", "one pair with several references"
SEVERAL_CONTROLS = APART, TOGETHER
"""What several control folders make: the choices of a node, and of a job's file."""

UNMATCHED = STOP, SKIP = "stop", "skip"
"""What becomes of pictures without a partner, likewise."""

MANY = 0.5
"""Left out by mistake, probably: from this share of what remains on."""


@dataclass(frozen=True)
class PairSource:
    """Where pairs come from. Relative paths lie in `base`; `scratch` is for what is unpacked.

    `control` may name several folders, divided by `|`. Without `target`, `control` is one folder,
    table or archive that holds both sides. With `single` it is a folder, table or archive of single
    pictures, for a plain LoRA: only then are there pairs without control. `masks` is a folder.
    """

    control: str
    target: str
    base: Path
    scratch: Path
    pattern: str = ""
    together: bool = False
    skip_unmatched: bool = False
    masks: str = ""
    single: bool = False


@dataclass(frozen=True)
class LoadedPairs:
    """A dataset, notes for the user on how it was read, and the matching it was chosen from."""

    dataset: PairedDataset
    notes: tuple[str, ...]
    matching: Matching | None = None


@dataclass(frozen=True)
class SourcePairs:
    """The pairs of one of several sources, and the fraction or number of them to hold out."""

    pairs: tuple[Pair, ...]
    holdout: float


def find_pairs(source: PairSource, default_caption: str = "") -> LoadedPairs:
    """The pairs of a source, with its `pairs.yaml` applied and no others held out yet.

    Lists files and reads captions, but opens no picture.
    """
    matching = match_source(source)
    if matching.leftovers and not source.skip_unmatched:
        remedy = say("Add the missing pictures or remove these, or set unmatched to skip.")
        raise DatasetError("\n".join((*matching.leftovers, remedy)))
    if not matching.pairs:
        nothing = say("No name occurs on both sides.")
        raise DatasetError("\n".join((nothing, *matching.leftovers)))
    chosen, said = decide(matching.pairs, read_choices(matching.folder))
    if not source.single:
        require_controls(chosen, matching.notes)
    pairs = tuple(replace(p, caption=p.caption or default_caption.strip()) for p in chosen)
    skipped = tuple(say("Skipped: {what}", what=leftover) for leftover in matching.leftovers)
    dataset = PairedDataset(pairs, (*_many_left_over(matching), *_many_excluded(matching, pairs)))
    return LoadedPairs(dataset, matching.notes + said + skipped, matching)


def load_pairs(
    source: PairSource, default_caption: str, holdout: float, hashes: Path
) -> LoadedPairs:
    """`find_pairs`, then hold out by source picture; perceptual hashes are kept in `hashes`."""
    found = find_pairs(source, default_caption)
    pairs, warnings = split_pairs([SourcePairs(found.dataset.pairs, holdout)], hashes)
    dataset = replace(found.dataset, pairs=pairs)
    return replace(found, dataset=dataset, notes=found.notes + warnings)


def _many_left_over(matching: Matching) -> list[str]:
    if matching.left_over < MANY * len(matching.pairs):
        return []
    return [
        say(
            "{count} pictures are left out, and only {pairs} pairs remain. Give both pictures of a "
            "pair the same name; to see a list of those without a partner, set unmatched to stop.",
            count=matching.left_over,
            pairs=len(matching.pairs),
        )
    ]


def _many_excluded(matching: Matching, pairs: Sequence[Pair]) -> list[str]:
    excluded = len(matching.pairs) - len(pairs)
    if excluded < MANY * len(pairs):
        return []
    return [
        say(
            "{name} leaves out {count} of {all} pairs. If this is not meant, include them again "
            "(Open pairs on the node), or remove {name} from {folder}.",
            name=FILE,
            count=excluded,
            all=len(matching.pairs),
            folder=matching.folder,
        )
    ]


def split_pairs(
    sources: Sequence[SourcePairs], hashes: Path
) -> tuple[tuple[Pair, ...], tuple[str, ...]]:
    """All pairs, held out by source picture over all sources, and notes.

    A picture that several sources have is held out in all of them or in none, as the first one
    decides. Pairs that came with a hold-out of their own (of a table or pairs.yaml) keep it. From
    the second source on, a stem that is taken gets the source's number before it.
    """
    taken: set[str] = set()
    shares: list[tuple[list[Pair], float | None]] = []
    for number, source in enumerate(sources, 1):
        pairs = [
            replace(pair, stem=f"{number}_{pair.stem}") if pair.stem in taken else pair
            for pair in source.pairs
        ]
        taken |= {pair.stem for pair in pairs}
        marked = any(pair.split == "holdout" for pair in pairs)
        shares.append((pairs, None if marked else source.holdout))
    all_pairs = [pair for pairs, _ in shares for pair in pairs]
    holdout_wanted = any(source.holdout > 0 for source in sources)
    table_decides = holdout_wanted and any(share is None for _, share in shares)
    notes = (
        (say("The held-out pairs are those that the table or pairs.yaml names."),)
        if table_decides
        else ()
    )
    if not any(share for _, share in shares):
        return tuple(all_pairs), notes
    held, warnings = hold_out_shares(shares, source_groups(all_pairs, HashStore(hashes)))
    return held, (*notes, *warnings)


def require_controls(pairs: Sequence[Pair], notes: Sequence[str] = ()) -> None:
    """Raise DatasetError naming the pairs without a control; `notes` say how they were matched."""
    bare = [pair.stem for pair in pairs if not pair.controls]
    if not bare:
        return
    sentence = (
        say(
            "No pair has a control, the picture before the edit, so no edit would be learnt. "
            "Name one (a column is called control, before, source, …). For a LoRA of single "
            "pictures, use Load Pictures."
        )
        if len(bare) == len(pairs)
        else say(
            "{count} of {all} pairs have no control, the picture before the edit: {names}. Add it, "
            "or remove these pairs.",
            count=len(bare),
            all=len(pairs),
            names=listed(bare),
        )
    )
    raise DatasetError("\n".join((sentence, *notes)))


def missing_places(places: Sequence[str], base: Path, folders_only: bool = False) -> list[str]:
    """A message for every place that does not exist, or is a file where a folder is needed.

    Empty ones are not chosen; no folder's content is read.
    """
    there = os.path.isdir if folders_only else os.path.exists
    sentences = []
    for part in filter(str.strip, places):
        try:
            place = resolve(part, base)
            if not there(place):
                sentences.append(missing_folder(place))
        except DatasetError as error:
            sentences.append(str(error))
    return sentences


def nothing_chosen(single: bool) -> str:
    """The message for a source without a folder."""
    if single:
        return say("Choose a folder of pictures.")
    return say(
        "Choose a control folder (the pictures before the edit) and a target folder (after it). "
        "For a LoRA of single pictures, use Load Pictures."
    )


def match_source(source: PairSource) -> Matching:
    """Every pair of a source, `pairs.yaml` not yet applied, and the pictures without a partner."""
    controls = [resolve(part, source.base) for part in source.control.split("|") if part.strip()]
    target = resolve(source.target, source.base) if source.target.strip() else None
    masks = list_folder(resolve(source.masks, source.base)) if source.masks.strip() else None
    if not controls:
        raise DatasetError(nothing_chosen(source.single))
    if source.single:
        return _match_single(controls[0], source, masks)
    if target:
        listings = [list_folder(path) for path in controls]
        return match_folders(listings, list_folder(target), source.together, masks)
    if len(controls) > 1:
        raise DatasetError(
            say("{count} control folders, but no target folder: choose one.", count=len(controls))
        )
    return _match_one(controls[0], source, masks)


def _match_single(path: Path, source: PairSource, masks: Listing | None) -> Matching:
    """Pairs without control: each picture of a folder, table or archive."""
    if _is_archive(path):
        return _match_single(unpack(path, source.scratch), source, masks)
    listing = None if _is_table(path) else list_folder(path)
    if listing and (listing.pictures or not listing.tables):
        if not listing.pictures and len(listing.subfolders) == 1:
            return _match_single(listing.subfolders[0], source, masks)
        return match_folders([], listing, masks_in=masks)
    matching = read_table(listing.tables[0] if listing else path)
    paired = [pair.stem for pair in matching.pairs if pair.controls]
    if paired:
        raise DatasetError(
            say(
                "{path} names pictures before the edit for {count} of its pictures: use Load "
                "Paired Dataset.",
                path=path,
                count=len(paired),
            )
        )
    return matching


def _match_one(path: Path, source: PairSource, masks: Listing | None) -> Matching:
    if _is_archive(path):
        return _match_one(unpack(path, source.scratch), source, masks)
    if _is_table(path):
        return read_table(path, source.together)
    listing = list_folder(path)
    if _has_both_sides(listing):
        return _match_subfolders(listing, source, masks)
    if listing.tables:
        matching = read_table(listing.tables[0], source.together)
        if any(pair.controls for pair in matching.pairs) or not listing.pictures:
            return matching  # else it only holds captions, and endings tell the sides
    if listing.pictures:
        return match_endings(listing, source.pattern, masks)
    if len(listing.subfolders) == 1:
        return _match_one(listing.subfolders[0], source, masks)
    return _match_subfolders(listing, source, masks)


def _is_archive(path: Path) -> bool:
    return path.suffix.lower() == ".zip" and os.path.isfile(path)


def _is_table(path: Path) -> bool:
    return path.suffix.lower() in TABLE_SUFFIXES and os.path.isfile(path)


def _sides(listing: Listing) -> dict[Path, str]:
    """The subfolders, each with the side that its name indicates."""
    folders = [*listing.subfolders, *listing.repeat_folders]
    return {path: side_of(path.name) for path in folders if not FOLDER.fullmatch(path.name)}


def _has_both_sides(listing: Listing) -> bool:
    """Whether the pictures are in subfolders named like the two sides."""
    direct = any(picture.path.parent == listing.folder for picture in listing.pictures)
    return not direct and {CONTROL, TARGET} <= set(_sides(listing).values()) and not listing.tables


def _match_subfolders(listing: Listing, source: PairSource, masks: Listing | None) -> Matching:
    sides = _sides(listing)
    controls = [path for path, side in sides.items() if side == CONTROL]
    targets = [path for path, side in sides.items() if side == TARGET]
    if not controls or len(targets) != 1:
        names = [path.name for path in (*listing.subfolders, *listing.repeat_folders)]
        raise DatasetError(
            say(
                "{folder} holds no pictures, and it is not clear which of its folders ({names}) "
                "is the target. Choose the control and the target folder themselves.",
                folder=listing.folder,
                names=listed(names, most=20) or "–",
            )
        )
    inside = [list_folder(path) for path in controls]
    matching = match_folders(inside, list_folder(targets[0]), source.together, masks)
    note = say(
        "Control: {control}. Target: {target}.",
        control=", ".join(path.name for path in controls),
        target=targets[0].name,
    )
    return replace(matching, notes=(note, *matching.notes))
