"""A second place for a run's work, where its own folder refuses it, and the way back."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ...files import StorageError, storing, write_atomically
from .identity import Identity
from .run import Run

# Often on another disk than ComfyUI's folders
LAST_RESORT = Path(tempfile.gettempdir()) / "kontext_rescued"


def rescue(
    run: Run, identity: Identity, places: Sequence[Path], save: Callable[[Run], None]
) -> Run | None:
    """Save into a new folder in the first of `places` that takes it; None if none does.

    The folder is built like the output folder, so that the run can be opened there.
    """
    for place in (*places, LAST_RESORT):
        folder = place / time.strftime("%Y-%m-%d_%H-%M-%S")
        try:
            other = Run.create(run.name, folder, identity)
            write_atomically(other.folder / "log.jsonl", log_of(run))
            save(other)
        except StorageError:  # no room here either: the next place may have some
            shutil.rmtree(folder, ignore_errors=True)
        else:
            return other
    return None


def log_of(run: Run) -> bytes:
    try:
        return (run.folder / "log.jsonl").read_bytes()
    except OSError:  # gone with the folder: the weights matter more
        return b""


def bring_back(name: str, output: Path, identity: Identity, places: Sequence[Path]) -> Run | None:
    """Take up the latest rescued work on the run of this name and identity, if it is newer.

    Returns where it lay. Raises StorageError, with the rescued files untouched, if there is
    still no room for them.
    """
    run = Run(name, output)
    rescued = [
        Run(name, folder)
        for place in (*places, LAST_RESORT)
        for folder in sorted(place.glob("*"))
        if Run(name, folder).exists()
    ]
    fitting = [found for found in rescued if not found.changes(identity)]
    newest = max(fitting, key=Run.state_step, default=None)
    if newest is None or newest.state_step() <= run.state_step():
        return None
    if run.exists() and run.changes(identity):
        return None  # the name is somebody else's now
    # the state last: what a crash in between leaves is the run before, and this can be repeated
    inside = [
        *newest.lora_folder.glob("*.safetensors"),
        newest.folder / "pairs.json",
        newest.folder / "log.jsonl",
        newest.folder / "run.yaml",
        newest.state_file,
    ]
    for source in inside:
        target = output / source.relative_to(newest.output)
        with storing(target):
            target.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(target, source.read_bytes())
    shutil.rmtree(newest.output)
    return newest
