"""Remembers every description, so that a run that was cancelled goes on where it stopped."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from ..files import file_mark


class Journal:
    """Descriptions on disk by captioner, settings and pictures; changing any of them asks anew.

    One line per description, flushed at once. A line that was cut off by a crash is ignored.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._texts: dict[str, str] = {}
        if file.is_file():
            for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
                try:
                    entry = json.loads(line)
                except ValueError:
                    continue
                self._texts[entry["key"]] = entry["text"]

    @staticmethod
    def key(captioner: str, pictures: Iterable[Path]) -> str:
        """`captioner` is its `key()`; pictures count by path, size and modification time."""
        words = [captioner, *map(file_mark, pictures)]
        return hashlib.sha256("\0".join(words).encode("utf-8", "surrogatepass")).hexdigest()[:32]

    def get(self, key: str) -> str | None:
        return self._texts.get(key)

    def add(self, key: str, text: str) -> None:
        self._texts[key] = text
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"key": key, "text": text}, ensure_ascii=False) + "\n")
