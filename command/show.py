"""Progress of a run on a terminal: a bar, lines, JSON, or nothing."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

PROGRESS = "kontext.progress"  # the logger that trainer/host/progress.py says things to
SECONDS = 10.0  # between two lines


class Screen:
    """Progress on standard error, results on standard output. `mode`: bar, lines, json, quiet."""

    def __init__(self, mode: str) -> None:
        self.mode, self.results = mode, sys.stdout
        self.errors = sys.stderr  # ComfyUI puts an interceptor there that a bar breaks

    def result(self, words: str, **facts: Any) -> None:
        """Print the result, in words or as one line of JSON."""
        if self.mode == "json":
            self.write(self.results, json.dumps(facts, ensure_ascii=False))
        elif words:
            self.write(self.results, words)

    def note(self, words: str) -> None:
        """Print a note on the way."""
        if self.mode == "json":
            self.write(self.results, json.dumps({"note": words}, ensure_ascii=False))
        elif self.mode != "quiet":
            self.write(self.errors, words)

    @contextmanager
    def progress(self) -> Iterator[None]:
        """Show the trainer's progress while the block runs."""
        from ..trainer import host  # needs ComfyUI

        shown = {"bar": Bar, "lines": LogLines, "json": Events, "quiet": Nothing}[self.mode](self)
        handler = Said(shown)
        logger = logging.getLogger(PROGRESS)
        logger.propagate = False
        logger.setLevel(logging.INFO)
        logger.addHandler(handler)
        host.watched(shown.at)
        try:
            yield
        finally:
            host.watched(None)
            logger.removeHandler(handler)
            shown.close()

    @staticmethod
    def write(stream: TextIO, line: str) -> None:
        print(line, file=stream, flush=True)


class Said(logging.Handler):
    """Passes the trainer's messages on to the display."""

    def __init__(self, shown: Nothing) -> None:
        super().__init__()
        self.shown = shown

    def emit(self, record: logging.LogRecord) -> None:
        self.shown.say(record.getMessage())


class Nothing:
    def __init__(self, screen: Screen) -> None:
        self.screen = screen

    def at(self, step: int, total: int, preview: object = None, node_id: object = None) -> None:
        """ComfyUI's progress hook."""

    def say(self, text: str) -> None:
        """A line of the trainer's, at most four a second."""

    def close(self) -> None:
        """The work has ended, well or not."""


class Bar(Nothing):
    def __init__(self, screen: Screen) -> None:
        from tqdm import tqdm

        super().__init__(screen)
        form = "{percentage:3.0f}%|{bar:30}| {desc}"
        self.bar = tqdm(total=0, bar_format=form, file=screen.errors, dynamic_ncols=True)

    def at(self, step: int, total: int, preview: object = None, node_id: object = None) -> None:
        self.bar.total, self.bar.n = total, step
        self.bar.refresh()

    def say(self, text: str) -> None:
        self.bar.set_description_str(text.partition("\n")[0])

    def close(self) -> None:
        self.bar.close()


class LogLines(Nothing):
    """For log files: a line every ten seconds."""

    last, unsaid = float("-inf"), ""

    def say(self, text: str) -> None:
        self.unsaid = text.replace("\n", " · ")
        if time.monotonic() - self.last > SECONDS:
            self.screen.write(self.screen.errors, self.unsaid)
            self.last, self.unsaid = time.monotonic(), ""

    def close(self) -> None:
        if self.unsaid:
            self.screen.write(self.screen.errors, self.unsaid)


class Events(Nothing):
    """For programs: a line of JSON for each."""

    step = total = 0

    def at(self, step: int, total: int, preview: object = None, node_id: object = None) -> None:
        self.step, self.total = step, total

    def say(self, text: str) -> None:
        line = {"step": self.step, "steps": self.total, "text": text}
        self.screen.write(self.screen.results, json.dumps(line, ensure_ascii=False))
