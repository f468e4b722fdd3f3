"""Files that nobody ever sees half of, that say so when they are damaged, and their digests."""

from __future__ import annotations

import hashlib
import io
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from functools import cache, lru_cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

from . import values
from .language import say

if TYPE_CHECKING:
    from PIL import Image

LEFT_BEHIND = 24 * 3600  # seconds after which no living process can still be writing a file
PARTIAL = ".kontext_*.tmp"

Content = TypeVar("Content", dict[str, Any], list[Any])


class StorageError(OSError):
    """The system refused to write a file. Says which, why, and what to do."""


class DamagedFileError(ValueError):
    """A file does not hold what it should. Says which, why, and what to do."""


# ---- writing -------------------------------------------------------------------------------


@contextmanager
def storing(path: Path) -> Iterator[None]:
    """Turns the system's refusal to write `path` into a StorageError."""
    try:
        yield
    except OSError as error:
        refusal = StorageError(
            say(
                "Could not write {path}: {reason}. Free disk space, make the folder writable, or "
                "start ComfyUI with another --output-directory.",
                path=error.filename or path,
                reason=error.strerror or error,
            )
        )
        refusal.strerror = error.strerror
        raise refusal from error


def write_atomically(path: Path, *content: bytes | memoryview) -> None:
    """Write a temporary file beside `path`, flush it to disk, then rename it.

    Several processes may write the same file, each its own temporary one. Raises StorageError,
    with nothing left behind, if the disk is full or read-only, or the folder is missing.
    """
    remove_leftovers(path.parent)
    # short, because the name itself may be as long as the system allows
    partial = path.with_name(PARTIAL.replace("*", uuid4().hex[:12]))
    with storing(path):
        try:
            with partial.open("wb") as file:
                for part in content:
                    file.write(part)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            error.filename = str(path)
            raise


@cache
def remove_leftovers(folder: Path) -> None:
    """Delete what killed processes were writing into a folder a day ago; once in a process."""
    for partial in folder.glob(PARTIAL):
        with suppress(OSError):  # gone already, or not ours to delete
            if time.time() - partial.stat().st_mtime > LEFT_BEHIND:
                partial.unlink()


def write_picture(path: Path, image: Image.Image, **options: Any) -> None:
    """Write a picture atomically, in the format of the file's suffix; `options` are Pillow's."""
    content = io.BytesIO()
    content.name = path.name
    image.save(content, **options)
    write_atomically(path, content.getvalue())


_moments = Lock()
_latest = datetime.min


def now() -> datetime:
    return datetime.now()


def moment() -> str:
    """The present time as a name for a backup or a folder. No two calls give the same one, and
    later ones sort behind, even if the clock stands still or is set back."""
    global _latest
    with _moments:
        _latest = max(now(), _latest + timedelta(microseconds=1))
        return _latest.strftime("%Y%m%d-%H%M%S-%f")


# ---- reading -------------------------------------------------------------------------------


def read_json(path: Path, empty: Content, remedy: str) -> Content:
    """The object or list in a small JSON file; `empty`, which also says which of the two is
    expected, where there is no file.

    What editors and power cuts put around the content, a byte order mark or NULs, is ignored.
    Raises DamagedFileError, which ends with the `remedy`, for everything else.
    """
    with understanding(path, remedy):
        try:
            content = parsed(path.read_bytes().removeprefix(b"\xef\xbb\xbf"))
        except FileNotFoundError:
            return empty
        if type(content) is not type(empty):
            raise ValueError(
                say(
                    "{kind} instead of {expected}",
                    kind=type(content).__name__,
                    expected=type(empty).__name__,
                )
            )
    return content


@contextmanager
def understanding(path: Path, remedy: str) -> Iterator[None]:
    """Turns what goes wrong where the content of `path` is made use of into a DamagedFileError."""
    try:
        yield
    except DamagedFileError:
        raise
    except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
        reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        raise DamagedFileError(
            say("{path} is damaged ({reason}). {remedy}", path=path, reason=reason, remedy=remedy)
        ) from error


def parsed(content: bytes) -> Any:
    """What JSON in UTF-8 says, NULs around it ignored. Raises ValueError for anything else."""
    return values.read_json(content.strip(b"\0 \r\n").decode("utf-8", "surrogatepass"))


# ---- telling files apart -------------------------------------------------------------------


def content_hash(path: Path) -> str:
    """SHA-256 of a file's content, remembered until the file changes."""
    return remembered_hash(path, file_mark(path))


@lru_cache(maxsize=100_000)
def remembered_hash(path: Path, _mark: str) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def file_mark(path: Path) -> str:
    """Path, size and modification time: changes when the file does."""
    status = path.stat()
    return f"{path}|{status.st_size}|{status.st_mtime_ns}"
