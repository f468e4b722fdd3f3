"""Files of other trainers, as text."""

from collections.abc import Callable
from pathlib import Path

import pytest
from kontext.command.foreign.read import read_files
from kontext.trainer.runs.job import Job


@pytest.fixture
def read(tmp_path) -> Callable[..., tuple[Job, list[str]]]:
    """read(ring__yaml="…", pairs__toml="…") → the job of the first, and what it leaves out."""

    def run(**files: str) -> tuple[Job, list[str]]:
        paths: list[Path] = []
        for name, text in files.items():
            paths.append(tmp_path / name.replace("__", "."))
            paths[-1].write_text(text, encoding="utf-8")
        return read_files(paths[:1])

    return run
