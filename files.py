"""Writing files so that a reader never sees half of one, and telling them apart by content."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path


class StorageError(OSError):
    """A file of a run could not be written."""


@contextmanager
def storing(path: Path) -> Iterator[None]:
    """Turns the system's refusal to write `path` into a StorageError that says what to do."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"Could not write {error.filename or path}: {error.strerror or error}. Free disk "
            "space, make the folder writable, or start ComfyUI with another --output-directory."
        ) from error


def write_atomically(path: Path, content: bytes) -> None:
    """Write a temporary file beside `path`, flush it to disk, then rename it.

    Several processes may write the same file, each its own temporary one.
    Raises StorageError, with nothing left behind, if the disk is full or read-only.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with storing(path):
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise


def content_hash(path: Path) -> str:
    return remembered_hash(path, file_mark(path))


@lru_cache(maxsize=100_000)
def remembered_hash(path: Path, _mark: str) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def file_mark(path: Path) -> str:
    """Path, size and modification time: changes when the file does."""
    status = path.stat()
    return f"{path}|{status.st_size}|{status.st_mtime_ns}"
