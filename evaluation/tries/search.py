"""The short runs themselves. Each is a run like any other; nothing is trained twice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from ...dataset.pair import PairedDataset
from ...language import say
from ...trainer.advice import seconds_per_step
from ...trainer.config import SETTINGS, ConfigError, TrainConfig
from ...trainer.loss.holdout import MOST_PAIRS
from ...trainer.optimizers import check_optimizer
from ...trainer.request import TrainingError
from ...trainer.runs.identity import RunError
from ...trainer.runs.run import DIVERGED, Run
from ...trainer.statistics import FEWEST_PAIRS
from .axes import Try, grid, read_axes
from .halving import best_first, cost, rounds, steps_of

PACE = 50  # last steps of a try whose seconds are looked at
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
        begun = [place for place in range(len(self.tries)) if self.run_of(place).exists()]
        for leg in [self.begun_leg(place) for place in begun]:
            run = Run(leg.name, self.output)
            as_now = run.config == leg.config.settled(1, False)
            if not (as_now and (run.folder / DIVERGED).exists()):
                self.train(leg, train)
        while legs := self.due():
            for leg in legs:
                self.train(leg, train)

    def begun_leg(self, place: int) -> Leg:
        """A try as far as it was planned before. Raises RunError if rounds were planned otherwise,
        with which its measurements cannot be compared."""
        before = self.run_of(place).config
        leg = self.leg(place, before.steps)
        known = [step for _, step in rounds(len(self.tries), self.steps)]
        if before.steps not in known or before.warmup_steps != leg.config.warmup_steps:
            raise RunError(
                say(
                    "The tries named '{name}' were begun with another number of values or steps, "
                    "or another warm-up. Go back to these, or choose another name.",
                    name=self.name,
                )
            )
        return leg

    def train(self, leg: Leg, train: Callable[[Leg], object]) -> None:
        try:
            train(leg)
        except TrainingError:
            # a try that diverged has said so in its folder, as one that others train
            if not (Run(leg.name, self.output).folder / DIVERGED).exists():
                raise


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

    `steps` are those of the longest tries, 0 for a tenth of the run's. Raises ConfigError, also
    for a try that could not be trained: now, not after those before it.
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
    counts = len(pairs.train), full_model, held_out
    planned = config.settled(*counts).steps
    tries = grid(config, read_axes(axes))
    for each in tries:
        check_optimizer(each.config.settled(*counts))
    steps = SETTINGS["steps"].read(steps)
    return Search(name, output, tries, steps or steps_of(planned), min(held_out, MOST_PAIRS))


def price(search: Search, full_model: bool) -> str:
    """What is still to be done, in steps and, as far as that can be known, in minutes."""
    count, steps = len(search.tries), search.steps
    done, pace = 0, []
    for place in range(count):
        entries = search.run_of(place).lines.tail(PACE)
        done += entries[-1]["step"] if entries else 0
        # seconds are counted anew whenever a run is continued
        spans = [after["seconds"] - before["seconds"] for before, after in pairwise(entries)]
        pace += [span for span in spans if span > 0]
    left = max(0, cost(count, steps) - done) if search.due() else 0
    words = say(
        "{count} tries of at most {steps} steps: {left:,} training steps to do.",
        count=count, steps=steps, left=left,
    )  # fmt: skip
    if pace and left:
        minutes = left * float(np.median(pace)) / 60
        return f"{words} " + say(
            "About {minutes:.0f} min, at the speed of the others.", minutes=minutes
        )
    if full_model and left:
        minutes = left * seconds_per_step(search.tries[0].config) / 60
        return f"{words} " + say("About {minutes:.0f} min on an RTX 4090.", minutes=minutes)
    return words
