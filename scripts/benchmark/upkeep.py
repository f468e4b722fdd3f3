"""What logging, saving, validating and showing a sample cost a run at its default settings.

    python scripts/benchmark/upkeep.py [--steps 500] [--rounds 3]

Trains the demo model on the shipped pairs, in turn with all of it and with none, and takes the
processor's time in the training loops, which a busy machine changes little; waiting for the disk is
given apart. `COMFYUI_PATH` names ComfyUI's folder.
"""

# ruff: noqa: E402, F401, I001  the imports below need ComfyUI to have been found first

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
sys.argv, arguments = sys.argv[:1], sys.argv[1:]

import tests.conftest  # imports ComfyUI and the pack as `kontext`
import torch
from kontext.dataset.load import PairSource, load_pairs
from kontext.dataset.pair import PairedDataset
from kontext.evaluation.progress.follow import Follower
from kontext.trainer.host.demo import load_demo_model
from kontext.trainer import loop
from kontext.trainer.config import TrainConfig
from kontext.trainer.host import Base
from kontext.trainer.request import TrainingRequest
from kontext.trainer.saving import Saving
from kontext.trainer.session import Session
from kontext.trainer.watcher import Journal

PARTS = (
    "add",
    "validate",
    "save",
    "preview",
    "saved",
)  # the first: the log; the last: table and page of the run
INSTRUCTION = "Restore this old print: fresh, natural colours."


@contextmanager
def clocked(owner: Any, name: str, spent: dict[str, float]) -> Iterator[None]:
    """Add up the processor's seconds that a method takes, and those of the clock on the wall."""
    real: Callable[..., Any] = getattr(owner, name)

    def timed(*arguments: Any, **options: Any) -> Any:
        started, wall = time.process_time(), time.perf_counter()
        try:
            return real(*arguments, **options)
        finally:
            spent[name] += time.process_time() - started
            spent[f"{name} wall"] += time.perf_counter() - wall

    with patch.object(owner, name, timed):
        yield


def save_nothing(saving: Saving, done: int) -> None:
    saving.saved = done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(arguments)
    base = Base(*load_demo_model())
    kept: dict[str, float] = defaultdict(float)
    bare: dict[str, float] = defaultdict(float)
    with tempfile.TemporaryDirectory() as scratch, torch.inference_mode():
        folder = Path(scratch)
        source = PairSource("before", "after", base=ROOT / "sample_pairs", scratch=folder)
        pairs = load_pairs(source, INSTRUCTION, 0.2, folder / "hashes.json").dataset
        config = TrainConfig(steps=options.steps, resolution=128)
        places = folder / "output", folder / "cache"
        for number in range(options.rounds):
            with clocked(loop, "fit", kept):
                watcher = Follower(pairs, None)
                with (
                    clocked(Follower, "saved", kept),
                    clocked(Journal, "add", kept),
                    clocked(Session, "validate", kept),
                    clocked(Saving, "save", kept),
                    clocked(Session, "preview", kept),
                ):
                    name = f"kept{number}"
                    request = TrainingRequest(base, pairs, config, name, *places, watcher=watcher)
                    loop.train(request)
            with (
                clocked(loop, "fit", bare),
                patch.object(Saving, "save", save_nothing),
                patch.object(Journal, "add", lambda journal, entry: None),
            ):
                alone = PairedDataset(pairs.train)
                plain = config.replace(preview_steps=0)
                loop.train(TrainingRequest(base, alone, plain, f"bare{number}", *places))
    steps = options.steps * options.rounds
    print(f"{len(pairs.train)} pairs, {len(pairs.holdout)} held out, {steps} steps each way")
    print(f"with {kept['fit'] / steps:.4f} s a step, without {bare['fit'] / steps:.4f}")
    print(f"ratio {kept['fit'] / bare['fit']:.3f}")
    for part in PARTS:
        share = 100 * kept[part] / kept["fit"]
        print(f"{part}: {share:.2f} % of the run, {kept[f'{part} wall']:.2f} s on the wall")


if __name__ == "__main__":
    main()
