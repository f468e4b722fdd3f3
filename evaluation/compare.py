"""Checkpoints side by side: test pictures down, LoRAs and strengths across."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

from PIL import Image

from ..trainer.host import Base, Progress
from .generate import Setting, Trial, generate
from .grid import Column, Grid, Row, save_pages
from .samples import Samples
from .subjects import LoraFile, Subject

PICTURE_FORMATS = ("png", "jpg", "webp", "pdf")


def settings_of(loras: Sequence[LoraFile], strengths: Sequence[float]) -> list[Setting]:
    """The base model, then every LoRA at every strength: all strengths of a LoRA together."""
    return [Setting(), *(Setting(lora, strength) for lora in loras for strength in strengths)]


def trials_of(
    subjects: Sequence[Subject],
    prompts: Sequence[str],
    seeds: Sequence[int],
    steps: Sequence[int],
    guidances: Sequence[float],
) -> list[Trial]:
    """Every test picture with every prompt (its own caption where there is none), seed, …"""
    return [
        Trial(subject, prompt, seed, count, guidance)
        for subject in subjects
        for prompt, seed, count, guidance in product(
            prompts or (subject.caption,), seeds, steps, guidances
        )
    ]


def compare(
    base: Base,
    settings: Sequence[Setting],
    trials: Sequence[Trial],
    samples: Samples,
    title: str,
    progress: Progress,
    graph: Mapping[str, object] | None = None,
) -> Grid:
    """Make what is missing of the pictures, and lay all of them out."""
    paths = generate(base, settings, trials, samples, progress, graph)
    with_target = any(trial.subject.target for trial in trials)
    columns = [Column("control", "before", pinned=True)]
    for setting in settings:
        if setting.lora is None:
            columns.append(Column("base model", "no LoRA", pinned=True))
        else:
            columns.append(Column(setting.lora.label, f"strength {setting.strength:g}"))
    if with_target:
        columns.append(Column("target", "after", pinned=True))
    cells = []
    for trial in trials:
        row: list[Image.Image | None] = [beside(trial.subject.controls)]
        row += [_opened(paths[setting, trial]) for setting in settings]
        cells.append((*row, trial.subject.target) if with_target else tuple(row))
    return Grid(title, legend(trials), tuple(columns), rows_of(trials), tuple(cells))


def rows_of(trials: Sequence[Trial]) -> tuple[Row, ...]:
    """Each row names its picture and whatever differs from other rows."""
    varying = [show for name, show in LEGEND.items() if not _same(trials, name)]
    return tuple(
        Row(trial.subject.name, tuple(show(trial) for show in varying)) for trial in trials
    )


def legend(trials: Sequence[Trial]) -> str:
    """What all rows have in common."""
    return ", ".join(show(trials[0]) for name, show in LEGEND.items() if _same(trials, name))


LEGEND = {
    "seed": lambda trial: f"seed {trial.seed}",
    "steps": lambda trial: f"{trial.steps} sampling steps",
    "guidance": lambda trial: f"guidance {trial.guidance:g}",
    "prompt": lambda trial: f"“{trial.prompt}”",
}


def save_grid(grid: Grid, folder: Path, pages: Sequence[Image.Image], suffix: str) -> list[Path]:
    """Write the pages under a name that is the same for the same grid."""
    digest = hashlib.sha256(f"{grid.title}{grid.legend}{grid.rows}{grid.columns}".encode())
    return save_pages(pages, folder / f"compare_{digest.hexdigest()[:10]}.{suffix}")


def beside(pictures: Sequence[Image.Image]) -> Image.Image | None:
    """Several controls as one picture, side by side."""
    if len(pictures) < 2:
        return pictures[0] if pictures else None
    height = max(picture.height for picture in pictures)
    strip = Image.new("RGB", (sum(picture.width for picture in pictures), height), "white")
    left = 0
    for picture in pictures:
        strip.paste(picture, (left, 0))
        left += picture.width
    return strip


def _same(trials: Sequence[Trial], name: str) -> bool:
    return len({getattr(trial, name) for trial in trials}) == 1


def _opened(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        return picture.convert("RGB")
