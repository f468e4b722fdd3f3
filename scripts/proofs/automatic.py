"""Measure what trying settings and ending in time are worth, against fixed settings.

    python scripts/proofs/automatic.py --comfyui PATH [--steps 2000] [--edits 5] [--seeds 3]

For each edit and seed, on the pictures of `verdicts.py`: a run of fixed settings (all steps,
learning rate 1e-4, cosine), and the automatic way: nine rates tried by successive halving, then a
run with the best, ended when it has levelled off, and the checkpoint with the lowest held-out loss.
The truth is the PSNR of pictures that nobody has seen. What is finished is kept: stop and start as
you like.
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

FIXED_RATE = 1e-4
RATES = [1e-4 * 2**power for power in range(-2, 7)]  # nine, from 2.5e-5 to 6.4e-3
CHECKPOINTS = 20  # in all steps


def measure(laboratory: Laboratory, edit: Any, seed: int, steps: int, full: bool) -> dict[str, Any]:
    """One case: the PSNR of both ways by step, and what the automatic way decided.

    With `full`, each of the nine rates is trained to the end as well, to know which is the best.
    """
    from kontext.evaluation.tries.report import result
    from kontext.evaluation.tries.search import plan
    from kontext.trainer.config import TrainConfig
    from kontext.trainer.loop import train
    from kontext.trainer.request import TrainingRequest

    folder = laboratory.out / "work" / f"{edit.name}_{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    pairs = laboratory.dataset(edit, Regime(steps, steps), seed, folder / "pairs")
    fresh = edited(edit, laboratory.pictures(seed, 0, FRESH), seed + 1000)
    config = TrainConfig(
        steps=steps, save_every=max(1, steps // CHECKPOINTS), keep=0, seed=seed, resolution=SIZE,
        preview_steps=0, learning_rate=FIXED_RATE,
    )  # fmt: skip
    request = TrainingRequest(laboratory.base, pairs, config, "fixed", folder, folder / "cache")

    def course(name: str, config: TrainConfig) -> tuple[Any, dict[int, float]]:
        run = train(replace(request, name=name, config=config))
        saved = run.checkpoints()
        base, *rows = laboratory.decibel(edit, saved, *fresh, seed=7)
        decibel = {each.step: float(np.mean(row)) for each, row in zip(saved, rows, strict=True)}
        return run, {0: float(np.mean(base)), **decibel}

    axes = "learning_rate: " + ", ".join(f"{rate:g}" for rate in RATES)
    search = plan("try", folder, pairs, config, axes, 0, False)
    search.run(lambda leg: train(replace(request, name=leg.name, config=leg.config)))
    tried = sum(len(list(search.run_of(place).lines)) for place in range(len(RATES)))
    rate = result(search).best.changes["learning_rate"]
    _, fixed = course("fixed", config)
    run, automatic = course("auto", config.replace(learning_rate=rate, stop="levelled_off"))
    found = {
        "edit": edit.name, "seed": seed, "steps": steps, "rate": rate, "tried": tried,
        "fixed": fixed, "automatic": automatic, "ended": run.last_step(), "kept": run.best().step,
    }  # fmt: skip
    if full:
        unended = (course(f"rate_{r:g}", config.replace(learning_rate=r))[1] for r in RATES)
        found["rates"] = {f"{r:g}": each for r, each in zip(RATES, unended, strict=True)}
    shutil.rmtree(folder)
    return found


def summary(case: dict[str, Any]) -> dict[str, float]:
    """The figures of a case. The best known run is the better of all that was trained."""
    fixed, automatic = (
        {int(step): value for step, value in case[way].items()} for way in ("fixed", "automatic")
    )
    others = [value for each in case.get("rates", {}).values() for value in each.values()]
    best = max([*fixed.values(), *automatic.values(), *others])
    figures = {
        "steps_fixed": reached(fixed, best - CLOSE),
        "steps_automatic": case["tried"] + reached(automatic, best - CLOSE),
        "gain": automatic[case["kept"]] - fixed[max(fixed)],
        "kept_short_of_best": max(automatic.values()) - automatic[case["kept"]],
        "all_steps": case["tried"] + case["ended"],
    }
    if "rates" in case:
        peaks = {float(rate): max(each.values()) for rate, each in case["rates"].items()}
        figures["rate_off_by"] = abs(np.log2(case["rate"] / max(peaks, key=peaks.__getitem__)))
    return figures


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
    parser.add_argument("--full", action="store_true", help="train all nine rates to the end too")
    options = parser.parse_args()
    (options.out / "runs").mkdir(parents=True, exist_ok=True)
    boot(options.comfyui, options.out / "host")
    laboratory = Laboratory(options.out)
    for seed in range(options.seeds):
        for edit in edits()[: options.edits]:
            path = options.out / "runs" / f"{edit.name}_{seed}_{options.steps}.json"
            if not path.exists():
                case = measure(laboratory, edit, seed, options.steps, options.full)
                path.write_text(json.dumps(case), encoding="utf-8")
            case = json.loads(path.read_text(encoding="utf-8"))
            print(path.stem, f"rate {case['rate']:g}", summary(case), flush=True)


if __name__ == "__main__":
    main()
