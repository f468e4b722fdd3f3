"""Unpacking an untrusted zip: only pictures and texts, and only into its own folder."""

import hashlib
import lzma
import os
import shutil
import stat
import struct
import tempfile
import time
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from ..files import file_mark
from ..language import say
from .access import names_a_file
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


# What zipfile and its decompressors raise for damaged archives (tests/dataset/test_archive.py)
DAMAGE = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, OSError,
    NotImplementedError, RuntimeError, ValueError, OverflowError, LookupError,
)  # fmt: skip


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
    except DatasetError:
        raise
    except DAMAGE as error:
        if isinstance(error, OSError) and error.errno:
            sentence = say(
                "{path} could not be unpacked: {error}. "
                "Free disk space, or unpack it yourself and choose the folder.",
                path=archive,
                error=error.strerror,
            )
            raise DatasetError(sentence) from error
        raise DatasetError(
            say(
                "{path} is damaged ({error}). Pack or download it again.",
                path=archive,
                error=error or type(error).__name__,
            )
        ) from error
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
            raise DatasetError(
                say(
                    "{path} holds {one} and {other}, which are the same name on some systems. "
                    "Rename one and pack again.",
                    path=archive,
                    one=other,
                    other=name,
                )
            )
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
                raise DatasetError(
                    say(
                        "{path}: {name} is larger than it declares.",
                        path=archive,
                        name=entry.filename,
                    )
                )
            file.write(block)
    # The archive's own time, so that unpacking again gives the same dataset.
    moment = time.mktime((*entry.date_time, 0, 0, -1))
    os.utime(path, (moment, moment))


def _safe_name(entry: zipfile.ZipInfo, archive: Path) -> PurePosixPath:
    if entry.flag_bits & 0x1:
        raise DatasetError(
            say("{path} is locked with a password. Pack it again without one.", path=archive)
        )
    name = _readable(entry).replace("\\", "/")
    path = PurePosixPath(name)
    link = stat.S_ISLNK(entry.external_attr >> 16)
    if link or path.is_absolute() or ".." in path.parts or ":" in name or "\0" in name:
        raise DatasetError(
            say(
                "{path} holds {name}, which leads out of the archive. It was not unpacked; get it "
                "from a source you trust.",
                path=archive,
                name=name.replace("\0", "?"),
            )
        )
    if not names_a_file(Path(name)):
        raise DatasetError(
            say(
                "{path} holds a file whose name is too long or not valid on this system: {name}. "
                "Rename it and pack again.",
                path=archive,
                name=name[:80],
            )
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
        raise DatasetError(
            say(
                "{path} holds {count:,} files; the limit is {most:,}.",
                path=archive,
                count=len(entries),
                most=MOST_FILES,
            )
        )
    if unpacked > MOST_BYTES:
        raise DatasetError(
            say(
                "{path} unpacks to {size} GB; the limit is {most} GB. Unpack it yourself and "
                "choose the folder.",
                path=archive,
                size=round(unpacked / 2**30),
                most=MOST_BYTES // 2**30,
            )
        )
    if unpacked > FREE_OF_RATIO and unpacked / packed > MOST_RATIO:
        raise DatasetError(
            say(
                "{path} unpacks to {ratio} times its size, as only a harmful archive does (limit "
                "{most}). Unpack it yourself if you trust it.",
                path=archive,
                ratio=round(unpacked / packed),
                most=MOST_RATIO,
            )
        )


def _mark(archive: Path) -> str:
    return hashlib.sha256(file_mark(archive).encode("utf-8", "surrogatepass")).hexdigest()[:16]
