"""Checkpoints side by side: test pictures down, LoRAs and strengths across."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path

from PIL import Image

from ...dataset.image import open_rgb
from ...dataset.strips import pasted
from ...language import say
from ...trainer.data.subject import Subject
from ...trainer.host import Base, Progress
from ..charts import aligned
from ..pictures.cost import Costs
from ..pictures.generate import Setting, Trial, generate, seed_label
from ..pictures.loras import LoraFile
from ..pictures.samples import Samples
from .comparison import ComparedRow, Comparison, Shown, digest_of
from .grid import Column, Grid, Row, save_pages

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
) -> tuple[Grid, Comparison]:
    """Make the missing pictures, and arrange all of them in a grid and for the viewer.

    The pictures are saved; the grid and the comparison are not yet.
    """
    paths = generate(base, settings, trials, samples, progress, graph)
    with_target = any(trial.subject.target for trial in trials)
    columns = [Column(say("control"), say("before"), pinned=True)]
    for setting in settings:
        if setting.lora is None:
            columns.append(Column(say("base model"), say("no LoRA"), pinned=True))
        else:
            strength = say("strength {strength:g}", strength=setting.strength)
            columns.append(Column(setting.lora.label, strength))
    if with_target:
        columns.append(Column(say("target"), say("after"), pinned=True))

    cells: list[list[Image.Image | None]] = []
    files: list[tuple[str | None, ...]] = []
    for trial in trials:
        controls, target = trial.subject.controls, trial.subject.target
        control = next(iter(controls), None)
        if len(controls) > 1:
            control = pasted(controls, ground="white")
        made = [paths[setting, trial] for setting in settings]
        ends = [samples.save_source(each) if each else None for each in (control, target)]
        found = [ends[0], *made, *([ends[1]] if with_target else [])]
        cells.append([control, *map(open_rgb, made), *([target] if with_target else [])])
        files.append(tuple(_relative(path, samples.folder) for path in found))
    grid = Grid(title, legend(trials), tuple(columns), rows_of(trials), tuple(map(tuple, cells)))
    shown = shown_columns(settings, Costs(samples.folder), with_target)
    return grid, Comparison(title, grid.legend, shown, tried_rows(trials), tuple(files))


def shown_columns(
    settings: Sequence[Setting], costs: Costs, with_target: bool
) -> tuple[Shown, ...]:
    """The columns as the viewer names them, with what each LoRA cost."""
    columns = [Shown("control", "control", "")]
    for setting in settings:
        lora, strength = setting.lora, setting.strength
        cost = costs.get(lora.digest, strength) if lora else costs.get("", 0.0)
        numbers = asdict(cost) if cost else None
        if lora is None:
            columns.append(Shown("base", "base", "", cost=numbers))
        else:
            item = f"{lora.digest} {strength:g}"
            names = lora.label, lora.path.name, lora.step, strength
            columns.append(Shown("lora", item, *names, numbers))
    if with_target:
        columns.append(Shown("target", "target", ""))
    return tuple(columns)


def tried_rows(trials: Sequence[Trial]) -> tuple[ComparedRow, ...]:
    """The rows, each named by all that its pictures have in common."""
    return tuple(
        ComparedRow(
            digest_of(
                [trial.subject.references, trial.prompt, trial.seed, trial.steps, trial.guidance]
            ),
            row.label,
            row.details,
            trial.prompt,
            trial.subject.size,
        )
        for trial, row in zip(trials, rows_of(trials), strict=True)
    )


def cost_table(comparison: Comparison) -> str:
    """The cost of each column: seconds to read and apply it and per picture, and memory."""
    heads = say("read"), say("apply"), say("a picture"), say("memory")
    table: list[tuple[str, ...]] = [("", *heads)]
    for column in comparison.columns:
        if column.kind in ("base", "lora"):
            name = f"{column.label} x {column.strength:g}" if column.label else say("base model")
            cost = column.cost
            seconds = [f"{cost[of]:.2f} s" for of in ("read", "apply", "picture")] if cost else []
            memory = [f"{cost['memory'] / 1e9:.2f} GB"] if cost else []
            table.append((name, *(seconds + memory or ["-"] * 4)))
    return aligned(table)


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
    "seed": lambda trial: seed_label(trial.seed),
    "steps": lambda trial: say("{steps} sampling steps", steps=trial.steps),
    "guidance": lambda trial: say("guidance {guidance:g}", guidance=trial.guidance),
    "prompt": lambda trial: f"“{trial.prompt}”",
}


def save_grid(
    folder: Path, comparison: Comparison, pages: Sequence[Image.Image], suffix: str
) -> list[Path]:
    """Write the pages under a name that is the same for the same comparison."""
    return save_pages(pages, folder / f"compare_{comparison.id}.{suffix}")


def _same(trials: Sequence[Trial], name: str) -> bool:
    return len({getattr(trial, name) for trial in trials}) == 1


def _relative(path: Path | None, samples: Path) -> str | None:
    """The path as in a comparison: relative to the run's folder, which holds the samples."""
    return path.relative_to(samples.parent).as_posix() if path else None
