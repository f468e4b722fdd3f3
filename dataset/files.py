"""Finding pictures: the path that a user means, and the content of a folder. Opens no picture."""

import os
import re
import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ..language import say
from .access import may_read, readable
from .image import PICTURE_SUFFIXES, missing_picture, readable_suffixes
from .pair import DatasetError
from .rows import TABLE_NAMES
from .text import listed

CAPTION_SUFFIXES = (".txt", ".caption", ".json")
"""Of several captions the first kind is taken."""

REPEAT_FOLDER = re.compile(r"([1-9]\d{0,3})_(.+)")
"""`10_ring`: the pictures in it count ten times (kohya's rule)."""

BACKUPS = "caption_backup"
"""The folder beside targets in which the first version of each caption file is kept."""

Key = tuple[str, str]


@dataclass(frozen=True)
class Picture:
    """One picture file. `group` is its repeat folder without the number, "" outside of one."""

    path: Path
    group: str
    repeats: int

    @cached_property
    def name(self) -> str:
        return self.path.stem

    @cached_property
    def key(self) -> Key:
        return self.group, folded(self.name)


@dataclass(frozen=True)
class Listing:
    """The content of a folder and its repeat folders.

    `texts` are the caption files by key, `tables` the metadata tables, `unreadable` the pictures
    that Pillow cannot open and that are there in no other format.
    """

    folder: Path
    pictures: tuple[Picture, ...]
    texts: dict[Key, Path]
    tables: tuple[Path, ...]
    unreadable: tuple[str, ...]
    others: tuple[str, ...]
    subfolders: tuple[Path, ...]
    repeat_folders: tuple[Path, ...]


def composed(name: str) -> str:
    """The name with accents as single letters; macOS writes them decomposed."""
    return unicodedata.normalize("NFC", name)


def folded(name: str) -> str:
    """Equal for names that differ only in case or in the form of accents."""
    return composed(composed(name).casefold())


def resolve(text: str, base: Path) -> Path:
    """The path that a user typed or a table names: absolute, from home (~), or relative to `base`.

    Quotation marks and Windows' backslashes are understood, unless a file really has that name.
    Raises AccessError if this server may not read there.
    """
    literal = base / text
    if text.strip() and may_read(literal) and os.path.lexists(literal):
        return literal
    cleaned = text.strip().strip('"')
    path = Path(cleaned if os.sep == "\\" else cleaned.replace("\\", "/"))
    with suppress(RuntimeError):  # ~name of nobody
        path = path.expanduser()
    return readable(path if path.is_absolute() else base / path)


def list_folder(folder: Path) -> Listing:
    """List `folder` and its repeat folders, sorted by name; hidden and system files left out."""
    if not os.path.isdir(folder):
        raise DatasetError(missing_folder(folder))
    readable = readable_suffixes()
    pictures: list[Picture] = []
    texts: dict[Key, Path] = {}
    foreign: list[Picture] = []
    tables: list[Path] = []
    others: list[str] = []
    subfolders: list[Path] = []
    for group, repeats, entry in _entries(folder):
        path, suffix = Path(entry.path), Path(entry.name).suffix.lower()
        if entry.is_dir():
            subfolders.append(path)
        elif suffix in readable:
            pictures.append(Picture(path, group, repeats))
        elif suffix in PICTURE_SUFFIXES:
            foreign.append(Picture(path, group, repeats))
        elif entry.name.lower() in TABLE_NAMES:
            tables.append(path)
        elif suffix in CAPTION_SUFFIXES:
            key = group, folded(path.stem)
            known = texts.setdefault(key, path).suffix.lower()
            if CAPTION_SUFFIXES.index(suffix) < CAPTION_SUFFIXES.index(known):
                texts[key] = path
        else:
            others.append(entry.name)
    _require_content(folder, pictures)
    twins = {picture.key for picture in pictures}
    return Listing(
        folder,
        tuple(pictures),
        texts,
        tuple(sorted(tables, key=lambda path: TABLE_NAMES.index(path.name.lower()))),
        tuple(picture.path.name for picture in foreign if picture.key not in twins),
        tuple(others),
        tuple(subfolders),
        tuple(path for path in map(Path, visible_folders(folder)) if _repeats(path.name)),
    )


def require_pictures(listing: Listing) -> None:
    """Raise DatasetError, listing what is there instead, if a folder holds no picture."""
    if listing.pictures:
        return
    names = [*listing.unreadable, *listing.others]
    names += [path.name for path in (*listing.subfolders, *listing.repeat_folders)]
    raise DatasetError(
        say(
            "{folder} holds no pictures ({kinds}). It holds {names}. Choose the folder that "
            "holds the pictures.",
            folder=listing.folder,
            kinds=", ".join(sorted(suffix[1:] for suffix in readable_suffixes())),
            names=listed(names, most=5) if names else say("nothing: it is empty"),
        )
    )


def require_unique(listing: Listing) -> None:
    """Raise DatasetError naming every group of files that share one stem."""
    by_key: dict[Key, list[str]] = {}
    for picture in listing.pictures:
        by_key.setdefault(picture.key, []).append(picture.path.name)
    shared = [
        say("{names} and {last}", names=", ".join(names[:-1]), last=names[-1])
        for names in by_key.values()
        if len(names) > 1
    ]
    if shared:
        raise DatasetError(
            say(
                "{count} names in {folder} belong to several files: {names}. Keep one of each, or "
                "rename them.",
                count=len(shared),
                folder=listing.folder,
                names=say("; ").join(shared),
            )
        )


def visible(folder: Path) -> list[os.DirEntry[str]]:
    """The entries of a folder by name, without hidden and system files."""
    system = {"__macosx", "thumbs.db", "desktop.ini", BACKUPS}
    try:
        with os.scandir(readable(folder)) as entries:
            shown = [
                entry
                for entry in entries
                if not entry.name.startswith(".") and entry.name.lower() not in system
            ]
    except OSError as error:
        raise DatasetError(
            say(
                "{path} cannot be opened: {error}. "
                "Give ComfyUI the right to read it, or copy it elsewhere.",
                path=folder,
                error=error.strerror,
            )
        ) from error
    return sorted(shown, key=lambda entry: entry.name)


def visible_folders(folder: Path) -> list[str]:
    return [entry.path for entry in visible(folder) if entry.is_dir()]


def missing_folder(folder: Path) -> str:
    """The message for a missing folder, with the folders that do exist."""
    if os.path.isfile(folder):
        return say("{path} is a file; a folder is needed here.", path=folder)
    parent = folder.parent
    known = may_read(parent) and os.path.isdir(parent)
    beside = [Path(path).name for path in visible_folders(parent)] if known else []
    if not beside:
        return say("There is no folder {path}. Check the spelling.", path=folder)
    return say(
        "There is no folder {path}. {parent} holds: {names}.",
        path=folder,
        parent=parent,
        names=listed(beside, most=8),
    )


def taken_as_size(folder: Path) -> bool:
    """Whether the number in a folder's name is more likely a size: `512_before`, `1024_rings`."""
    match = REPEAT_FOLDER.fullmatch(folder.name)
    number = int(match[1]) if match else 0
    return number >= 256 and number % 64 == 0


def _repeats(folder_name: str) -> int:
    """How often the pictures of a folder count; 0 if its name has no number."""
    match = REPEAT_FOLDER.fullmatch(folder_name)
    if not match:
        return 0
    return 1 if taken_as_size(Path(folder_name)) else int(match[1])


def _entries(folder: Path) -> Iterator[tuple[str, int, os.DirEntry[str]]]:
    """(group, repeats, entry) of everything in the folder and its repeat folders."""
    own = _repeats(folder.name) or 1
    for entry in visible(folder):
        repeats = _repeats(entry.name) if entry.is_dir() else 0
        if repeats:
            group = folded(entry.name.partition("_")[2])
            for inner in visible(Path(entry.path)):
                yield group, repeats, inner
        else:
            yield "", own, entry


def _require_content(folder: Path, pictures: list[Picture]) -> None:
    """Raise DatasetError naming files of no bytes and links that lead nowhere."""
    empty = []
    for picture in pictures:
        try:
            if picture.path.stat().st_size == 0:
                empty.append(picture.path.name)
        except OSError:
            raise DatasetError(missing_picture(picture.path)) from None
    if empty:
        raise DatasetError(
            say(
                "{count} pictures in {folder} are empty (0 bytes): {names}. Export them again, or "
                "remove the pairs.",
                count=len(empty),
                folder=folder,
                names=listed(empty),
            )
        )
