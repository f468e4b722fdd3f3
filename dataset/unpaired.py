"""Which pictures of a folder still lack their control."""

from pathlib import Path

from .files import Picture, folded, list_folder, require_pictures, require_unique
from .masks import find_masks


def unpaired(folder: Path, pairs_folder: Path) -> tuple[list[Picture], int]:
    """The pictures of `folder` without a control in `pairs_folder`, and the number of all.

    `pairs_folder` is laid out as Save Pair does: control/<stem>.png.
    """
    listing = list_folder(folder)
    require_pictures(listing)
    require_unique(listing)
    made = pairs_folder / "control"
    masks = {picture.path for picture in find_masks(listing).values()}
    targets = [picture for picture in listing.pictures if picture.path not in masks]
    done = {folded(p.name) for p in list_folder(made).pictures} if made.exists() else set()
    return [p for p in targets if folded(p.name) not in done], len(targets)
