"""A saved LoRA, and whether its file is whole."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from safetensors import SafetensorError, safe_open

from ...files import file_mark
from .export import part_of_layer


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
        """What is wrong with the file, "" if nothing is."""
        try:
            return damage_of(self.path, file_mark(self.path))
        except OSError as error:
            return str(error.strerror)


@lru_cache(maxsize=10_000)
def damage_of(path: Path, _mark: str) -> str:
    """What is wrong with a LoRA's file, by its header, its length and the names in it."""
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
