"""Writing files so that a reader never sees half of one."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import safetensors.torch
from torch import Tensor


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


def save_tensors(
    tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file atomically."""
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    write_atomically(path, safetensors.torch.save(contiguous, dict(metadata or {})))
