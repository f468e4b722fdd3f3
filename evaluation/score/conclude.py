"""After training: score the checkpoints, and mark the one to keep in the run's folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...files import storing, write_atomically
from ...trainer import host, parallel
from ...trainer.request import TrainingRequest
from ...trainer.runs.run import Run
from ..pictures.loras import loras_of_run
from ..progress.overview import ending
from .finalists import PicturePlan
from .report import advice, write_scores
from .score import score

PICTURES, SAMPLING_STEPS = 8, 20  # as Score Checkpoints has them
STRENGTHS = (0.6, 0.8, 1.0, 1.2)


@dataclass(frozen=True)
class Conclusion:
    """The step of the checkpoint to keep (None if none can be recommended), and the advice."""

    step: int | None
    advice: str


def conclude(request: TrainingRequest, run: Run) -> Conclusion | None:
    """Score a finished run, if its settings ask for it, and pin the checkpoint to keep.

    With `choose` name, its LoRA is also saved as `<run>_best.safetensors` beside the others. What
    was measured before is kept, so repeating this costs almost nothing. Under torchrun, only the
    first process does it.
    """
    if run.config.choose == "off" or not parallel.is_first():
        return None
    plan = PicturePlan(PICTURES, SAMPLING_STEPS)
    loras, places = loras_of_run(run), (request.cache_folder, run.folder)
    common = request.pairs, STRENGTHS, run.config, *places, plan, request.node_id
    scores = score(request.base, loras, *common)
    write_scores(scores, run.folder / "scores")
    best, words = scores.best, advice(scores)
    if best:
        run.pin(best.step)
    name_best(run, best.path if best and run.config.choose == "name" else None)
    host.Progress(1, request.node_id).say("\n".join((ending(run), words)))
    return Conclusion(best.step if best else None, words)


def name_best(run: Run, path: Path | None) -> None:
    """Copy the LoRA to keep under a name that says so, replacing the last copy; None removes it."""
    copy = run.lora_folder / f"{run.name}_best.safetensors"
    with storing(copy):
        if path is None:
            copy.unlink(missing_ok=True)
            return
        content = path.read_bytes()
    write_atomically(copy, content)
