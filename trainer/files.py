"""Writing files so that a reader never sees half of one."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..files import write_atomically


class LoraError(ValueError):
    """A LoRA file cannot be read, or does not fit what it is wanted for."""


def save_tensors(
    tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file atomically. The same content gives the same bytes."""
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    content = safetensors.torch.save(contiguous)
    size = int.from_bytes(content[:8], "little")
    notes = {
        name: text.encode("utf-8", "replace").decode() for name, text in (metadata or {}).items()
    }
    # the library writes metadata in another order each time
    header = json.loads(content[8 : 8 + size]) | {"__metadata__": dict(sorted(notes.items()))}
    text = json.dumps(header, separators=(",", ":")).encode("ascii")
    text += b" " * (-len(text) % 8)
    write_atomically(path, len(text).to_bytes(8, "little") + text + content[8 + size :])


def is_whole(path: Path) -> bool:
    """Whether a safetensors file is there, as long as its header says."""
    try:
        with safe_open(path, "pt"):
            return True
    except FileNotFoundError:
        return False
    except (OSError, SafetensorError) as error:
        logging.warning("%s is damaged, and made anew (%s).", path, error)
        return False
