"""Masks of targets: which pictures are masks, and of which targets.

A mask is beside its target as `001_mask.png` (OneTrainer's `001-masklabel.png`), or under the
target's own name in a folder `mask` or `masks`, in the target folder or beside it (ai-toolkit's
mask_path, kohya's conditioning_data_dir).
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from PIL import Image

from ..language import say
from .access import may_read
from .files import Key, Listing, Picture, folded, list_folder, visible_folders
from .geometry import Size, same_aspect
from .image import open_grey
from .pair import DatasetError

Masks = Mapping[Key, Picture]
"""Masks by the key of their target."""

ENDING = re.compile(r"(?P<name>.+)[\s_.\-]mask(?:label)?", re.I)
FOLDER = re.compile(r"(?:(?P<name>.+)[\s_.\-])?masks?(?:label)?", re.I)


def find_masks(
    target: Listing, controls: Sequence[Listing] = (), given: Listing | None = None
) -> Masks:
    """All masks for the pictures of `target`; those in the folder `given` win.

    A picture that has a partner on the other side is no mask, whatever it is called. Of two masks
    the one beside the target is taken, then one beside the control.
    """
    names = {picture.key[1] for picture in target.pictures}
    befores = [picture for listing in controls for picture in listing.pictures]
    used = [listing.folder for listing in controls]
    return {
        **stored_masks(target, used),
        **named_masks(befores, names, names),
        **named_masks(target.pictures, names, {picture.key[1] for picture in befores}),
        **(_keyed(given.pictures) if given else {}),
    }


def named_masks(
    pictures: Iterable[Picture], names: Collection[str], claimed: Collection[str] = ()
) -> Masks:
    """The `pictures` whose name makes them the mask of one of `names`, unless it is `claimed`."""
    keyed = ((masked_key(picture), picture) for picture in pictures)
    return {
        key: picture
        for key, picture in keyed
        if key and key[1] in names and picture.key[1] not in claimed
    }


def stored_masks(
    target: Listing, used: Collection[Path] = (), given: Listing | None = None
) -> Masks:
    """The pictures in mask folders, in and beside a target folder, and in the folder `given`.

    The folders in `used` are not mask folders, whatever their name.
    """
    parent = target.folder.parent
    beside = visible_folders(parent) if may_read(parent) else []
    folders = [
        path
        for path in (*map(Path, beside), *target.subfolders)
        if is_mask_folder(path, target.folder) and path not in used
    ]
    stored = [picture for folder in folders for picture in list_folder(folder).pictures]
    return _keyed((*stored, *(given.pictures if given else ())))


def _keyed(masks: Iterable[Picture]) -> Masks:
    return {masked_key(picture) or picture.key: picture for picture in masks}


def masked_key(picture: Picture) -> Key | None:
    """The key of the target that this picture is a mask of, by its name; None if it is no mask."""
    match = ENDING.fullmatch(picture.name)
    return (picture.group, folded(match["name"])) if match else None


def is_mask_folder(path: Path, target: Path) -> bool:
    """Whether a folder in or beside the target folder has the name of its mask folder."""
    match = FOLDER.fullmatch(path.name)
    whose = folded(match["name"] or "") if match else None
    return path != target and whose in ("", folded(target.name))


def mask_of(masks: Masks, *keys: Key) -> Path | None:
    """The first mask for one of `keys`; it may lie outside the repeat folder."""
    places = [place for key in keys for place in (key, ("", key[1]))]
    return next((masks[place].path for place in places if place in masks), None)


def open_mask(path: Path, target: Path, size: Size) -> Image.Image:
    """A mask in 8-bit grey, of any size; DatasetError unless it has its target's shape."""
    mask = open_grey(path)
    if not same_aspect(mask.size, size):
        raise DatasetError(
            say(
                "The mask {path} ({size}) has another shape than its target {target} ({other}). "
                "Draw it on the target itself, or remove it.",
                path=path,
                size=f"{mask.width}x{mask.height}",
                target=target,
                other=f"{size[0]}x{size[1]}",
            )
        )
    if not mask.getextrema()[1]:
        raise DatasetError(
            say(
                "The mask {path} is black all over, so nothing of {name} would be learnt. Paint "
                "white what is to be learnt, or remove the mask.",
                path=path,
                name=target.name,
            )
        )
    return mask
