"""Unpacking a zip that somebody sent: only pictures and texts, nowhere but in its own folder."""

import hashlib
import os
import shutil
import stat
import tempfile
import time
import zipfile
from pathlib import Path, PurePosixPath

from ..files import file_mark
from .files import CAPTION_SUFFIXES, folded
from .image import PICTURE_SUFFIXES
from .pair import DatasetError
from .rows import TABLE_SUFFIXES

MOST_FILES = 100_000
MOST_BYTES = 50 * 2**30
MOST_RATIO = 200
"""Unpacked size over packed size; flat drawings saved as BMP reach 100."""

FREE_OF_RATIO = 100 * 2**20
"""Archives that unpack to less than this cannot fill a disk, whatever their ratio."""

WANTED = PICTURE_SUFFIXES.union(CAPTION_SUFFIXES, TABLE_SUFFIXES)


def unpack(archive: Path, scratch: Path) -> Path:
    """Folder with the archive's pictures, captions and tables; unpacked once per version.

    Raises DatasetError for a damaged or locked archive, for names that lead out of the folder and
    for more files or bytes than the limits above. Leaves nothing behind when it fails.
    """
    folder = scratch / f"{archive.stem[:40]}_{_mark(archive)}"
    if folder.is_dir():
        return folder
    scratch.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=scratch, prefix="partial_"))
    try:
        with zipfile.ZipFile(archive) as opened:
            _unpack_all(opened, archive, partial)
        os.replace(partial, folder)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, ValueError) as error:
        if isinstance(error, DatasetError):
            raise
        raise DatasetError(f"{archive} is damaged ({error}). Pack or download it again.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _unpack_all(opened: zipfile.ZipFile, archive: Path, folder: Path) -> None:
    entries = [(entry, _safe_name(entry, archive)) for entry in opened.infolist()]
    wanted = [
        (entry, name)
        for entry, name in entries
        if not entry.is_dir() and name.suffix.lower() in WANTED
    ]
    _check_limits([entry for entry, _ in wanted], archive)
    seen: dict[str, str] = {}
    for entry, name in wanted:
        if other := seen.get(folded(str(name))):
            raise DatasetError(f"{archive} holds {other} and {name}: names must differ by more.")
        seen[folded(str(name))] = str(name)
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        _unpack_one(opened, entry, path, archive)


def _unpack_one(opened: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path, archive: Path) -> None:
    """Copy at most the size the entry declares: `_check_limits` has approved only that."""
    left = entry.file_size
    with opened.open(entry) as packed, path.open("wb") as file:
        while block := packed.read(2**20):
            left -= len(block)
            if left < 0:
                raise DatasetError(f"{archive}: {entry.filename} is larger than it declares.")
            file.write(block)
    # The archive's own time, so that unpacking again gives the same dataset.
    moment = time.mktime((*entry.date_time, 0, 0, -1))
    os.utime(path, (moment, moment))


def _safe_name(entry: zipfile.ZipInfo, archive: Path) -> PurePosixPath:
    if entry.flag_bits & 0x1:
        raise DatasetError(f"{archive} is locked with a password. Pack it again without one.")
    name = _readable(entry).replace("\\", "/")
    path = PurePosixPath(name)
    link = stat.S_ISLNK(entry.external_attr >> 16)
    if link or path.is_absolute() or ".." in path.parts or ":" in name or "\0" in name:
        raise DatasetError(
            f"{archive} holds {name}, which leads out of the archive. It was not unpacked; "
            "get it from a source you trust."
        )
    return path


def _readable(entry: zipfile.ZipInfo) -> str:
    """The name; archives from Chinese Windows hold it in GBK without saying so."""
    if entry.flag_bits & 0x800 or entry.filename.isascii():
        return entry.filename
    raw = entry.filename.encode("cp437", "replace")
    for encoding in ("utf-8", "gb18030"):
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            continue
    return entry.filename


def _check_limits(entries: list[zipfile.ZipInfo], archive: Path) -> None:
    unpacked = sum(entry.file_size for entry in entries)
    packed = max(1, archive.stat().st_size)
    if len(entries) > MOST_FILES:
        raise DatasetError(f"{archive} holds {len(entries):,} files; the limit is {MOST_FILES:,}.")
    if unpacked > MOST_BYTES:
        raise DatasetError(
            f"{archive} unpacks to {unpacked / 2**30:.0f} GB; the limit is "
            f"{MOST_BYTES // 2**30} GB. Unpack it yourself and choose the folder."
        )
    if unpacked > FREE_OF_RATIO and unpacked / packed > MOST_RATIO:
        raise DatasetError(
            f"{archive} unpacks to {unpacked / packed:.0f} times its size, as only a harmful "
            f"archive does (limit {MOST_RATIO}). Unpack it yourself if you trust it."
        )


def _mark(archive: Path) -> str:
    return hashlib.sha256(file_mark(archive).encode("utf-8", "surrogatepass")).hexdigest()[:16]
