"""The short runs themselves. Each is a run like any other; nothing is trained twice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...dataset.pair import PairedDataset
from ...files import write_atomically
from ...language import say
from ...trainer.advice import seconds_per_step
from ...trainer.config import ConfigError, TrainConfig
from ...trainer.loss.holdout import MOST_PAIRS
from ...trainer.request import TrainingError
from ...trainer.runs.run import Run
from ...trainer.statistics import FEWEST_PAIRS
from .axes import Try, grid, read_axes
from .halving import best_first, cost, rounds, steps_of

DIVERGED = "diverged.txt"  # in the folder of a try that diverged, with the reason
Shares = dict[int, list[float]]  # by try: each pair's loss as a share of its base loss


@dataclass(frozen=True)
class Leg:
    """A try to train up to a step: the run's name and settings."""

    label: str
    step: int
    name: str
    config: TrainConfig


@dataclass(frozen=True)
class Search:
    """Tries for a run of this name, `steps` long at most, compared on `held_out` pairs.

    Everything follows from the runs on disk, below `output`.
    """

    name: str
    output: Path
    tries: Sequence[Try]
    steps: int
    held_out: int

    def run_of(self, place: int) -> Run:
        return Run(f"{self.name}_{self.tries[place].suffix}", self.output)

    def leg(self, place: int, step: int) -> Leg:
        """The run of a try, up to this step. Longer ones continue it, bit for bit."""
        config = short(self.tries[place].config, step, rounds(len(self.tries), self.steps)[0][1])
        return Leg(self.tries[place].label, step, self.run_of(place).name, config)

    def measured(self, place: int, step: int) -> list[float] | None:
        """Each held-out pair's loss after `step` steps as a share of its base loss; None before
        that, infinite for a try that diverged."""
        run = self.run_of(place)
        if not run.exists():
            return None
        for entry in run.lines:
            if entry["step"] == step and entry.get("holdout"):
                return np.divide(entry["holdout"], entry["holdout_base"]).tolist()
        if (run.folder / DIVERGED).exists():
            return [float("inf")] * self.held_out
        return None

    def table(self) -> list[Shares]:
        """The measurements of each round; in the last one, some tries or all may be missing."""
        known: list[Shares] = []
        places = list(range(len(self.tries)))
        for size, step in rounds(len(self.tries), self.steps):
            places = sorted(places[:size])
            found = {place: self.measured(place, step) for place in places}
            known.append({place: shares for place, shares in found.items() if shares})
            if len(known[-1]) < len(places):
                break
            places = best_first(known[-1])
        return known

    def due(self) -> list[Leg]:
        """The tries of the current round that are not yet trained; empty when all is done."""
        known, planned = self.table(), rounds(len(self.tries), self.steps)
        size, step = planned[len(known) - 1]
        places = best_first(known[-2])[:size] if len(known) > 1 else range(size)
        return [self.leg(place, step) for place in sorted(places) if place not in known[-1]]

    def run(self, train: Callable[[Leg], object]) -> None:
        """Train what is missing. A try that diverges is out; Cancel loses nothing.

        Raises RunError if a run with a try's name was made from something else.
        """
        for place in range(len(self.tries)):
            run = self.run_of(place)
            if run.exists() and not (run.folder / DIVERGED).exists():
                self.train(self.leg(place, run.config.steps), train)
        while legs := self.due():
            for leg in legs:
                self.train(leg, train)

    def train(self, leg: Leg, train: Callable[[Leg], object]) -> None:
        try:
            train(leg)
        except TrainingError as error:
            folder = Run(leg.name, self.output).folder
            write_atomically(folder / DIVERGED, str(error).encode())


def short(config: TrainConfig, steps: int, first: int) -> TrainConfig:
    """The settings of a short run: a constant rate, so that it can be continued, and few files."""
    return config.replace(
        steps=steps, save_every=steps, keep=1, schedule="constant", stop="last_step",
        warmup_steps=min(config.warmup_steps, first // 10), choose="off", preview_steps=0,
    )  # fmt: skip


def plan(
    name: str,
    output: Path,
    pairs: PairedDataset,
    config: TrainConfig,
    axes: str,
    steps: int,
    full_model: bool,
) -> Search:
    """The search for a run with `config` but for what is tried: `axes` as `read_axes` has them.

    `steps` are those of the longest tries, 0 for a tenth of the run's. Raises ConfigError.
    """
    held_out = len(pairs.holdout)
    if held_out < FEWEST_PAIRS:
        raise ConfigError(
            say(
                "Comparing tries needs at least {least} held-out pairs, but there are {count}. "
                "Raise `holdout`.",
                least=FEWEST_PAIRS, count=held_out,
            )
        )  # fmt: skip
    planned = config.settled(len(pairs.train), full_model, held_out).steps
    tries = grid(config, read_axes(axes))
    return Search(name, output, tries, steps or steps_of(planned), min(held_out, MOST_PAIRS))


def price(search: Search, full_model: bool) -> str:
    """What is still to be done, in steps and, as far as that can be known, in minutes."""
    count, steps = len(search.tries), search.steps
    done, pace = 0, []
    for place in range(count):
        for last in list(search.run_of(place).lines)[-1:]:
            done += last["step"]
            pace.append(last["seconds"] / last["step"])
    left = max(0, cost(count, steps) - done)
    words = say(
        "{count} tries of at most {steps} steps: {left:,} training steps to do.",
        count=count, steps=steps, left=left,
    )  # fmt: skip
    if pace and left:
        minutes = left * sum(pace) / len(pace) / 60
        return f"{words} " + say(
            "About {minutes:.0f} min, at the speed of the others.", minutes=minutes
        )
    if full_model and left:
        minutes = left * seconds_per_step(search.tries[0].config) / 60
        return f"{words} " + say("About {minutes:.0f} min on an RTX 4090.", minutes=minutes)
    return words
