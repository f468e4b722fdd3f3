"""The cost of switching to each LoRA: seconds and memory, measured while its pictures are made."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ...lines import Lines


@dataclass(frozen=True)
class Cost:
    """Seconds to read the LoRA's file, to apply it, and per picture; memory in bytes.

    `apply` is the time that ComfyUI needs to switch from the previous LoRA to this one. `memory` is
    the peak of tensors on the graphics card; on a CPU, the memory of the process.
    """

    read: float
    apply: float
    picture: float
    memory: int


class Costs:
    """The latest cost of every LoRA and strength, kept in a file beside the pictures."""

    def __init__(self, folder: Path) -> None:
        self.lines = Lines(folder / "costs.jsonl", known_cost)
        self._known = dict(self.lines)

    def add(self, lora: str, strength: float, cost: Cost) -> None:
        self._known[lora, strength] = cost
        self.lines.path.parent.mkdir(parents=True, exist_ok=True)
        self.lines.append({"lora": lora, "strength": strength, **asdict(cost)})

    def get(self, lora: str, strength: float) -> Cost | None:
        """The latest cost; None if all its pictures were made before costs were measured."""
        return self._known.get((lora, strength))


def known_cost(entry: dict[str, Any]) -> tuple[tuple[str, float], Cost]:
    """LoRA with strength, and its cost, of a line."""
    numbers = {each.name: float(entry[each.name]) for each in fields(Cost)}
    memory = int(numbers.pop("memory"))
    return (str(entry["lora"]), float(entry["strength"])), Cost(**numbers, memory=memory)
