"""The list of all runs: progress, best held-out loss, time and size of each."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ...language import say
from ...trainer.runs.ending import ending_of
from ...trainer.runs.lock import NAME as LOCK
from ...trainer.runs.lock import alive, owner_of
from ...trainer.runs.log import log_lines
from ...trainer.runs.run import Run
from ..score.outcome import outcome_of
from .curves import GrowingCourse

SAMPLES = "step_*.png"


@dataclass(frozen=True)
class Summary:
    """A run in the list. `state` is training, finished, stopped or damaged (see `problem`).

    `steps` is its last step, earlier than planned if `ending` gives a reason. `best` is the step of
    the saved LoRA with the lowest held-out loss, `change` that loss against the base model's in
    percent; both None if none was measured. `changed` is in seconds since 1970. `keep` is the step
    recommended when the checkpoints were scored.
    """

    name: str
    state: str
    changed: float
    size: int
    done: int = 0
    steps: int = 0
    checkpoints: int = 0
    best: int | None = None
    change: float | None = None
    thumbnail: str = ""
    comparison: str = ""
    graph: bool = False
    problem: str = ""
    ending: str = ""
    keep: int | None = None


def summaries(output: Path) -> list[Summary]:
    """All runs, the latest first. A run that cannot be read is listed as damaged."""
    found = [summary(Run(name, output)) for name in Run.names(output)]
    return sorted(found, key=lambda each: -each.changed)


def summary(run: Run) -> Summary:
    changed, size = weight(run)
    try:
        early = ending_of(run.folder)
        steps = early.step if early else planned(run)
        with measured(run.folder).course() as course:
            tested = [*course.tested]
        saved, scored = run.checkpoints(), outcome_of(run.folder)
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        return Summary(run.name, "damaged", changed, size, problem=str(error))
    done = max((each.step for each in saved), default=0)
    at = {each.step: each for each in tested if each.is_evidence}
    best = min((each.step for each in saved if each.step in at), default=None,
               key=lambda step: at[step].change.mean)  # fmt: skip
    return Summary(
        run.name,
        state(run, done, steps),
        changed,
        size,
        done,
        steps,
        len(saved),
        best,
        None if best is None else round(100 * at[best].change.mean, 2),
        latest_sample(run),
        newest(run.folder / "comparisons", "*.json").stem,
        (run.folder / "workflow.json").is_file(),
        ending=early.text if early else "",
        keep=next((e.step for e in saved if scored and e.path.name == scored.best), None),
    )


def ending(run: Run) -> str:
    """A sentence on how a finished run ended."""
    about = summary(run)
    values = {"steps": about.done, "count": about.checkpoints, "folder": run.lora_folder}
    if about.best is None:
        text = say("finished: {steps} steps, {count} checkpoints in {folder}", **values)
    else:
        text = say(
            "finished: {steps} steps, {count} checkpoints in {folder}, best held-out step {best}",
            **values,
            best=about.best,
        )
    return "\n".join(filter(None, [text, about.ending]))


def latest_sample(run: Run) -> str:
    """The file name of the latest sample; empty if there is none."""
    return newest(run.folder / "samples", SAMPLES).name


def state(run: Run, done: int, steps: int) -> str:
    lock = run.folder / LOCK
    owner = owner_of(lock)
    if owner and alive(owner, time.time() - lock.stat().st_mtime):
        return "training"
    return "finished" if steps and done >= steps else "stopped"


def planned(run: Run) -> int:
    """Planned steps. Reads nothing else of run.yaml, which may be of another version."""
    return int(run.file.read()["config"]["steps"])


@lru_cache(maxsize=5000)
def measured(folder: Path) -> GrowingCourse:
    """The measurements in a run's log. Of a million lines, only those that hold one are parsed."""
    return GrowingCourse(log_lines(folder, only=b'"holdout"'))


def weight(run: Run) -> tuple[float, int]:
    """When the run last changed, and the bytes of its files."""
    files = [run.folder / "run.yaml", *files_below(run.folder), *files_below(run.lora_folder)]
    status = [path.stat() for path in files if path.is_file()]
    return max((each.st_mtime for each in status), default=0.0), sum(s.st_size for s in status[1:])


def files_below(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else iter(())


def newest(folder: Path, pattern: str) -> Path:
    """The file that was written last; an empty path if there is none."""
    return max(folder.glob(pattern), key=lambda path: path.stat().st_mtime, default=Path())
