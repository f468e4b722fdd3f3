"""What a benchmark measures: the time and the peak memory of steps, for models of two sizes.

Importing it finds ComfyUI and the pack. A step is timed from one optimiser step to the next,
whoever calls the optimiser.
"""

# ruff: noqa: E402  ComfyUI must have been found before the pack can be imported

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from boot import ROOT, boot


def boot_comfyui(small: bool) -> None:
    """Import ComfyUI and the pack, unless a test has done so."""
    if "kontext" in sys.modules:
        return
    comfyui = Path(os.environ.get("COMFYUI_PATH", ROOT / ".host" / "ComfyUI"))
    if not (comfyui / "main.py").exists():
        sys.exit(f"No ComfyUI in {comfyui}: run scripts/test.py once, or set COMFYUI_PATH.")
    folder = Path(tempfile.mkdtemp(prefix="kontext-benchmark-"))
    boot(comfyui, folder, "cpu" if small else "cuda")


boot_comfyui(small="--small" in sys.argv or not torch.cuda.is_available())

import comfy.model_management as memory
from kontext.trainer.config import TrainConfig

DEVICE = memory.get_torch_device()
ON_CUDA = DEVICE.type == "cuda"
WARM_UP = 3


@dataclass(frozen=True)
class Size:
    """A FLUX.1 and the precision it is trained in."""

    hidden: int
    double: int
    single: int
    context: int
    pooled: int
    text: int
    dtype: torch.dtype

    @property
    def blocks(self) -> int:
        return self.double + self.single

    @property
    def parameters(self) -> int:
        """Of the linears of a token's way through the blocks, modulation aside."""
        return 12 * self.hidden**2 * self.blocks

    @property
    def unread(self) -> float:
        """The share of the linears that a checkpointed block does not compute again: the second
        layer of an MLP, 4 of 12 hidden², and `linear2`, 5 of 12."""
        return (4 * self.double + 5 * self.single) / (12 * self.blocks)

    def flop(self, tokens: int, batch: int, linear: float, attention: float) -> float:
        """Of one step that goes `linear` and `attention` times through what a forward costs.

        A forward is 2 per parameter and token, and 4 · hidden · tokens² per block for attention. A
        step is 2 and 3.5 of these (no gradients of frozen weights), with checkpointing 3 and 4.5;
        ours then leaves out `unread` of one pass.
        """
        linears = 2 * self.parameters * tokens
        attentions = 4 * self.hidden * tokens**2 * self.blocks
        return batch * (linear * linears + attention * attentions)


FULL = Size(3072, 19, 38, 4096, 768, 256, torch.bfloat16)
SMALL = Size(256, 2, 4, 64, 32, 32, torch.bfloat16)


@dataclass(frozen=True)
class Work:
    """One training: pictures of `side` latent cells, as a reference too, on stored `weights`."""

    size: Size
    side: int
    steps: int
    reference: bool = True
    batch: int = 1
    rank: int = 16
    pairs: int = 8
    weights: str = ""
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def tokens(self) -> int:
        return (self.side // 2) ** 2 * (2 if self.reference else 1) + self.size.text

    @property
    def config(self) -> TrainConfig:
        return TrainConfig(
            steps=self.steps, rank=self.rank, alpha=float(self.rank), batch_size=self.batch,
            learning_rate=1e-4, schedule="constant", warmup_steps=0, save_every=self.steps,
            preview_steps=0, caption_dropout=0.0, seed=1,
            dtype={torch.bfloat16: "bf16", torch.float32: "fp32"}[self.size.dtype], **self.settings,
        )  # fmt: skip


@dataclass
class Result:
    """Seconds and processor seconds of each timed step, peak bytes, and the loss of each step."""

    name: str
    work: Work
    seconds: list[float]
    processor: list[float]
    peak: int
    losses: list[float] = field(default_factory=list)
    note: str = ""
    linear: float = 2.0
    attention: float = 3.5

    @property
    def step(self) -> float:
        """Median seconds; on a CPU the processor's in the fastest step, which programs beside this
        one disturb least."""
        return median(self.seconds) if ON_CUDA else min(self.processor)

    @property
    def flop_per_second(self) -> float:
        size, work = self.work.size, self.work
        return size.flop(work.tokens, work.batch, self.linear, self.attention) / self.step


class StepClock:
    """Times the steps that any optimiser takes while it runs, and finds the peak of memory.

    On a card the peak is torch's max_memory_allocated after the warm-up, weights included. On a CPU
    it is the most that torch's allocator handed out at once within one step, after the warm-up:
    what activations and gradients take, without weights and optimiser. That step is not timed.
    """

    def __init__(self, find_peak: bool = True) -> None:
        self.ends: list[tuple[float, float]] = []
        self.peak, self.find_peak = 0, find_peak
        self.profile: torch.profiler.profile | None = None

    def __enter__(self) -> StepClock:
        self.hook = register_optimizer_step_post_hook(self.tick)
        return self

    def __exit__(self, *_: object) -> None:
        self.hook.remove()
        if ON_CUDA:
            self.peak = torch.cuda.max_memory_allocated()

    def tick(self, *_: object) -> None:
        if ON_CUDA:
            torch.cuda.synchronize()
        self.ends.append((time.perf_counter(), time.process_time()))
        if len(self.ends) == WARM_UP:
            if ON_CUDA:
                torch.cuda.reset_peak_memory_stats()
            elif self.find_peak:
                activities = [torch.profiler.ProfilerActivity.CPU]
                self.profile = torch.profiler.profile(activities=activities, profile_memory=True)
                self.profile.start()
        elif self.profile and len(self.ends) == WARM_UP + 1:
            self.profile.stop()
            self.peak, self.profile = highest_level(self.profile), None
            self.ends[-1] = time.perf_counter(), time.process_time()

    def results(self) -> tuple[list[float], list[float]]:
        ends = self.ends[WARM_UP - 1 if ON_CUDA else WARM_UP :]
        spans = [(b[0] - a[0], b[1] - a[1]) for a, b in zip(ends, ends[1:], strict=False)]
        return [wall for wall, _ in spans], [processor for _, processor in spans]


def highest_level(profile: torch.profiler.profile) -> int:
    """Most bytes allocated at once since the profile began, by torch's CPU allocator."""
    assert profile.profiler
    events = profile.profiler.kineto_results.events()
    level = peak = 0
    for _, change in sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]"):
        level += change
        peak = max(peak, level)
    return peak


def ceilings(size: Size) -> dict[str, float]:
    """Measured FLOP per second of a square matrix product, and bytes per second of a copy."""
    side = 8192 if ON_CUDA else 768
    one, other = (torch.randn(side, side, device=DEVICE, dtype=size.dtype) for _ in range(2))
    source = torch.empty(2**30 if ON_CUDA else 2**26, dtype=torch.uint8, device=DEVICE)
    target = torch.empty_like(source)
    with torch.no_grad():
        return {
            "matmul_flop_per_second": 2 * side**3 / timed(lambda: one @ other),
            "copy_bytes_per_second": 2 * source.numel() / timed(lambda: target.copy_(source)),
        }


def timed(run: Callable[[], Any]) -> float:
    """Seconds of one call, by the clock that `Result.step` uses."""
    clock, spans = time.perf_counter if ON_CUDA else time.process_time, []
    for _ in range(20 if ON_CUDA else 4):
        if ON_CUDA:
            torch.cuda.synchronize()
        started = clock()
        run()
        if ON_CUDA:
            torch.cuda.synchronize()
        spans.append(clock() - started)
    return median(spans[1:]) if ON_CUDA else min(spans)


def with_settings(work: Work, **settings: Any) -> Work:
    return replace(work, settings={**work.settings, **settings})
