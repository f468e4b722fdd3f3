"""Caption files beside their pictures: written atomically, with backups of the old ones."""

import os
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from ..dataset.access import readable
from ..dataset.files import BACKUPS
from ..dataset.image import picture_size, readable_suffixes
from ..dataset.metadata import table_content
from ..dataset.pair import DatasetError, PairedDataset
from ..files import storing, write_atomically
from ..language import say

LATEST = "latest"
_NONE_BEFORE = ".none"


def timestamp() -> str:
    """A new backup's name; later ones sort behind earlier ones."""
    return datetime.now().strftime("%Y%m%d-%H%M%S")


def caption_file(target: Path) -> Path:
    """The file for a picture's caption. DatasetError unless it really is a picture: a table may
    name any file as target, and nothing beside such a file may be replaced."""
    if target.suffix.lower() not in readable_suffixes():
        raise DatasetError(
            say(
                "{path} is not a picture ({endings}), so no caption is written beside it. Remove "
                "it from the pairs.",
                path=target,
                endings=", ".join(sorted(suffix[1:] for suffix in readable_suffixes())),
            )
        )
    picture_size(target)
    return readable(target.with_suffix(".txt"))


def write_caption(target: Path, caption: str, backup: str) -> bool:
    """Write the caption beside `target`; False if it already says exactly that.

    The old file is first copied to `caption_backup/<backup>` in the same folder; if there was none,
    an empty `<name>.txt.none` says so.
    """
    file, content = caption_file(target), caption.encode("utf-8")
    if file.is_file() and file.read_bytes() == content:
        return False
    kept = readable(target.parent / BACKUPS / backup / file.name)
    try:
        if not kept.exists() and not kept.with_name(file.name + _NONE_BEFORE).exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            if file.is_file():
                write_atomically(kept, file.read_bytes())
            else:
                kept.with_name(file.name + _NONE_BEFORE).touch()
        write_atomically(file, content)
    except OSError as error:
        raise DatasetError(
            say(
                "{path} could not be written: {reason}. Free disk space, make the folder writable, "
                "or turn off saving.",
                path=file,
                reason=error.strerror or error,
            )
        ) from error
    return True


def restore_captions(pairs: PairedDataset, backup: str) -> dict[str, str]:
    """Put back the caption files of one backup (a name, or `latest`); the restored texts by stem.

    The backup stays, so restoring twice gives the same. Raises DatasetError with the names of all
    backups if there is none of this name.
    """
    folders = {pair.target.parent / BACKUPS for pair in pairs}
    names = sorted({entry.name for folder in folders if folder.is_dir() for entry in _dirs(folder)})
    name = names[-1] if backup == LATEST and names else backup
    if name not in names:
        raise DatasetError(
            say(
                "There is no caption backup '{name}' in {folders}. There are: {names}.",
                name=backup,
                folders=say(", ").join(map(str, sorted(folders))),
                names=say(", ").join(names) or say("none"),
            )
        )
    restored = {}
    for pair in pairs:
        file = caption_file(pair.target)
        kept = readable(pair.target.parent / BACKUPS / name / file.name)
        if kept.is_file():
            write_atomically(file, kept.read_bytes())
            restored[pair.stem] = kept.read_text(encoding="utf-8", errors="replace").strip()
        elif kept.with_name(file.name + _NONE_BEFORE).is_file():
            file.unlink(missing_ok=True)
            restored[pair.stem] = ""
    return restored


def write_tables(pairs: PairedDataset) -> list[Path]:
    """`metadata.csv` and `metadata.jsonl` in every target folder; Load Paired Dataset reads them.

    Other rows and columns of a table stay; the table is backed up first, as captions are.
    `file_name` and `text` are the columns of Hugging Face's image folders.
    """
    backup = timestamp()
    for pair in pairs:
        caption_file(pair.target)
    written = []
    for folder in sorted({pair.target.parent for pair in pairs}):
        inside = [pair for pair in pairs if pair.target.parent == folder]
        for table in (folder / "metadata.csv", folder / "metadata.jsonl"):
            content = table_content(table, inside)
            if table.is_file() and table.read_bytes() != content:
                kept = readable(folder / BACKUPS / backup / table.name)
                with storing(kept):
                    kept.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(kept, table.read_bytes())
            write_atomically(table, content)
            written.append(table)
    return written


def _dirs(folder: Path) -> Iterable[os.DirEntry[str]]:
    return (entry for entry in os.scandir(folder) if entry.is_dir())
