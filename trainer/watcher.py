"""Observers of a training run: its log, TensorBoard, and the caller's own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..language import say
from . import parallel
from .config import ConfigError
from .runs.run import Run


class Watcher:
    """Observes a run, step by step. This one does nothing."""

    def begin(self, run: Run) -> None:
        """The run starts, or has returned to its last save: it continues at the end of its log."""

    def add(self, entry: Mapping[str, Any]) -> None:
        """A step was done and logged."""

    def saved(self) -> None:
        """A checkpoint and its sample were written."""


class Board:
    """Writes log entries as TensorBoard scalars into `folder`; continued runs append."""

    def __init__(self, folder: Path, done: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ModuleNotFoundError as error:
            raise ConfigError(
                say(
                    "Logging for TensorBoard needs the package tensorboard. Install it into "
                    "ComfyUI's Python (pip install tensorboard), or turn the setting off."
                )
            ) from error
        # purge_step hides the steps that a killed run logged after its last save
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


class Shielded(Watcher):
    """Passes everything on to another watcher. If that fails, training continues without it.

    An error in displaying a run never stops it. The watcher gets another chance when the run
    starts again or returns to its last save.
    """

    def __init__(self, watcher: Watcher) -> None:
        self.watcher, self.failed = watcher, False

    def begin(self, run: Run) -> None:
        self.failed = False
        self.attempt(lambda: self.watcher.begin(run))

    def add(self, entry: Mapping[str, Any]) -> None:
        self.attempt(lambda: self.watcher.add(entry))

    def saved(self) -> None:
        self.attempt(self.watcher.saved)

    def attempt(self, show: Callable[[], None]) -> None:
        if self.failed:
            return
        try:
            show()
        except Exception:
            self.failed = True
            logging.exception("The run is no longer shown; it continues.")


@dataclass
class Journal:
    """Passes each step's log entry on: to the run's log, to TensorBoard and to a watcher."""

    run: Run
    watcher: Watcher
    board: Board | None = None
    notes: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        """Record something unusual: in ComfyUI's console, and with the next step in the log."""
        logging.warning("%s: %s", self.run.name, text)
        self.notes.append(text)

    def add(self, entry: Mapping[str, Any]) -> None:
        """Log a step, with the notes made since the last one."""
        if self.notes:
            entry = {**entry, "note": "; ".join(self.notes)}
            self.notes = []
        if parallel.is_first():
            self.run.log(**entry)
        if self.board:
            try:
                self.board.add(entry)
            except OSError:
                logging.exception("TensorBoard's file is no longer written; the run continues.")
                self.board = None
        self.watcher.add(entry)
