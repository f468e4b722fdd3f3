"""LoRA files to try, from this trainer or any other."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path

from ...language import say
from ...trainer.runs.run import Run
from .axes import choose_steps
from .samples import file_digest


@dataclass(frozen=True)
class LoraFile:
    """A LoRA to try. `step` is 0 if it is unknown."""

    label: str
    path: Path
    step: int = 0

    @cached_property
    def digest(self) -> str:
        return file_digest(self.path)


def loras_of_run(run: Run, steps: str = "") -> tuple[LoraFile, ...]:
    """The run's checkpoints that the axis text `steps` names, all when it is empty."""
    checkpoints = {each.step: each for each in run.checkpoints() if each.is_intact}
    if not checkpoints:
        raise ValueError(
            say(
                "Run '{run}' has no checkpoints yet ({folder}). Train it first.",
                run=run.name,
                folder=run.folder,
            )
        )
    chosen = choose_steps(steps, sorted(checkpoints))
    return tuple(
        LoraFile(say("step {step}", step=step), checkpoints[step].path, step) for step in chosen
    )


def loras_of_files(paths: Sequence[Path]) -> tuple[LoraFile, ...]:
    """LoRA files of any trainer, in the order of the step or epoch at the end of their names.

    One without a number comes last: trainers leave it off the finished LoRA.
    """
    files = []
    for path in paths:
        number = re.search(r"(\d+)$", path.stem)
        files.append(LoraFile(path.stem, path, int(number[1]) if number else 0))
    return tuple(sorted(files, key=lambda file: (not file.step, file.step)))


def match_names(text: str, available: Sequence[str]) -> tuple[str, ...]:
    """LoRA names, a line each, among ComfyUI's: a full name, a folder, or a pattern with `*`.

    Raises ValueError naming the line that matches nothing.
    """
    names: dict[str, None] = {}
    plain = {name.replace("\\", "/"): name for name in available}
    for line in filter(None, (line.strip().replace("\\", "/") for line in text.splitlines())):
        folder = line.rstrip("/") + "/"
        found = [
            original
            for name, original in plain.items()
            if fnmatchcase(name, line) or name.startswith(folder) or name.rsplit(".", 1)[0] == line
        ]
        if not found:
            raise ValueError(
                say(
                    "No LoRA is called '{name}' in ComfyUI's LoRA folders. Write its name as the "
                    "LoRA loader lists it, a folder, or a pattern such as my_run/*.",
                    name=line,
                )
            )
        names.update(dict.fromkeys(found))
    return tuple(names)
