"""safetensors files, written atomically; the same content gives the same bytes."""

from __future__ import annotations

import json
import logging
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..files import write_atomically
from ..language import say

Entries: TypeAlias = Mapping[str, Any]
CHECKSUM = "crc32"  # of all that follows the header; in the metadata


class LoraError(ValueError):
    """A LoRA file cannot be read, or does not fit what it is wanted for."""


def save_tensors(
    tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file atomically. The same content gives the same bytes."""
    entries, data = packed(tensors)
    write_atomically(path, header(entries, metadata or {}), data)


def packed(tensors: Mapping[str, Tensor]) -> tuple[Entries, memoryview]:
    """A safetensors file's header entries (dtype, shape and place of each tensor) and its data."""
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    content = memoryview(safetensors.torch.save(contiguous))
    start = 8 + int.from_bytes(content[:8], "little")
    return json.loads(bytes(content[8:start])), content[start:]


def header(entries: Entries, metadata: Mapping[str, str]) -> bytes:
    """The first bytes of a safetensors file: the header's length, and the header.

    Surrogates in captions, which the format does not allow, become question marks.
    """
    notes = {name: text.encode("utf-8", "replace").decode() for name, text in metadata.items()}
    # sorted: the library's own order of metadata varies
    content = {"__metadata__": dict(sorted(notes.items())), **entries}
    text = json.dumps(content, separators=(",", ":")).encode("ascii")
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


# ---- files that only we read back ------------------------------------------------------------


def save_checked(
    tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None
) -> None:
    """As `save_tensors`, with a checksum for `require_intact`."""
    entries, data = packed(tensors)
    notes = {**(metadata or {}), CHECKSUM: f"{zlib.crc32(data):08x}"}
    write_atomically(path, header(entries, notes), data)


def require_intact(content: bytes, metadata: Mapping[str, str]) -> None:
    """Raise ValueError if a file's tensors do not match its checksum."""
    start = 8 + int.from_bytes(content[:8], "little")
    noted = metadata.get(CHECKSUM, "")
    if noted and noted != f"{zlib.crc32(memoryview(content)[start:]):08x}":
        raise ValueError(say("its content is not what was written"))


def is_whole(path: Path) -> bool:
    """Whether a file of `save_checked` exists and is undamaged."""
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
        require_intact(path.read_bytes(), {CHECKSUM: "none", **metadata})
    except FileNotFoundError:
        return False
    except (OSError, SafetensorError, ValueError) as error:
        logging.warning("%s is damaged, and made anew (%s).", path, error)
        return False
    return True
