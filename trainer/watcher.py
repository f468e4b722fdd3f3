"""Who is told how a run goes on: TensorBoard, and whoever wants to watch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .config import ConfigError
from .runs.run import Run


class Watcher:
    """Is told of a run's every step. This one does nothing with it."""

    def begin(self, run: Run) -> None:
        """The run goes on from what its log says, for the first time or after going back."""

    def add(self, entry: Mapping[str, Any]) -> None:
        """A step has been done and logged."""

    def saved(self) -> None:
        """A checkpoint, and its sample, have been written."""


class Board:
    """Writes log entries as scalars into `folder`; continued runs append."""

    def __init__(self, folder: Path, done: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ModuleNotFoundError as error:
            raise ConfigError(
                "Logging for TensorBoard needs the package tensorboard. Install it into ComfyUI's "
                "Python (pip install tensorboard), or turn the setting off."
            ) from error
        # purge_step hides what a killed run had logged beyond its last save
        self.writer = SummaryWriter(str(folder), purge_step=done + 1)

    def add(self, entry: Mapping[str, Any]) -> None:
        step = entry["step"]
        for name in ("loss", "learning_rate", "grad_norm", "memory"):
            if entry[name] is None:  # a float16 overflow has no norm
                continue
            self.writer.add_scalar(f"train/{name}", entry[name], step)
        if "holdout" in entry:
            held_out, base = (sum(entry[k]) / len(entry[k]) for k in ("holdout", "holdout_base"))
            self.writer.add_scalar("holdout/loss", held_out, step)
            self.writer.add_scalar("holdout/change_from_base", held_out / base - 1, step)
        self.writer.flush()
