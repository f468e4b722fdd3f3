"""What each LoRA costs to switch to: seconds and memory, measured while its pictures are made."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from .lines import append_line, read_lines


@dataclass(frozen=True)
class Cost:
    """Seconds to read the LoRA's file, to put it into the model, and for a picture; bytes.

    `apply` is what ComfyUI takes from the previous LoRA to being ready to sample with this one.
    `memory` is the most that tensors took on the graphics card; on a CPU the process's memory.
    """

    read: float
    apply: float
    picture: float
    memory: int


class Costs:
    """The latest cost of every LoRA and strength, kept beside the pictures in a file of lines."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "costs.jsonl"
        self._known: dict[tuple[str, float], Cost] = {}
        for entry in read_lines(self.path):
            key = entry.pop("lora"), entry.pop("strength")
            self._known[key] = Cost(**entry)

    def add(self, lora: str, strength: float, cost: Cost) -> None:
        self._known[lora, strength] = cost
        append_line(self.path, {"lora": lora, "strength": strength, **asdict(cost)})

    def get(self, lora: str, strength: float) -> Cost | None:
        """None where all its pictures were there before costs were measured."""
        return self._known.get((lora, strength))
