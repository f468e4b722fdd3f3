"""A second place for a run's work if its own folder cannot be written, and the way back."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from ...files import DamagedFileError, StorageError, moment, storing, write_atomically
from .identity import Identity, RunError
from .run import Run


def personal_folder() -> Path:
    """The folder for the state of this user's programs; nobody else writes there."""
    named = os.environ.get("LOCALAPPDATA") or os.environ.get("XDG_STATE_HOME")
    return Path(named) if named else Path(os.path.expanduser("~"), ".local", "state")


# Often on another disk than ComfyUI's folders
LAST_RESORT = personal_folder() / "kontext_rescued"


def rescue(
    run: Run, identity: Identity, places: Sequence[Path], save: Callable[[Run], None]
) -> Run | None:
    """Save into a new folder in the first of `places` that can be written; None if none can.

    The folder is laid out like the output folder, so that the run can be opened there.
    """
    for place in (*places, LAST_RESORT):
        folder = place / moment()
        try:
            folder.mkdir(parents=True, mode=0o700)
        except OSError:
            continue
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
    except OSError:  # lost with the folder: the weights matter more
        return b""


def bring_back(name: str, output: Path, identity: Identity, places: Sequence[Path]) -> Run | None:
    """Move the latest rescued work on the run of this name and identity back, if it is newer.

    Returns the rescued run. Raises StorageError, with the rescued files untouched, if there is
    still no room for them.
    """
    run = Run(name, output)
    fitting = [found for found in rescued(name, places) if fits(found, identity)]
    newest = max(fitting, key=lambda run: run.state.step(), default=None)
    if newest is None or newest.state.step() <= saved_step(run):
        return None
    if run.exists() and is_another(run, identity):
        return None
    # the state last: after a crash in between, the run is as before, and this can be repeated
    inside = [
        *(checkpoint.path for checkpoint in newest.checkpoints()),
        newest.folder / "pairs.json",
        newest.folder / "run.yaml",
        newest.state.path,
    ]
    join_logs(newest, run)
    for source in inside:
        target = output / source.relative_to(newest.output)
        with storing(target):
            target.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(target, source.read_bytes())
    shutil.rmtree(newest.output, ignore_errors=True)
    return newest


def rescued(name: str, places: Sequence[Path]) -> list[Run]:
    """The runs of this name in rescue places that this user owns."""
    found = []
    for place in (*places, LAST_RESORT):
        try:
            folders = sorted(folder for folder in place.glob("*") if is_own(folder))
            found += [Run(name, folder) for folder in folders if Run(name, folder).exists()]
        except OSError as error:
            logging.warning("Rescued work in %s cannot be read: %s", place, error)
    return found


def is_own(folder: Path) -> bool:
    """Whether this user made the folder: files from others are not trusted."""
    mine = not hasattr(os, "getuid") or folder.lstat().st_uid == os.getuid()
    return mine and folder.is_dir() and not folder.is_symlink()


def fits(found: Run, identity: Identity) -> bool:
    """Whether rescued work is intact and of the run to be trained. Otherwise it stays there."""
    try:
        return found.state.step() > 0 and not found.obstacles(identity)
    except (RunError, DamagedFileError, OSError, KeyError, TypeError, ValueError) as error:
        logging.warning("Rescued work in %s is left alone: %s", found.output, error)
        return False


def is_another(run: Run, identity: Identity) -> bool:
    """Whether the name now belongs to another run. An unreadable one does not count."""
    try:
        return bool(run.differences(identity))
    except RunError:
        return False


def saved_step(run: Run) -> int:
    """The step of a run's state; -1 if there is none, or only a damaged one."""
    try:
        return run.state.step()
    except RunError:
        return -1


def join_logs(newer: Run, run: Run) -> None:
    """Add the steps of rescued work to the run's log, which may be the longer of the two."""
    entries = {entry["step"]: entry for source in (run, newer) for entry in source.lines}
    with storing(run.folder):
        run.folder.mkdir(parents=True, exist_ok=True)
    run.lines.rewrite(entries[step] for step in sorted(entries))
