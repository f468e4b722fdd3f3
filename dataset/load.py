"""From what a user typed to a paired dataset: which way in, captions, hold-out."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from .alike import HashStore, source_groups
from .archive import unpack
from .files import Listing, list_folder, resolve
from .masks import FOLDER
from .match import Matching, match_endings, match_folders
from .names import side_of
from .pair import DatasetError, Pair, PairedDataset
from .split import hold_out
from .table import TABLE_NAMES, TABLE_SUFFIXES, read_table


@dataclass(frozen=True)
class Source:
    """Where pairs come from. Relative paths lie in `base`; `scratch` is for what is unpacked.

    `control` may name several folders, divided by `|`. Without `target`, `control` is one folder,
    table or archive that holds both sides.
    """

    control: str
    target: str
    base: Path
    scratch: Path
    pattern: str = ""
    together: bool = False
    skip_unmatched: bool = False


@dataclass(frozen=True)
class Loaded:
    """A dataset, and what the user should know about how it was read."""

    dataset: PairedDataset
    notes: tuple[str, ...]


def find_pairs(source: Source, default_caption: str = "") -> Loaded:
    """All pairs of a source, none held out yet. Lists files, reads captions, opens no picture."""
    matching = _match(source)
    if matching.leftovers and not source.skip_unmatched:
        raise DatasetError(
            "\n".join(matching.leftovers)
            + "\nAdd the missing pictures or remove these, or set unmatched to skip."
        )
    if not matching.pairs:
        raise DatasetError("\n".join(("No name occurs on both sides.", *matching.leftovers)))
    pairs = tuple(replace(p, caption=p.caption or default_caption.strip()) for p in matching.pairs)
    skipped = tuple(f"Skipped: {leftover}" for leftover in matching.leftovers)
    return Loaded(PairedDataset(pairs), matching.notes + skipped)


def load_pairs(source: Source, default_caption: str, holdout: float, hashes: Path) -> Loaded:
    """`find_pairs`, then hold out by source picture; perceptual hashes are kept in `hashes`."""
    found = find_pairs(source, default_caption)
    pairs, warnings = split_pairs(found.dataset.pairs, holdout, hashes)
    return Loaded(PairedDataset(pairs), found.notes + warnings)


def split_pairs(
    pairs: Sequence[Pair], holdout: float, hashes: Path
) -> tuple[tuple[Pair, ...], tuple[str, ...]]:
    """Hold out by source picture, unless the pairs came with a hold-out of their own."""
    if holdout <= 0:
        return tuple(pairs), ()
    if any(pair.split == "holdout" for pair in pairs):
        return tuple(pairs), ("The hold-out is the one that the table names.",)
    return hold_out(pairs, holdout, source_groups(pairs, HashStore(hashes)))


def _match(source: Source) -> Matching:
    controls = [resolve(part, source.base) for part in source.control.split("|") if part.strip()]
    if source.target.strip():
        target = list_folder(resolve(source.target, source.base))
        return match_folders([list_folder(path) for path in controls], target, source.together)
    if not controls:
        raise DatasetError("Choose a control folder and a target folder.")
    if len(controls) > 1:
        raise DatasetError(f"{len(controls)} control folders, but no target folder: choose one.")
    return _match_one(controls[0], source)


def _match_one(path: Path, source: Source) -> Matching:
    if path.suffix.lower() == ".zip" and path.is_file():
        return _match_one(unpack(path, source.scratch), source)
    if path.suffix.lower() in TABLE_SUFFIXES and path.is_file():
        return read_table(path, source.together)
    listing = list_folder(path)
    tables = [path / name for name in TABLE_NAMES if name in listing.others]
    if tables:
        return read_table(tables[0], source.together)
    if listing.pictures:
        return match_endings(listing, source.pattern)
    if len(listing.subfolders) == 1:
        return _match_one(listing.subfolders[0], source)
    return _match_subfolders(listing, source)


def _match_subfolders(listing: Listing, source: Source) -> Matching:
    folders = [path for path in listing.subfolders if not FOLDER.fullmatch(path.name)]
    sides = {path: side_of(path.name) for path in folders}
    controls = [path for path, side in sides.items() if side == "control"]
    targets = [path for path, side in sides.items() if side == "target"]
    if not controls or len(targets) != 1:
        names = ", ".join(path.name for path in listing.subfolders)
        raise DatasetError(
            f"{listing.folder} holds no pictures"
            + (
                f", and of its folders ({names}) it is not clear which is the target. "
                if names
                else ". "
            )
            + "Choose the control and the target folder themselves."
        )
    matching = match_folders(
        [list_folder(path) for path in controls], list_folder(targets[0]), source.together
    )
    told = f"Control: {', '.join(path.name for path in controls)}. Target: {targets[0].name}."
    return replace(matching, notes=(told, *matching.notes))
