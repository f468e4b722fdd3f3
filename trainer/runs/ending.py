"""A run's end before its last planned step: where, why, and for which settings."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...files import read_json, storing, understanding, write_atomically
from ...language import say
from ..config import CHANGEABLE_UNFINISHED, TrainConfig

REASONS: dict[str, Callable[..., str]] = {
    "levelled_off": lambda **n: say(
        "Levelled off: the last third of the measurements added only {late}% of the gain on "
        "held-out pairs ({change}% against the base). Ends at step {step} instead of {steps}.",
        **n,
    ),
    "past_best": lambda **n: say(
        "Past its best: the held-out loss has risen by {rise}% of the base's since step {best}. "
        "Ends at step {step} instead of {steps}.",
        **n,
    ),
}


@dataclass(frozen=True)
class Ending:
    """Decided after `decided` steps: the run ends at `step`; until then the learning rate falls.

    `why` is a key of REASONS, `numbers` fill its sentence. `settings` are those it was decided for;
    with others the run continues to its planned end.
    """

    decided: int
    step: int
    why: str
    numbers: Mapping[str, float]
    settings: Mapping[str, Any]

    @property
    def text(self) -> str:
        """In the user's language."""
        return REASONS[self.why](step=self.step, steps=self.settings["steps"], **self.numbers)

    def holds_for(self, config: TrainConfig) -> bool:
        return all(getattr(config, name) == value for name, value in self.settings.items())

    def factor(self, step: int) -> float:
        """The factor of the learning rate of step `decided`: from 1 there to 0 at the end."""
        return (self.step - step) / (self.step - self.decided)


def plan_of(config: TrainConfig) -> dict[str, Any]:
    """The settings that an ending is decided for."""
    return {name: getattr(config, name) for name in sorted({*CHANGEABLE_UNFINISHED, "stop"})}


def ending_file(folder: Path) -> Path:
    return folder / "ending.json"


def ending_of(folder: Path) -> Ending | None:
    """The early end of the run in this folder; None if it goes to its last planned step.

    Raises DamagedFileError.
    """
    path = ending_file(folder)
    remedy = say("Delete it: the run then continues to its last planned step.")
    with understanding(path, remedy):
        content = read_json(path, {}, remedy)
        return Ending(**content) if content else None


def write_ending(folder: Path, ending: Ending | None) -> None:
    """Save the ending in a run's folder, or delete it for None. Raises StorageError."""
    path = ending_file(folder)
    if ending is None:
        with storing(path):
            path.unlink(missing_ok=True)
    else:
        text = json.dumps(asdict(ending), ensure_ascii=False, indent=1)
        write_atomically(path, text.encode())
