"""A comparison on disk: which picture is where, for the viewer and for votes by eye."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ...files import read_json, storing, understanding, write_atomically
from ...language import say
from ...trainer.runs.run import Run

KINDS = ("control", "base", "lora", "target")
LOOSE, LOOSE_FOLDER = ":loras", "kontext_comparisons"  # for LoRAs without a run: no run's name
IDENTITY = re.compile(r"[0-9a-f]{10}")


class ComparisonError(ValueError):
    """A comparison does not exist, or its picture cannot be shown."""


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
class ComparedRow:
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
    rows: tuple[ComparedRow, ...]
    cells: tuple[tuple[str | None, ...], ...]

    def __post_init__(self) -> None:
        """Raises ValueError unless this is a table of pictures: a manifest may be damaged."""
        texts = [self.title, self.legend, *(column.item for column in self.columns)]
        texts += [text for row in self.rows for text in (row.item, row.label, row.prompt)]
        texts += [cell for row in self.cells for cell in row if cell is not None]
        if not all(isinstance(text, str) for text in texts):
            raise ValueError(say("a number where text is expected"))
        if not {column.kind for column in self.columns} <= set(KINDS):
            raise ValueError(say("a column of an unknown kind"))
        if [len(row) for row in self.cells] != [len(self.columns)] * len(self.rows):
            raise ValueError(say("not as many pictures as rows and columns"))

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
        with storing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(asdict(self), ensure_ascii=False, indent=1)
        write_atomically(path, text.encode("utf-8", "surrogatepass"))
        return path

    @classmethod
    def read(cls, folder: Path, identity: str) -> Comparison:
        """Raises ComparisonError if there is none, DamagedFileError if it is damaged."""
        path = manifest_path(folder, identity)
        if not path.is_file():
            raise ComparisonError(
                say(
                    "There is no comparison '{name}' in {run}. Run Compare Checkpoints.",
                    name=identity,
                    run=folder.name,
                )
            )
        remedy = say("Run Compare Checkpoints again; its pictures are kept.")
        with understanding(path, remedy):
            content = read_json(path, {}, remedy)
            return cls(
                content["title"],
                content["legend"],
                tuple(Shown(**column) for column in content["columns"]),
                tuple(
                    ComparedRow(
                        **{**row, "details": tuple(row["details"]), "size": tuple(row["size"])}
                    )
                    for row in content["rows"]
                ),
                tuple(tuple(row) for row in content["cells"]),
            )

    def picture(self, folder: Path, row: int, column: int) -> Path:
        """The file of a cell. Raises ComparisonError for none, and for one outside `folder`."""
        if not (0 <= row < len(self.rows) and 0 <= column < len(self.columns)):
            raise ComparisonError(
                say("Row {row}, column {column} shows no picture.", row=row, column=column)
            )
        cell = self.cells[row][column]
        if cell is None:
            raise ComparisonError(
                say("Row {row}, column {column} shows no picture.", row=row, column=column)
            )
        path = inside(folder, folder / cell)
        if path.suffix != ".png" or not path.is_file():
            raise ComparisonError(
                say("The picture {name} is gone. Run Compare Checkpoints again.", name=cell)
            )
        return path


def folder_named(name: str, output: Path) -> Path:
    """The folder of a run, or with LOOSE that of comparisons without one, links followed.

    Raises RunError for an invalid run's name, and ComparisonError for a run that does not exist or
    is a link to somewhere else.
    """
    folder = output / LOOSE_FOLDER if name == LOOSE else Run(name, output).folder
    if not folder.is_dir() or folder.resolve().parent != folder.parent.resolve():
        raise ComparisonError(say("There is no training run '{name}'.", name=name))
    return folder.resolve()


def manifest_path(folder: Path, identity: str) -> Path:
    """The file of a comparison. Raises ComparisonError for an invalid id."""
    if not IDENTITY.fullmatch(identity):
        raise ComparisonError(
            say(
                "'{name}' is not the name of a comparison: these have ten digits and letters a-f.",
                name=identity,
            )
        )
    return inside(folder, folder / "comparisons" / f"{identity}.json")


def inside(folder: Path, path: Path) -> Path:
    """`path` with its links followed. Raises ComparisonError if it leads out of `folder` or cannot
    be a path."""
    try:
        real = path.resolve()
        inside = real.is_relative_to(folder.resolve())
        real.exists()  # raises where it is too long
    except (OSError, ValueError, RuntimeError):  # also a NUL, links in a circle
        inside = False
    if not inside:
        shown = str(path) if len(str(path)) < 200 else f"{str(path)[:200]}…"
        raise ComparisonError(say("{path} is not inside {folder}.", path=shown, folder=folder))
    return real


def digest_of(parts: Sequence[object]) -> str:
    """A short digest of `parts`."""
    text = json.dumps(list(parts), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:12]
