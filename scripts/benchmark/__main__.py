"""How fast and how small training is, beside two other trainers and what the hardware allows.

    python scripts/benchmark                  on a CUDA machine: full-size FLUX.1, random weights
    python scripts/benchmark --small          the same code on a CPU with a tiny model, < 60 s

Needs no network and no model. Writes benchmark.json, benchmark.md (the tables) and benchmark.png
(how cost grows) into `--out`; `--profile` adds the operations that take most time. `--only` picks
cases by a part of their name, and may be repeated; with `--small`, only `--only compiled` compiles.
`COMFYUI_PATH` names ComfyUI's folder; `pip install diffusers peft` brings the first peer.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # scripts/

from benchmark.measure import (
    FULL,
    ON_CUDA,
    ROOT,
    SMALL,
    WARM_UP,
    Result,
    StepClock,
    Work,
    ceilings,
    with_settings,
)

# isort: split
from benchmark.cases import random_weights, time_bound, train_comfyui, train_ours, train_peft

matplotlib.use("Agg")
import matplotlib.pyplot as plt

GB = 10**9
PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "_int_mm", "_scaled_mm", "convolution")


@dataclass(frozen=True)
class Case:
    """A line of the table."""

    name: str
    work: Work
    run: Callable[[Work, dict[str, torch.Tensor]], Result]
    slow: bool = False  # only where --only names it


def cases(small: bool, steps: int) -> list[Case]:
    """All lines; on a CPU those that do not depend on a card."""
    size, side = (SMALL, 24) if small else (FULL, 128)
    # a small rank keeps the LoRA's gradients small beside the activations, as in the full model
    plain = Work(size, side, steps, rank=4 if small else 16)
    checkpointed = with_settings(plain, checkpointing="on")
    alone = replace(checkpointed, reference=False)
    lines = [
        Case("ours", plain, train_ours),
        Case("ours, all checkpointed", checkpointed, train_ours),
        Case("diffusers + peft, all checkpointed", plain, train_peft),
        Case("ours, no reference, all checkpointed", alone, train_ours),
        Case("ComfyUI TrainLoraNode, no reference", alone, train_comfyui),
        Case("lower bound: products and attention", plain, lambda work, _: time_bound(work)),
    ]
    compiled = with_settings(plain, compile="blocks")
    again = with_settings(checkpointed, compile="blocks")
    lines += [
        Case("ours, compiled", compiled, train_ours, small),
        Case("ours, compiled, all checkpointed", again, train_ours, small),
    ]
    if small:
        return lines
    half, eight = replace(plain, side=64), replace(plain, weights="float8_e4m3fn")
    eight_half = replace(eight, side=64)
    return [
        *lines,
        Case("ours, 512 + 512", half, train_ours),
        Case("lower bound, 512 + 512", half, lambda work, _: time_bound(work)),
        Case("ours, fp8 weights", eight, train_ours),
        Case("ours, fp8 weights, 24 GB", with_settings(eight, max_vram=24.0), train_ours),
        Case("ours, fp8 weights, 18 GB", with_settings(eight, max_vram=18.0), train_ours),
        Case("ours, fp8 weights, 12 GB", with_settings(eight, max_vram=12.0), train_ours),
        Case("ours, fp8, 512 + 512, 14.5 GB", with_settings(eight_half, max_vram=14.5), train_ours),
        Case("ours, fp8, 512 + 512, 8 GB", with_settings(eight_half, max_vram=8.0), train_ours),
        Case("ours, compiled, 512 + 512", with_settings(half, compile="blocks"), train_ours),
        Case("ours, int8 products", with_settings(eight, matmul="int8"), train_ours),
        Case("ours, fp8 products", with_settings(eight, matmul="fp8"), train_ours),
        Case("ours, mxfp8 products", with_settings(eight, matmul="mxfp8"), train_ours),
    ]


def growth(small: bool) -> dict[str, list[tuple[float, Work]]]:
    """For each quantity, its values and the training to run for it."""
    size, side, steps = (SMALL, 16, WARM_UP + 4) if small else (FULL, 64, WARM_UP + 11)
    plain = Work(size, side, steps)
    sides = (8, 16, 24) if small else (32, 64, 96, 128)
    pairs = (8, 2000) if small else (20, 2000, 20000)
    ranks = (4, 64) if small else (4, 16, 64, 128)
    batches = (1, 2) if small else (1, 2, 4)
    return {
        "tokens": [(work.tokens, work) for s in sides for work in [replace(plain, side=s)]],
        "batch": [(n, replace(plain, batch=n)) for n in batches],
        "rank": [(n, replace(plain, rank=n)) for n in ranks],
        "pairs": [(n, replace(plain, pairs=n)) for n in pairs],
    }


def measure(case: Case, weights: dict[str, torch.Tensor]) -> Result | str:
    """The case's result, or why there is none."""
    print(f"{case.name} …", flush=True)
    try:
        return replace(case.run(case.work, weights), name=case.name)
    except torch.cuda.OutOfMemoryError:
        return "out of memory"
    except (ImportError, RuntimeError, ValueError) as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0]}"


def fastest(
    chosen: Sequence[Case], weights: dict[str, torch.Tensor], rounds: int
) -> dict[str, Result | str]:
    """Each case's fastest of several rounds: what disturbs one round disturbs all cases alike."""
    found: dict[str, Result | str] = {}
    for _ in range(rounds):
        for case in chosen:
            result, before = measure(case, weights), found.get(case.name)
            if isinstance(before, Result) and isinstance(result, Result):
                result = min(before, result, key=lambda each: each.step)
            found[case.name] = result
    return found


# ---- what comes out ------------------------------------------------------------------------


def row(result: Result, ceiling: float) -> dict[str, object]:
    work = result.work
    tenth = max(1, len(result.losses) // 10)
    return {
        "case": result.name,
        "seconds_per_step": result.step,
        "all_seconds": [round(seconds, 4) for seconds in result.seconds],
        "steps": len(result.seconds),
        "peak_bytes": result.peak,
        "share_of_matmul_ceiling": result.flop_per_second / ceiling,
        "flop": [result.linear, result.attention],
        "tokens": work.tokens,
        "losses": [sum(part) / tenth for part in (result.losses[:tenth], result.losses[-tenth:])]
        if result.losses
        else [],
        "note": result.note,
    }


def markdown(report: dict) -> str:
    """The table, for people."""
    of, table = report["machine"], []
    for line in report["cases"]:
        if "error" in line:
            table.append(f"| {line['case']} | | | | {line['error']} |")
            continue
        peak = f"{line['peak_bytes'] / GB:.3f}" if line["peak_bytes"] else ""
        losses = " → ".join(f"{loss:.3f}" for loss in line["losses"])
        notes = "; ".join(filter(None, (line["note"], losses and f"loss {losses}")))
        share = f"{line['share_of_matmul_ceiling']:.0%}"
        table.append(
            f"| {line['case']} | {line['seconds_per_step']:.3f} | {peak} | {share} | {notes} |"
        )
    ratios = [f"* {name}: {value:.2f}" for name, value in report["ratios"].items()]
    time, peak = "seconds per step", "peak GB"
    if not ON_CUDA:
        time, peak = "processor seconds per step", "peak of one step, GB"
    return "\n".join(
        [
            f"{of['device']}, torch {of['torch']}, {of['precision']}. Matrix product "
            f"{of['matmul_flop_per_second'] / 1e12:.2f} TFLOP/s, copy "
            f"{of['copy_bytes_per_second'] / GB:.0f} GB/s.",
            "",
            f"| | {time} | {peak} | of the matrix ceiling | |",
            "| --- | --- | --- | --- | --- |",
            *table,
            "",
            *ratios,
            "",
        ]
    )


def ratios(lines: Sequence[dict]) -> dict[str, float]:
    """Ours against the others, both with all blocks checkpointed; below 1 is better."""
    by_name = {line["case"]: line for line in lines if "error" not in line}
    found = {}
    for ours, peer, name in (
        ("ours, all checkpointed", "diffusers + peft, all checkpointed", "peft"),
        ("ours, no reference, all checkpointed", "ComfyUI TrainLoraNode, no reference", "ComfyUI"),
    ):
        if ours in by_name and peer in by_name:
            for what, field in (("time", "seconds_per_step"), ("peak", "peak_bytes")):
                found[f"{what} / {name}"] = by_name[ours][field] / by_name[peer][field]
    return found


def plot(grown: dict[str, list[dict]], steps: list[float], path: Path) -> None:
    """Time and peak against each quantity, and the time of every step of one run."""
    figure, axes = plt.subplots(1, len(grown) + 1, figsize=(4 * len(grown) + 4, 3.2))
    for axis, (name, points) in zip(axes, grown.items(), strict=False):
        x = [point["value"] for point in points]
        axis.plot(x, [point["seconds"] for point in points], "o-", color="#1f77b4")
        axis.set(xlabel=name, ylabel="seconds per step", ylim=from_zero(axis))
        other = axis.twinx()
        other.plot(x, [point["peak"] / GB for point in points], "s--", color="#d62728")
        other.set(ylabel="peak, GB", ylim=from_zero(other))
        if x[-1] > 50 * x[0]:
            axis.set_xscale("log")
    axes[-1].plot(range(1, len(steps) + 1), steps, ".", color="#1f77b4")
    axes[-1].set(xlabel="step", ylabel="seconds", ylim=from_zero(axes[-1]))
    figure.suptitle("blue, left: time · red, right: memory")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def from_zero(axis: plt.Axes) -> tuple[float, float]:
    return 0.0, 1.1 * axis.get_ylim()[1]


def kernels(work: Work, weights: dict[str, torch.Tensor]) -> dict[str, object]:
    """The operations that take most time in our steps, and the share of time in other ones than
    matrix products and attention."""
    activity = torch.profiler.ProfilerActivity
    activities = [activity.CPU, *[activity.CUDA] * ON_CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        train_ours(replace(work, steps=WARM_UP + 2), weights, StepClock(find_peak=False))
    kind = "self_device_time_total" if ON_CUDA else "self_cpu_time_total"
    times = {
        event.key: getattr(event, kind)
        for event in profile.key_averages()
        if event.key.startswith("aten::") and getattr(event, kind)
    }
    total = sum(times.values())
    inside = sum(
        spent
        for name, spent in times.items()
        if name.removeprefix("aten::") in PRODUCTS or "attention" in name
    )
    top = sorted(times.items(), key=lambda item: -item[1])[:15]
    return {
        "share_outside_products_and_attention": 1 - inside / total,
        "top": [{"operation": name, "share": spent / total} for name, spent in top],
    }


@contextmanager
def one_thread() -> Iterator[None]:
    """On a CPU: threads that wait for each other would count as the processor's time."""
    before = torch.get_num_threads()
    if not ON_CUDA:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@one_thread()
def main(arguments: Sequence[str] | None = None) -> dict:
    """Run what the command line asks for; returns what benchmark.json holds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--small", action="store_true", help="a tiny model, on the CPU")
    parser.add_argument("--steps", type=int, default=0, help="timed steps; 50, or 6 with --small")
    parser.add_argument(
        "--rounds",
        type=int,
        default=1,
        help="run all cases so often in turn, and take the fastest of each",
    )
    parser.add_argument("--only", action="append", default=[], help="part of a case's name")
    parser.add_argument("--no-growth", action="store_true")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--out", type=Path, default=ROOT / ".host" / "benchmark")
    asked = parser.parse_args(arguments)
    if not asked.small and not ON_CUDA:
        sys.exit("No CUDA device: use --small. The full model does not fit a benchmark on a CPU.")
    size = SMALL if asked.small else FULL
    steps = (asked.steps or (6 if asked.small else 50)) + WARM_UP + (not ON_CUDA)
    machine = {
        "device": torch.cuda.get_device_name()
        if ON_CUDA
        else f"CPU {platform.machine()}, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "precision": str(size.dtype).removeprefix("torch."),
        **ceilings(size),
    }
    weights = random_weights(size)
    chosen = [
        case
        for case in cases(asked.small, steps)
        if (any(part in case.name for part in asked.only) if asked.only else not case.slow)
    ]
    lines, seconds = [], []
    for name, result in fastest(chosen, weights, asked.rounds).items():
        if isinstance(result, str):
            lines.append({"case": name, "error": result})
        else:
            lines.append(row(result, machine["matmul_flop_per_second"]))
            seconds = seconds or (result.seconds if ON_CUDA else result.processor)
    report = {"machine": machine, "cases": lines, "ratios": ratios(lines)}
    if asked.profile:
        report["profile"] = kernels(Work(size, 24 if asked.small else 128, 0), weights)
    asked.out.mkdir(parents=True, exist_ok=True)
    if not asked.no_growth:
        report["growth"] = {
            name: [
                {"value": value, "seconds": result.step, "peak": result.peak}
                for value, work in works
                if not isinstance(
                    result := measure(Case(f"{name} {value}", work, train_ours), weights), str
                )
            ]
            for name, works in growth(asked.small).items()
        }
        plot(report["growth"], seconds, asked.out / "benchmark.png")
    (asked.out / "benchmark.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
    text = markdown(report)
    (asked.out / "benchmark.md").write_text(text, encoding="utf-8")
    print(f"\n{text}\nWritten to {asked.out}")
    return report


if __name__ == "__main__":
    main()
