"""Copy one checkpoint of a run to a good name, with metadata and a sample for its users."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..dataset.image import open_rgb
from ..files import storing, write_atomically
from ..language import say
from ..trainer import host
from ..trainer.runs.checkpoint import Checkpoint
from ..trainer.runs.metadata import save_lora, thumbnail, without_hashes
from ..trainer.runs.run import Run
from .pictures.samples import file_digest, noted_in
from .score.outcome import Outcome, outcome_of


class KeepError(ValueError):
    """The checkpoint to keep does not exist, or its name is taken."""


@dataclass(frozen=True)
class Choice:
    """A checkpoint and the strength to use it at."""

    checkpoint: Checkpoint
    strength: float = 1.0


def choose(run: Run, choice: str) -> Choice:
    """The checkpoint that `choice` names: a step, `last`, its file, or `best` as scored.

    Raises KeepError or RunError if there is none, DamagedFileError for damaged scores if they are
    needed.
    """
    word = choice.strip()
    if word.lower() == "best":
        word = _best_file(run, outcome_of(run.folder))
    for checkpoint in run.checkpoints():
        if checkpoint.path.name == word.replace("\\", "/").split("/")[-1]:
            scored = outcome_of(run.folder)
            is_best = scored is not None and scored.best == checkpoint.path.name
            strength = scored.best_strength if scored and is_best else 1.0
            return Choice(run.checkpoint_at(checkpoint.step), strength)
    if word.lower() == "last":
        return Choice(run.checkpoint_at(0))
    if word.isdecimal() and int(word):
        return Choice(run.checkpoint_at(int(word)))
    raise KeepError(
        say(
            "Run '{run}' has no checkpoint '{choice}'. Write best, last or the step of a "
            "checkpoint; score the run again if the best has been deleted since.",
            run=run.name,
            choice=word,
        )
    )


def _best_file(run: Run, scored: Outcome | None) -> str:
    if scored is None:
        raise KeepError(
            say(
                "Run '{run}' has not been scored. Run Score Checkpoints on it first, or write a "
                "step instead of best.",
                run=run.name,
            )
        )
    if scored.best is None:
        raise KeepError(
            say(
                "No checkpoint of '{run}' can be called the best: {reason}",
                run=run.name,
                reason=scored.note,
            )
        )
    return scored.best


def keep(
    run: Run, choice: Choice, path: Path, notes: Mapping[str, str], overwrite: bool = False
) -> str:
    """Copy the checkpoint to `path` with its metadata and `notes`, and a sample picture beside it.

    ComfyUI's model browser shows the picture, `<name>.png`. Without `overwrite`, a picture that is
    not one of the run's samples is not replaced: then, a sentence that says so is returned. Raises
    KeepError if another LoRA has the name, unless `overwrite`; StorageError.
    """
    checkpoint, sample = choice.checkpoint, sample_picture(run, choice)
    metadata = {
        **without_hashes(checkpoint.metadata()),
        "modelspec.title": path.stem,
        "kontext.run": run.name,
        "kontext.step": str(checkpoint.step),
        "kontext.recommended_strength": f"{choice.strength:g}",
        **{name: text for name, text in notes.items() if text},
    }
    existing = Checkpoint(0, path).metadata() if path.exists() else {}
    kept_before = bool(existing) and metadata.items() <= existing.items()
    if path.exists() and not kept_before and not overwrite:
        raise KeepError(
            say(
                "There is another LoRA named {name} in {folder}. Choose another name, or turn on "
                "`overwrite`.",
                name=path.name,
                folder=path.parent,
            )
        )
    if not kept_before:
        with storing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        shown = {"modelspec.thumbnail": thumbnail(open_rgb(sample))} if sample else {}
        save_lora(host.load_lora_file(checkpoint.path), path, {**metadata, **shown})
    return _keep_picture(run, sample, path.with_suffix(".png"), overwrite) if sample else ""


def _keep_picture(run: Run, sample: Path, path: Path, overwrite: bool) -> str:
    if path.exists() and not overwrite and not is_sample(run, path):
        return say(
            "{picture} is your own picture and stays; turn on `overwrite` to replace it with a "
            "sample of this LoRA.",
            picture=path,
        )
    write_atomically(path, sample.read_bytes())
    return ""


def is_sample(run: Run, path: Path) -> bool:
    """Whether a picture is an untouched copy of one of the run's samples."""
    size, samples = path.stat().st_size, (run.folder / "samples").glob("*.png")
    alike = (sample for sample in samples if sample.stat().st_size == size)
    return any(sample.read_bytes() == path.read_bytes() for sample in alike)


def sample_picture(run: Run, choice: Choice) -> Path | None:
    """The comparison picture of this checkpoint with the nearest strength, the newest of these."""
    digest, found = file_digest(choice.checkpoint.path), []
    for path in (run.folder / "samples").glob("*.png"):
        cell = noted_in(path, "kontext")
        if cell.get("lora") == digest:
            distance = abs(cell["strength"] - choice.strength)
            found.append((-distance, path.stat().st_mtime, path))
    return max(found)[2] if found else None
