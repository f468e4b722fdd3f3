"""Remembers every description, so that a cancelled run continues where it stopped."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from ..files import file_mark
from ..lines import Lines


class Journal:
    """Descriptions on disk, keyed by captioner, settings and pictures.

    One line per description, flushed to disk at once.
    """

    def __init__(self, file: Path) -> None:
        self.lines = Lines(file, lambda entry: (str(entry["key"]), str(entry["text"])))
        self._texts = dict(self.lines)

    @staticmethod
    def key(captioner: str, pictures: Iterable[Path]) -> str:
        """`captioner` is its `key()`; pictures count by path, size and modification time."""
        words = [captioner, *map(file_mark, pictures)]
        return hashlib.sha256("\0".join(words).encode("utf-8", "surrogatepass")).hexdigest()[:32]

    def get(self, key: str) -> str | None:
        return self._texts.get(key)

    def add(self, key: str, text: str) -> None:
        self._texts[key] = text
        self.lines.path.parent.mkdir(parents=True, exist_ok=True)
        self.lines.append({"key": key, "text": text})
