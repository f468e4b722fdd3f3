"""Caption files beside their pictures: written atomically, with backups of the old ones."""

import os
from collections.abc import Iterable
from pathlib import Path

from ..dataset.access import readable
from ..dataset.files import BACKUPS
from ..dataset.image import picture_size, readable_suffixes
from ..dataset.metadata import table_content
from ..dataset.pair import DatasetError, PairedDataset
from ..files import moment, storing, write_atomically
from ..language import say

LATEST = "latest"
_NONE_BEFORE = ".none"
_UNDONE = "-undone"  # ends the name of a backup of what a restoring replaced


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
        _back_up(file, kept)
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


def _back_up(file: Path, kept: Path) -> None:
    """Copy `file` to `kept`, or note that there was none; what was kept first stays."""
    none_before = kept.with_name(file.name + _NONE_BEFORE)
    if kept.exists() or none_before.exists():
        return
    kept.parent.mkdir(parents=True, exist_ok=True)
    if file.is_file():
        write_atomically(kept, file.read_bytes())
    else:
        none_before.touch()


def restore_captions(pairs: PairedDataset, backup: str) -> dict[str, str]:
    """Put back the caption files of one backup (a name, or `latest`); the restored texts by stem.

    The backup stays, so restoring twice gives the same. What is replaced is kept in a backup of its
    own, which `latest` does not mean. Raises DatasetError with the names of all backups if there
    is none of this name.
    """
    folders = {pair.target.parent / BACKUPS for pair in pairs}
    names = sorted({entry.name for folder in folders if folder.is_dir() for entry in _dirs(folder)})
    written = [name for name in names if not name.endswith(_UNDONE)]
    name = written[-1] if backup == LATEST and written else backup
    if name not in names:
        raise DatasetError(
            say(
                "There is no caption backup '{name}' in {folders}. There are: {names}.",
                name=backup,
                folders=say(", ").join(map(str, sorted(folders))),
                names=say(", ").join(names) or say("none"),
            )
        )
    restored, undone = {}, moment() + _UNDONE
    for pair in pairs:
        file = caption_file(pair.target)
        folder = pair.target.parent / BACKUPS
        kept = readable(folder / name / file.name)
        if not kept.is_file() and not kept.with_name(file.name + _NONE_BEFORE).is_file():
            continue
        before = kept.read_bytes() if kept.is_file() else None
        if before != (file.read_bytes() if file.is_file() else None):
            _back_up(file, readable(folder / undone / file.name))
        if before is None:
            file.unlink(missing_ok=True)
        else:
            write_atomically(file, before)
        restored[pair.stem] = (before or b"").decode("utf-8", errors="replace").strip()
    return restored


def write_tables(pairs: PairedDataset) -> list[Path]:
    """`metadata.csv` and `metadata.jsonl` in every target folder; Load Paired Dataset reads them.

    Other rows and columns of a table stay; the table is backed up first, as captions are.
    `file_name` and `text` are the columns of Hugging Face's image folders.
    """
    backup = moment()
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
                    _back_up(table, kept)
            write_atomically(table, content)
            written.append(table)
    return written


def _dirs(folder: Path) -> Iterable[os.DirEntry[str]]:
    return (entry for entry in os.scandir(folder) if entry.is_dir())
