"""Listing a folder: which pictures and texts it holds. Opens no picture."""

import os
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .access import may_read, readable
from .image import SUFFIXES
from .pair import DatasetError

CAPTION_SUFFIXES = (".txt", ".caption")
REPEAT_FOLDER = re.compile(r"([1-9]\d{0,2})_(.+)")
"""`10_ring`: the pictures in it count ten times (kohya's rule)."""

Key = tuple[str, str]


@dataclass(frozen=True)
class Picture:
    """One picture file. `group` is its repeat folder without the number, "" outside of one."""

    path: Path
    group: str
    repeats: int

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def key(self) -> Key:
        return self.group, folded(self.name)


@dataclass(frozen=True)
class Listing:
    """What lies in a folder and its repeat folders; `texts` are the caption files by key."""

    folder: Path
    pictures: tuple[Picture, ...]
    texts: dict[Key, Path]
    others: tuple[str, ...]
    subfolders: tuple[Path, ...]


def composed(name: str) -> str:
    """The name with accents as single letters; macOS writes them decomposed."""
    return unicodedata.normalize("NFC", name)


def folded(name: str) -> str:
    """Equal for names that a user would call the same: any case, either form of accents."""
    return composed(composed(name).casefold())


def resolve(text: str, base: Path) -> Path:
    """The path a user typed: absolute, from the home folder (~), or relative to `base`.

    Raises AccessError if it leads to where this server does not read.
    """
    path = Path(text.strip().strip('"'))
    try:
        path = path.expanduser()
    except RuntimeError:  # ~name of nobody
        pass
    return readable(path if path.is_absolute() else base / path)


def list_folder(folder: Path) -> Listing:
    """List `folder` and its repeat folders, sorted by name; hidden and system files left out."""
    if not folder.is_dir():
        raise DatasetError(_missing(folder))
    pictures: list[Picture] = []
    texts: dict[Key, Path] = {}
    others: list[str] = []
    subfolders: list[Path] = []
    empty: list[str] = []
    for group, repeats, entry in _entries(folder):
        path, suffix = Path(entry.path), Path(entry.name).suffix.lower()
        if entry.is_dir():
            subfolders.append(path)
        elif suffix in SUFFIXES:
            pictures.append(Picture(path, group, repeats))
            if entry.stat().st_size == 0:
                empty.append(entry.name)
        elif suffix in CAPTION_SUFFIXES:
            key = group, folded(path.stem)
            if key not in texts or suffix == CAPTION_SUFFIXES[0]:
                texts[key] = path
        else:
            others.append(entry.name)
    if empty:
        raise DatasetError(
            f"{len(empty)} pictures in {folder} are empty (0 bytes): {', '.join(empty)}. "
            "Export them again, or remove the pairs."
        )
    return Listing(folder, tuple(pictures), texts, tuple(others), tuple(subfolders))


def require_pictures(listing: Listing) -> None:
    """Raise DatasetError, saying what lies there instead, if a folder holds no picture."""
    if listing.pictures:
        return
    found = [*listing.others, *(f"folder {path.name}" for path in listing.subfolders)]
    rest = f"It holds {len(found)} other things: {', '.join(found[:5])}" if found else "It is empty"
    raise DatasetError(
        f"{listing.folder} holds no pictures ({', '.join(sorted(s[1:] for s in SUFFIXES))}). "
        f"{rest}. Choose the folder in which the pictures lie."
    )


def require_unique(listing: Listing) -> None:
    """Raise DatasetError naming every group of files that share one stem."""
    by_key: dict[Key, list[str]] = {}
    for picture in listing.pictures:
        by_key.setdefault(picture.key, []).append(picture.path.name)
    shared = [" and ".join(names) for names in by_key.values() if len(names) > 1]
    if shared:
        raise DatasetError(
            f"{len(shared)} names in {listing.folder} belong to several files: "
            f"{'; '.join(shared)}. Keep one of each, or rename them."
        )


def _entries(folder: Path) -> Iterator[tuple[str, int, os.DirEntry[str]]]:
    own = REPEAT_FOLDER.fullmatch(folder.name)
    for entry in visible(folder):
        repeat = REPEAT_FOLDER.fullmatch(entry.name) if entry.is_dir() else None
        if repeat:
            for inner in visible(Path(entry.path)):
                yield folded(repeat[2]), int(repeat[1]), inner
        else:
            yield "", int(own[1]) if own else 1, entry


def visible(folder: Path) -> list[os.DirEntry[str]]:
    system = {"__macosx", "thumbs.db", "desktop.ini"}
    with os.scandir(readable(folder)) as entries:
        shown = [e for e in entries if not e.name.startswith(".") and e.name.lower() not in system]
    return sorted(shown, key=lambda entry: entry.name)


def _missing(folder: Path) -> str:
    if folder.is_file():
        return f"{folder} is a file; a folder is needed here."
    parent = folder.parent
    beside = (
        [e.name for e in visible(parent) if e.is_dir()]
        if may_read(parent) and parent.is_dir()
        else []
    )
    hint = f"{parent} holds: {', '.join(beside[:20])}." if beside else "Check the spelling."
    return f"There is no folder {folder}. {hint}"
