"""Keep one checkpoint of a run under a good name, with what a user of it needs to know."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from ..trainer import host
from ..trainer.files import save_tensors
from ..trainer.runs.run import Checkpoint, Run
from .pictures.samples import file_digest


class KeepError(ValueError):
    """There is no such checkpoint to keep, or its name is taken."""


@dataclass(frozen=True)
class Choice:
    """A checkpoint and the strength to use it at."""

    checkpoint: Checkpoint
    strength: float = 1.0


def choose(run: Run, choice: str) -> Choice:
    """The checkpoint that `choice` names: a step, `last`, its file, or `best` as it was scored."""
    word = choice.strip()
    scores = scores_of(run.folder)
    if word.lower() == "best":
        word = _best_file(run, scores)
    for checkpoint in run.checkpoints():
        if checkpoint.path.name == word.replace("\\", "/").split("/")[-1]:
            scored = checkpoint.path.name == scores.get("best")
            return Choice(checkpoint, scores["best_strength"] if scored else 1.0)
    if word.lower() == "last":
        return Choice(run.checkpoint_at(0))
    if word.isdecimal() and int(word):
        return Choice(run.checkpoint_at(int(word)))
    raise KeepError(
        f"Run '{run.name}' has no checkpoint '{word}'. Write best, last or the step of a "
        "checkpoint; score the run again if the best has been deleted since."
    )


def scores_of(folder: Path) -> dict[str, Any]:
    """What Score Checkpoints found out about the run in this folder; empty before."""
    path = folder / "scores" / "scores.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _best_file(run: Run, scores: dict[str, Any]) -> str:
    if not scores:
        raise KeepError(
            f"Run '{run.name}' has not been scored. Run Score Checkpoints on it first, or write "
            "a step instead of best."
        )
    if scores["best"] is None:
        raise KeepError(f"No checkpoint of '{run.name}' can be called the best: {scores['note']}")
    return scores["best"]


def keep(
    run: Run, choice: Choice, path: Path, notes: Mapping[str, str], overwrite: bool = False
) -> Path:
    """Copy the checkpoint to `path` with its metadata and `notes`, and a sample picture beside it.

    The picture, `<name>.png`, is what ComfyUI's model browser shows. Raises KeepError where
    another LoRA has the name, unless `overwrite`.
    """
    checkpoint = choice.checkpoint
    metadata = {
        **checkpoint.metadata(),
        "modelspec.title": path.stem,
        "kontext.run": run.name,
        "kontext.step": str(checkpoint.step),
        "kontext.recommended_strength": f"{choice.strength:g}",
        **{name: text for name, text in notes.items() if text},
    }
    kept_before = path.exists() and Checkpoint(0, path).metadata() == metadata
    if path.exists() and not kept_before and not overwrite:
        raise KeepError(
            f"There is another LoRA named {path.name} in {path.parent}. Choose another name, or "
            "turn on `overwrite`."
        )
    if not kept_before:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_tensors(host.load_lora_file(checkpoint.path), path, metadata)
    picture = sample_picture(run, choice)
    if picture:
        shutil.copyfile(picture, path.with_suffix(".png"))
    return path


def sample_picture(run: Run, choice: Choice) -> Path | None:
    """The newest comparison picture made with this checkpoint, nearest to its strength."""
    digest, found = file_digest(choice.checkpoint.path), []
    for path in (run.folder / "samples").glob("*.png"):
        with Image.open(path) as picture:
            cell = json.loads(picture.info.get("kontext", "{}"))
        if cell.get("lora") == digest:
            found.append((-abs(cell["strength"] - choice.strength), path.stat().st_mtime, path))
    return max(found)[2] if found else None
