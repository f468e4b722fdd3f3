"""A saved LoRA, and whether its file is whole."""

from __future__ import annotations

import hashlib
import logging
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from safetensors import SafetensorError, safe_open

from ...files import file_mark
from ...language import say
from .export import part_of_layer

BLOCK = 4096  # bytes


@dataclass(frozen=True, order=True)
class Checkpoint:
    """A saved LoRA and the number of steps it was trained for."""

    step: int
    path: Path

    def metadata(self) -> dict[str, str]:
        with safe_open(self.path, "pt") as file:
            return file.metadata() or {}

    @property
    def damage(self) -> str:
        """What is wrong with the file; empty if nothing is. Reads little of it: a flipped bit is
        only found by `is_intact`."""
        try:
            mark = file_mark(self.path)
            return damage_of(self.path, mark) or hole_in(self.path, mark)
        except OSError as error:
            return str(error.strerror)

    @property
    def is_intact(self) -> bool:
        """Whether its tensors match the hash in its metadata. Reads the file."""
        return bool(not self.damage and matches_its_hash(self.path, file_mark(self.path)))


@lru_cache(maxsize=1000)
def matches_its_hash(path: Path, _mark: str) -> bool:
    with safe_open(path, "pt") as file:
        noted = (file.metadata() or {}).get("sshs_model_hash")
    digest = hashlib.sha256()
    with path.open("rb") as content:
        content.seek(int.from_bytes(content.read(8), "little"), os.SEEK_CUR)
        while block := content.read(1 << 20):
            digest.update(block)
    matches = noted in (None, digest.hexdigest())
    if not matches:
        logging.warning("%s is damaged: its tensors are not those that were saved.", path)
    return matches


@lru_cache(maxsize=10_000)
def hole_in(path: Path, mark: str) -> str:
    """What is wrong with a file that has a block of one and the same byte, as power cuts leave.

    A LoRA that has learned nothing has such blocks too, so then its hash decides.
    """
    with path.open("rb") as file:
        start = 8 + int.from_bytes(file.read(8), "little")
        end = max(start, path.stat().st_size - BLOCK)
        for place in (start, (start + end) // 2, end):
            file.seek(place)
            if len(set(file.read(BLOCK))) < 2 and not matches_its_hash(path, mark):
                return say("its content is not what was written")
    return ""


@lru_cache(maxsize=10_000)
def damage_of(path: Path, _mark: str) -> str:
    """What is wrong with a LoRA's file, judged by header, length and key names."""
    try:
        with safe_open(path, "pt") as file:  # checks that header and length agree
            names = set(file.keys())
        layers = {part_of_layer(name)[0] for name in names if not name.endswith(".alpha")}
        problem = "" if layers else "it is empty"
        if lacking := sorted(layer for layer in layers if f"{layer}.alpha" not in names):
            problem = f"{lacking[0]} has no alpha"
    except (SafetensorError, ValueError) as error:
        problem = str(error)
    if problem:
        logging.warning("%s is damaged and left out (%s).", path, problem)
    return problem
