"""Generated pictures on disk: one PNG per cell, named by everything that determines it."""

import hashlib
import json
import logging
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image, PngImagePlugin

from ...dataset.image import picture_text
from ...files import storing, write_picture
from ...trainer.data.subject import picture_digest
from ...values import read_json

PNG_END = b"IEND\xaeB`\x82"


@dataclass(frozen=True)
class Cell:
    """Everything that a generated picture depends on: equal cells are equal pictures.

    `base`, `lora` and `references` are digests of contents, `lora` empty for the base model alone.
    """

    base: str
    lora: str
    strength: float
    prompt: str
    references: tuple[str, ...]
    width: int
    height: int
    seed: int
    steps: int
    guidance: float

    def key(self) -> str:
        text = json.dumps(asdict(self), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


class Samples:
    """The cells kept in one folder. Opening it reads file names only."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._paths = {path.stem[-16:]: path for path in folder.glob("*.png")}

    def __contains__(self, cell: Cell) -> bool:
        """Whether the picture exists and is whole: one that was cut off is made again."""
        path = self._paths.get(cell.key())
        return path is not None and is_whole(path)

    def __getitem__(self, cell: Cell) -> Path:
        return self._paths[cell.key()]

    def save(
        self, cell: Cell, image: Image.Image, label: str, graph: Mapping[str, object] | None = None
    ) -> Path:
        """Write the picture with its settings, and ComfyUI's graph, as PNG texts; atomically.

        `label` starts the file name, for people who browse the folder. Raises StorageError.
        """
        texts = PngImagePlugin.PngInfo()
        settings = {"label": label, **asdict(cell)}
        for name, value in {"kontext": settings, **(graph or {})}.items():
            texts.add_text(name, json.dumps(value, ensure_ascii=False))
        path = self.folder / f"{file_name(label)}-{cell.key()}.png"
        with storing(path):
            self.folder.mkdir(parents=True, exist_ok=True)
        write_picture(path, image, pnginfo=texts, compress_level=4)
        self._paths[cell.key()] = path
        return path

    def save_source(self, image: Image.Image) -> Path:
        """Write a control or target as it was compared, once; named by its pixels."""
        path = self.folder / "sources" / f"{picture_digest(image)}.png"
        if not is_whole(path):
            with storing(path):
                path.parent.mkdir(parents=True, exist_ok=True)
            write_picture(path, image, compress_level=4)
        return path


def is_whole(path: Path) -> bool:
    """Whether a file exists and ends as a PNG does."""
    if not path.is_file() or path.stat().st_size < len(PNG_END):
        return False
    with path.open("rb") as file:
        file.seek(-len(PNG_END), 2)
        return file.read() == PNG_END


def noted_in(path: Path, name: str) -> dict[str, Any]:
    """The settings stored in a PNG under a name; empty for a foreign picture, or a damaged one,
    which is logged."""
    try:
        noted = read_json(picture_text(path, name) or "{}")
    except ValueError as error:
        logging.warning("%s cannot be read and is left out (%s).", path, error)
        return {}
    return noted if isinstance(noted, dict) else {}


def file_name(text: str, limit: int = 80) -> str:
    """`text` as part of a file name: letters of any script, digits, dots; at most `limit` long."""
    return re.sub(r"[^\w.]+", "-", text).strip("-.")[:limit] or "cell"


def file_digest(path: Path) -> str:
    """A digest of a file's contents."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()[:16]
