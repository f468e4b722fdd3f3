"""What is compared: test pictures and LoRA files, whoever made them."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path

import torch
import yaml
from PIL import Image

from ...dataset.geometry import bucket_size, crop_alike
from ...dataset.image import open_rgb
from ...dataset.pair import DatasetError, Pair, PairedDataset
from ...dataset.records import read_records
from ...files import understanding
from ...language import say
from ...trainer.data.pixels import image_of
from ...trainer.runs.run import Run
from .axes import choose_steps
from .samples import file_digest, picture_digest


@dataclass(frozen=True, eq=False)
class Subject:
    """A test picture: controls and, where it is known, the true result. `size` is the result's.

    `whole` are the controls as they came, for text encoders that see them.
    """

    name: str
    caption: str
    controls: tuple[Image.Image, ...]
    target: Image.Image | None
    size: tuple[int, int]
    whole: tuple[Image.Image, ...] = ()

    @cached_property
    def references(self) -> tuple[str, ...]:
        """Digests of the controls."""
        return tuple(picture_digest(control) for control in self.controls)


def subject_of_pair(
    pair: Pair, resolution: int, reference_resolution: int = 0, multiple: int = 16
) -> Subject:
    """The pair at the sizes it is trained at: see `TrainConfig` for the two resolutions."""
    target, whole = open_rgb(pair.target), tuple(map(open_rgb, pair.controls))
    size = _fitting(target, resolution, multiple)
    reference = size
    if reference_resolution:
        reference = bucket_size(*size, reference_resolution**2, multiple)
    sizes = [size, *(reference for _ in pair.controls)]
    target, *controls = crop_alike([target, *whole], sizes)
    held_out = pair.split == "holdout"
    name = pair.stem if held_out else say("{name} (trained on)", name=pair.stem)
    return Subject(name, pair.caption, tuple(controls), target, size, whole)


def subject_of_image(
    image: torch.Tensor, name: str, resolution: int, multiple: int = 16, caption: str = ""
) -> Subject:
    """A test picture without a known result. `image` is [1, H, W, 3] in 0..1."""
    picture = image_of(image)
    size = _fitting(picture, resolution, multiple)
    return Subject(name, caption, tuple(crop_alike([picture], [size])), None, size, (picture,))


def _fitting(picture: Image.Image, resolution: int, multiple: int) -> tuple[int, int]:
    """The picture's shape with at most the area of the resolution's square, never enlarged."""
    most = min(resolution**2, picture.width * picture.height)
    return bucket_size(*picture.size, most, multiple)


@dataclass(frozen=True)
class LoraFile:
    """A LoRA to try. `step` is 0 where the file does not tell."""

    label: str
    path: Path
    step: int = 0

    @cached_property
    def digest(self) -> str:
        return file_digest(self.path)


def loras_of_run(run: Run, steps: str = "") -> tuple[LoraFile, ...]:
    """The run's checkpoints that the axis text `steps` names, all when it is empty."""
    checkpoints = {checkpoint.step: checkpoint for checkpoint in run.checkpoints()}
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


def pairs_of_run(run: Run) -> PairedDataset:
    """The pairs that the run was trained with, captions and split as they were then.

    Raises DatasetError where they were not noted or have moved, DamagedFileError.
    """
    path, remedy = run.folder / "run.yaml", say("Connect `pairs` instead.")
    with understanding(path, remedy):
        source = yaml.safe_load(path.read_text(encoding="utf-8")).get("pairs")
        noted = isinstance(source, dict) and "file" in source
        file, folder = (source["file"], Path(source["folder"])) if noted else ("", Path())
    if not noted:
        raise DatasetError(
            say("Run '{run}' has not noted its pairs: connect `pairs`.", run=run.name)
        )
    return PairedDataset(read_records(run.folder / file, folder))


def instruction_of(pairs: PairedDataset) -> str:
    """The caption that most of the training pairs have."""
    return Counter(pair.caption for pair in pairs.train).most_common(1)[0][0] if pairs.train else ""


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
