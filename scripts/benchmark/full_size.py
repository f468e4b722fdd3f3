"""One training at full size, from files as users download them to a LoRA read back, measured.

    python scripts/benchmark/full_size.py klein                        on a CPU, 256 px
    python scripts/benchmark/full_size.py kontext --device cuda --resolution 1024 --steps 20

Random weights, made once in `--folder` (13 GB, kontext 17, qwen 30) and left there. Trains by what
the terminal's `train` calls. Prints seconds and memory beside the plan's prediction, and writes
them to full_size.json. On a CPU a model's file is mapped: it takes no memory of its own, and what
the process takes beside it is what is compared. `COMFYUI_PATH` names ComfyUI's folder.
"""

# ruff: noqa: E402  the pack can be imported once ComfyUI has been found

from __future__ import annotations

import argparse
import ctypes
import importlib
import json
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import psutil
import torch
from PIL import Image
from torch.optim.optimizer import register_optimizer_step_post_hook

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # scripts/

from boot import ROOT, boot

GB = 10**9
CAPTION = "Make the sky darker and remove the small red mark from the wall."
M_MMAP_THRESHOLD = -3  # of malloc.h


class Course:
    """Seconds and memory at the marks of a run, and the most that the process took itself.

    Memory of its own is what is not mapped from files.
    """

    def __init__(self) -> None:
        self.started = self.before = time.perf_counter()
        self.marks: list[dict[str, Any]] = []
        self.most = 0
        self.ended = threading.Event()

    def mark(self, name: str) -> None:
        now, (own, mapped) = time.perf_counter(), memory_of_process()
        seconds, self.before = now - self.before, now
        entry = {"part": name, "seconds": round(seconds, 1), "own": own, "mapped": mapped}
        self.marks.append({**entry, "most_own": max(own, self.most)})
        self.most = 0
        print(
            f"{name:24} {seconds:7.1f} s   own {own / GB:5.2f} GB, at most "
            f"{self.marks[-1]['most_own'] / GB:5.2f}; mapped {mapped / GB:5.2f}",
            flush=True,
        )

    def watch(self) -> None:
        while not self.ended.wait(0.2):
            self.most = max(self.most, memory_of_process()[0])

    @contextmanager
    def watched(self) -> Iterator[None]:
        threading.Thread(target=self.watch, daemon=True).start()
        try:
            yield
        finally:
            self.ended.set()


def memory_of_process() -> tuple[int, int]:
    """Resident bytes of its own, and those mapped from files (0 where the system doesn't say)."""
    memory = psutil.Process().memory_info()
    mapped = getattr(memory, "shared", 0)
    return memory.rss - mapped, mapped


def give_back_freed_memory() -> None:
    """glibc keeps what is freed below a threshold that grows with use: activations, all of them."""
    if sys.platform == "linux":
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 1_000_000)


def write_pictures(folder: Path, side: int, count: int = 2) -> None:
    """Pairs of pictures of coarse random colours."""
    generator = np.random.default_rng(0)
    for kind in ("before", "after"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            small = generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(small).resize((side, side)).save(folder / kind / f"{number}.png")


def train(asked: argparse.Namespace, course: Course) -> dict[str, Any]:
    """Load, cache, train, save and read back; what the plan predicted and what was measured."""
    from kontext.dataset.load import PairSource, find_pairs
    from kontext.trainer import host, loop, session
    from kontext.trainer.config import TrainConfig
    from kontext.trainer.families import text_encoders
    from kontext.trainer.host import files as host_files
    from kontext.trainer.request import TrainingRequest
    from kontext.trainer.watcher import Watcher

    from benchmark.full_size_files import files_of
    from benchmark.measure import highest_level

    plans, profiles = [], []
    real_plan = session.plan_memory

    def plan_memory(*given: Any) -> Any:
        course.mark("pictures, text cached")
        plans.append(real_plan(*given))
        return plans[-1]

    def tick(*_: Any) -> None:
        """The last step is profiled: what torch's CPU allocator hands out within it."""
        done = len(course.marks) - 2  # after started, loaded, cached
        course.mark(f"step {done}")
        if asked.device != "cpu":
            return
        if profiles:
            profiles[0].stop()
        elif done == asked.steps - 1:
            activities = [torch.profiler.ProfilerActivity.CPU]
            profiles.append(torch.profiler.profile(activities=activities, profile_memory=True))
            profiles[0].start()

    names = [Path(file.path) for file in files_of(asked.kind, asked.blocks)]
    texts = [name.name for name in names if name.parent.name == "text_encoders"]
    files = {"diffusion_model": names[0].name, "text_encoders": texts, "vae": names[-1].name}
    pictures = asked.folder / f"pictures{asked.resolution}"
    write_pictures(pictures, asked.resolution)
    source = PairSource("before", "after", base=pictures, scratch=asked.folder / "scratch")
    pairs = find_pairs(source, CAPTION).dataset
    config = TrainConfig(
        steps=asked.steps, save_every=asked.steps, resolution=asked.resolution, rank=16,
        alpha=16.0, schedule="constant", warmup_steps=0, caption_dropout=0.0, preview_steps=0,
        dtype="bf16", checkpointing=asked.checkpointing, max_vram=asked.max_vram,
    )  # fmt: skip
    places = asked.folder / f"output{time.time():.0f}", asked.folder / "cache"
    hook = register_optimizer_step_post_hook(tick)
    with torch.inference_mode(), patch.object(session, "plan_memory", plan_memory):
        base = host_files.load_base(files, text_encoders)
        course.mark("loaded")
        model, watcher = base.model, Watcher()
        request = TrainingRequest(
            base, pairs, config, "full_size", *places, watcher=watcher, alone=True
        )
        run = loop.train(request)
    hook.remove()
    course.mark("saved, read back")
    (plan,), logged = plans, run.logged()
    weights = plan.footprint.trained // 4  # of the LoRA; gradients come within the step
    if asked.device == "cpu":
        predicted = plan.besides_weights
        measured = highest_level(profiles[0]) + 3 * weights
    else:
        predicted, measured = plan.peak, max(entry["memory"] for entry in logged)
    checkpoint = run.checkpoints()[-1].path
    return {
        "plan": plan.summary(),
        "predicted": predicted,
        "measured": measured,
        "model": model.model_size(),
        "losses": [entry["loss"] for entry in logged],
        "gradient_norms": [entry["grad_norm"] for entry in logged],
        "checkpoint": checkpoint.stat().st_size,
        "keys_not_read": host.unmapped_keys(model, host.load_lora_file(checkpoint)),
    }


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kind", choices=["klein", "kontext", "qwen"])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--resolution", type=int, default=256)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument(
        "--blocks",
        type=int,
        nargs="+",
        default=(),
        help="fewer, of each sort",
    )
    parser.add_argument("--checkpointing", choices=["auto", "on", "off"], default="on")
    parser.add_argument("--max-vram", type=float, default=0.0, help="GB of the card; 0: all")
    parser.add_argument("--folder", type=Path, default=ROOT / ".host" / "full_size")
    asked = parser.parse_args(arguments)
    give_back_freed_memory()
    comfyui = Path(os.environ.get("COMFYUI_PATH", ROOT / ".host" / "ComfyUI"))
    boot(comfyui, asked.folder, asked.device)
    if asked.device == "cpu":  # where ComfyUI would make it float32, twice the file
        importlib.import_module("comfy.cli_args").args.bf16_unet = True
    from benchmark.full_size_files import files_of, write

    write(files_of(asked.kind, asked.blocks), asked.folder / "models")
    course = Course()
    with course.watched():
        course.mark("started")
        result = train(asked, course)
    report = {"kind": asked.kind, "device": asked.device, **result, "course": course.marks}
    (asked.folder / "full_size.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
    print(
        f"{result['plan']}\npredicted {result['predicted'] / GB:.2f} GB, measured "
        f"{result['measured'] / GB:.2f} ({result['predicted'] / result['measured'] - 1:+.0%}); "
        f"losses {result['losses']}, {len(result['keys_not_read'])} keys not read back"
    )
    return report


if __name__ == "__main__":
    main()
