"""A comparison on disk: which picture stands where, for the viewer and for votes by eye."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...files import write_atomically
from ...trainer.runs.run import Run

KINDS = ("control", "base", "lora", "target")
LOOSE, LOOSE_FOLDER = ":loras", "kontext_comparisons"  # of LoRAs without a run; no run's name
IDENTITY = re.compile(r"[0-9a-f]{10}")


class ComparisonError(ValueError):
    """There is no such comparison, or none of its pictures can be shown."""


@dataclass(frozen=True)
class Shown:
    """A column. `item` names what is compared by its content, whatever it is called.

    `cost` is a `Cost` as a dictionary, None where it was not measured; `file` the LoRA's name.
    """

    kind: str
    item: str
    label: str
    file: str = ""
    step: int = 0
    strength: float = 0.0
    cost: Mapping[str, float] | None = None


@dataclass(frozen=True)
class Tried:
    """A row: a test picture and how it was edited. `item` names all of it by its content."""

    item: str
    label: str
    details: tuple[str, ...]
    prompt: str
    size: tuple[int, int]


@dataclass(frozen=True)
class Comparison:
    """What the viewer shows. `cells[row][column]` are paths below the run's folder, or None."""

    title: str
    legend: str
    columns: tuple[Shown, ...]
    rows: tuple[Tried, ...]
    cells: tuple[tuple[str | None, ...], ...]

    @property
    def id(self) -> str:
        """The same for the same pictures under the same names; costs do not count."""
        names = [column.label for column in self.columns], [row.label for row in self.rows]
        text = json.dumps([self.title, self.legend, *names, self.cells], ensure_ascii=False)
        return hashlib.sha256(text.encode("utf-8")).hexdigest()[:10]

    @property
    def contestants(self) -> list[str]:
        """The items that are voted on: what a model made. Two files of one content are one."""
        made = (column.item for column in self.columns if column.kind in ("base", "lora"))
        return list(dict.fromkeys(made))

    def write(self, folder: Path) -> Path:
        """Into `comparisons` of a run's folder, under its id."""
        path = manifest_path(folder, self.id)
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(asdict(self), ensure_ascii=False, indent=1)
        write_atomically(path, text.encode("utf-8"))
        return path

    @classmethod
    def read(cls, folder: Path, identity: str) -> Comparison:
        path = manifest_path(folder, identity)
        if not path.is_file():
            raise ComparisonError(
                f"There is no comparison '{identity}' in {folder.name}. Run Compare Checkpoints."
            )
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return cls(
            content["title"],
            content["legend"],
            tuple(Shown(**column) for column in content["columns"]),
            tuple(
                Tried(**{**row, "details": tuple(row["details"]), "size": tuple(row["size"])})
                for row in content["rows"]
            ),
            tuple(tuple(row) for row in content["cells"]),
        )

    def picture(self, folder: Path, row: int, column: int) -> Path:
        """The file of a cell. Raises ComparisonError for none, and for one outside `folder`."""
        if not (0 <= row < len(self.rows) and 0 <= column < len(self.columns)):
            raise ComparisonError(f"There is no cell in row {row}, column {column}.")
        cell = self.cells[row][column]
        if cell is None:
            raise ComparisonError(f"Row {row}, column {column} shows no picture.")
        path = inside(folder, folder / cell)
        if path.suffix != ".png" or not path.is_file():
            raise ComparisonError(f"The picture {cell} is gone. Run Compare Checkpoints again.")
        return path


def folder_named(name: str, output: Path) -> Path:
    """The folder of a run, or with LOOSE that of comparisons without one, links followed.

    Raises RunError for what cannot be a run's name, and ComparisonError for a run that is not
    there or a link to somewhere else.
    """
    folder = output / LOOSE_FOLDER if name == LOOSE else Run(name, output).folder
    if not folder.is_dir() or folder.resolve().parent != folder.parent.resolve():
        raise ComparisonError(f"There is no training run {name!r}.")
    return folder.resolve()


def manifest_path(folder: Path, identity: str) -> Path:
    """Where a comparison is kept. Raises ComparisonError for what cannot be an id."""
    if not IDENTITY.fullmatch(identity):
        raise ComparisonError(f"{identity!r} is no comparison's name: ten digits and letters a-f.")
    return inside(folder, folder / "comparisons" / f"{identity}.json")


def inside(folder: Path, path: Path) -> Path:
    """`path` with its links followed. Raises ComparisonError where it leads out of `folder`."""
    real = path.resolve()
    if not real.is_relative_to(folder.resolve()):
        raise ComparisonError(f"{path} is not inside {folder}.")
    return real


def digest_of(parts: Sequence[object]) -> str:
    """A short name for what `parts` say."""
    text = json.dumps(list(parts), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:12]
