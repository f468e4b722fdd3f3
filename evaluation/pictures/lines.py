"""Files of one flat JSON object a line that are only appended to, and survive a killed process."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ...files import storing


def append_line(path: Path, entry: dict[str, Any]) -> None:
    """On the disk before it returns. What a killed process left of a line stays a line."""
    line = (json.dumps(entry, ensure_ascii=False) + "\n").encode("utf-8")
    with storing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:
            if file.seek(0, os.SEEK_END):
                file.seek(-1, os.SEEK_END)
                line = line if file.read(1) == b"\n" else b"\n" + line
            file.write(line)
            file.flush()
            os.fsync(file.fileno())


def read_lines(path: Path) -> list[dict[str, Any]]:
    """All entries that were written whole; none where there is no file."""
    text = path.read_text("utf-8", "replace") if path.exists() else ""
    # entries are flat: a torn one lacks its closing brace
    whole = (line for line in text.split("\n") if line.startswith("{") and line.endswith("}"))
    return [json.loads(line) for line in whole]
