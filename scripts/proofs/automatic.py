"""Measure what trying settings and ending in time are worth, against fixed settings.

    python scripts/proofs/automatic.py --comfyui PATH [--steps 2000] [--edits 5] [--seeds 3]
    python scripts/proofs/automatic.py --comfyui PATH --rates [--steps 300]

For each edit and seed, on the pictures of `verdicts.py`: a run of fixed settings (all steps,
learning rate 1e-4, cosine), and the automatic way: nine rates tried by successive halving, then a
run with the best, ended when it has levelled off, and the checkpoint that `choose` marks. A third
run goes on with that rate to the last step, to know what was missed. With `--rates`: all nine rates
to the last step, to know whether the best was chosen. The truth is the PSNR of pictures that nobody
has seen. What is finished is kept in docs/proofs/cases: stop and start as you like.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # scripts/
sys.path.insert(0, str(Path(__file__).resolve().parent))

from verdicts import CLOSE, FRESH, SIZE, Laboratory, Regime, edited, edits

from boot import ROOT, boot

CASES = ROOT / "docs" / "proofs" / "cases" / "automatic"  # what is finished
FIXED_RATE = 1e-4
RATES = [1e-4 * 2**power for power in range(-2, 7)]  # nine, from 2.5e-5 to 6.4e-3
CHECKPOINTS = 20  # in all steps


class Case:
    """An edit and a seed: each part of what is found is worked out once, and kept in a file."""

    def __init__(self, laboratory: Laboratory, edit: Any, seed: int, steps: int) -> None:
        from kontext.trainer.config import TrainConfig
        from kontext.trainer.request import TrainingRequest

        self.laboratory, self.edit, self.seed, self.steps = laboratory, edit, seed, steps
        self.path = CASES / f"{edit.name}_{seed}_{steps}.json"
        self.found = json.loads(self.path.read_text("utf-8")) if self.path.exists() else {}
        self.folder = laboratory.out / "work" / self.path.stem
        shutil.rmtree(self.folder, ignore_errors=True)
        self.pairs = laboratory.dataset(edit, Regime(steps, steps), seed, self.folder / "pairs")
        self.config = TrainConfig(
            steps=steps, save_every=max(1, steps // CHECKPOINTS), keep=0, seed=seed,
            resolution=SIZE, preview_steps=0, learning_rate=FIXED_RATE,
        )  # fmt: skip
        places = self.folder, self.folder / "cache"
        self.request = TrainingRequest(laboratory.base, self.pairs, self.config, "fixed", *places)

    def keep(self, **parts: Any) -> None:
        self.found |= parts
        self.path.write_text(json.dumps(self.found), encoding="utf-8")

    def course(self, name: str, **changes: Any) -> tuple[Any, dict[str, float]]:
        """A run with some settings changed, and the PSNR of its checkpoints by step."""
        from kontext.trainer.loop import train

        run = train(replace(self.request, name=name, config=self.config.replace(**changes)))
        fresh = edited(self.edit, self.laboratory.pictures(self.seed, 0, FRESH), self.seed + 1000)
        saved = run.checkpoints()
        base, *rows = self.laboratory.decibel(self.edit, saved, *fresh, seed=7)
        decibel = {str(one.step): float(np.mean(row)) for one, row in zip(saved, rows, strict=True)}
        return run, {"0": float(np.mean(base)), **decibel}

    def choose_rate(self) -> None:
        """Nine rates by successive halving."""
        from kontext.evaluation.tries.report import result
        from kontext.evaluation.tries.search import plan
        from kontext.trainer.loop import train

        axes = "learning_rate: " + ", ".join(f"{rate:g}" for rate in RATES)
        search = plan("try", self.folder, self.pairs, self.config, axes, 0, False)
        search.run(lambda leg: train(replace(self.request, name=leg.name, config=leg.config)))
        tried = sum(len(list(search.run_of(place).lines)) for place in range(len(RATES)))
        self.keep(rate=result(search).best.changes["learning_rate"], tried=tried)

    def end_in_time(self) -> None:
        """A run with the chosen rate, ended when it has levelled off, and what `choose` marks."""
        from kontext.evaluation.score.conclude import conclude

        how = {"learning_rate": self.found["rate"], "stop": "levelled_off", "choose": "mark"}
        run, decibel = self.course("automatic", **how)
        found = conclude(replace(self.request, name="automatic", config=run.config), run)
        marked = found.step if found else None
        self.keep(automatic=decibel, ended=run.last_step(), marked=marked, lowest=run.best().step)

    def run(self, rates: bool) -> None:
        if "rate" not in self.found:
            self.choose_rate()
        if rates:
            every = {"save_every": max(1, self.steps // 4)}
            for rate in RATES:
                name = course_at(rate, self.found)
                if name not in self.found:
                    course = self.course(f"rate_{rate:g}", learning_rate=rate, **every)[1]
                    self.keep(**{name: course})
            shutil.rmtree(self.folder)
            return
        if "fixed" not in self.found:
            self.keep(fixed=self.course("fixed")[1])
        if "automatic" not in self.found:
            self.end_in_time()
        if "whole" not in self.found:
            self.keep(whole=self.course("whole", learning_rate=self.found["rate"])[1])
        shutil.rmtree(self.folder)


def course_at(rate: float, found: dict[str, Any]) -> str:
    """The name of the full-length run at a rate: two of nine are trained without `--rates`."""
    known = {FIXED_RATE: "fixed", found["rate"]: "whole"}
    return known[rate] if known.get(rate) in found else f"at {rate:g}"


def peaks(found: dict[str, Any]) -> dict[str, float]:
    """The best of the quarters of every rate's run, in decibel."""
    courses = {rate: found[course_at(rate, found)] for rate in RATES}
    quarters = set.intersection(*map(set, courses.values())) - {"0"}
    return {f"{rate:g}": max(course[step] for step in quarters) for rate, course in courses.items()}


def summary(found: dict[str, Any]) -> dict[str, float]:
    """The figures of a case. The best known run is the best of all that was trained."""
    fixed, automatic, whole = (
        {int(step): value for step, value in found[way].items()}
        for way in ("fixed", "automatic", "whole")
    )
    best = max([*fixed.values(), *automatic.values(), *whole.values()])
    kept = automatic[found["marked"] or found["ended"]]
    return {
        "steps_fixed": reached(fixed, best - CLOSE),
        "steps_automatic": found["tried"] + reached(automatic, best - CLOSE),
        "gain": kept - fixed[max(fixed)],
        "kept_short_of_whole": max(whole.values()) - kept,
        "lowest_loss_short_of_whole": max(whole.values()) - automatic[found["lowest"]],
        "all_steps": found["tried"] + found["ended"],
    }


def reached(course: dict[int, float], goal: float) -> float:
    """The first step at which the goal is reached; infinite where it is not."""
    return min((step for step, value in course.items() if value >= goal), default=float("inf"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--comfyui", type=Path, default=os.environ.get("COMFYUI_PATH"))
    parser.add_argument("--out", type=Path, default=ROOT / ".demo-training" / "automatic")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--edits", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rates", action="store_true", help="train all nine rates to the end")
    options = parser.parse_args()
    CASES.mkdir(parents=True, exist_ok=True)
    boot(options.comfyui, options.out / "host")
    laboratory = Laboratory(options.out)
    for seed in range(options.seeds):
        for edit in edits()[: options.edits]:
            case = Case(laboratory, edit, seed, options.steps)
            case.run(options.rates)
            found = (peaks if options.rates else summary)(case.found)
            print(case.path.stem, f"rate {case.found['rate']:g}", found, flush=True)


if __name__ == "__main__":
    main()
