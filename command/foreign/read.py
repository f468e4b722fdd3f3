"""Which trainer a file is from: this one, or another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...language import say
from ...trainer.runs.job import KEYS, MODEL_KEYS, Job, JobError
from . import (
    ai_toolkit,
    diffsynth,
    diffusers,
    diffusion_pipe,
    kohya,
    kohya_gui,
    onetrainer,
    simpletuner,
    t2itrainer,
)
from .contents import read_mapping

TRAINERS = (
    simpletuner, onetrainer, diffusion_pipe, t2itrainer, diffsynth, diffusers, kohya_gui, kohya,
)  # fmt: skip
"""Those recognised by their keys; kohya's come last, because many trainers share them."""


def read_files(paths: Sequence[Path]) -> tuple[Job, list[str]]:
    """The job that these files describe together, and the settings not taken over.

    Raises JobError for a file that cannot be read, or is of no known kind; ConfigError and RunError
    for values that are out of range.
    """
    content: dict[str, Any] = {}
    for path in paths:
        content |= read_mapping(path)
    if is_ours(content):
        return Job.parse(content), []
    if ai_toolkit.recognise(content):
        return ai_toolkit.convert(content)
    for trainer in TRAINERS:
        if trainer.recognise(content):
            return trainer.convert(content, paths[0])
    raise JobError(
        say(
            "{path} is neither ours (name, model, pairs, config) nor a file of ai-toolkit, "
            "musubi-tuner, kohya, kohya_ss, lora-scripts, FluxGym, diffusion-pipe, OneTrainer, "
            "SimpleTuner, T2ITrainer, DiffSynth-Studio or diffusers.",
            path=paths[0],
        )
    )


def grouped(paths: Sequence[Path]) -> list[list[Path]]:
    """The files of each job: two files are one job if one of them has only the pairs."""
    if len(paths) != 2:
        return [[path] for path in paths]
    only_pairs = [read_mapping(path).keys() <= kohya.PAIRS for path in paths]
    if only_pairs == [True, False]:
        paths = paths[::-1]  # the settings give the name
    return [list(paths)] if any(only_pairs) and not all(only_pairs) else [[p] for p in paths]


def is_ours(content: Mapping[str, Any]) -> bool:
    """Judged by its keys; some may be misspelt or missing, which `Job.parse` reports."""
    model = content.get("model")
    ours = isinstance(model, Mapping) and bool(model) and model.keys() <= MODEL_KEYS
    return "pairs" in content or content.keys() <= KEYS - {"config"} or ours or model == "demo"
