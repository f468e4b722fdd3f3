"""Measure what else decides how good a LoRA is: each change against the same run without it.

    python scripts/proofs/quality.py --comfyui PATH [--share 1/2] [--steps 150] [--seeds 3]

Nine edits (three each of colour, local and texture), 6 and 24 pairs, the pictures of `verdicts.py`.
The figure is the PSNR of pictures that nobody has seen, after the last step. Every finished case
is kept in docs/proofs/cases, so the script can be stopped and started again, and several processes
may do a share each. The table is written into docs/proofs/quality.md.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # scripts/
sys.path.insert(0, str(Path(__file__).resolve().parent))

from verdicts import FRESH, SIZE, Laboratory, edited, write_pairs

from boot import ROOT, boot

CASES = ROOT / "docs" / "proofs" / "cases" / "quality"  # what is finished
PAIRS = (6, 24)
LEARNING_RATE = 1e-3
SAVED = 10  # checkpoints of the run without a change
AVERAGED = 4  # the last of them, as many as `keep` keeps
FIRST_STAGE = 2 / 3  # of the steps at half the size
STEEPNESS, WEIGHT = 20.0, 0.5  # of the preference
SETTINGS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "edit_weight 2": {"edit_weight": 2.0},
    "edit_weight 4": {"edit_weight": 4.0},
    "caption_dropout 0": {"caption_dropout": 0.0},
    "caption_dropout 0.1": {"caption_dropout": 0.1},
    "batch_size 2": {"batch_size": 2},
    "reference_resolution of half": {"reference_resolution": SIZE // 2},
}


def edits() -> dict[str, Any]:
    """Nine edits that the demo model was never taught, by kind."""
    import torch

    from demo_model.edits import HELD_OUT, Edit, changes, colour, rings

    known = {edit.name: edit for edit in HELD_OUT}
    own = (
        Edit("exchange", ("print it on cyan film",), colour(0.0, 1, 0, 0, 0, 1, 1, 0, 0)),
        Edit("posterise", ("make a screen print",), changes(lambda x: (x * 2).round() / 2)),
        Edit(
            "badge",
            ("sew our badge on it",),
            changes(rings(0.78, 0.22, 0.16, (0.1, 0.3, 0.2), (0.95, 0.9, 0.3))),
        ),
        Edit(
            "canvas",
            ("paint it on coarse canvas",),
            changes(
                lambda x: x * (0.75 + 0.25 * torch.cos(torch.arange(x.shape[2]) * (2 * np.pi / 6)))
            ),
        ),
    )
    known |= {edit.name: edit for edit in own}
    kinds = {
        "colour": ("duotone", "exchange", "posterise"),
        "local": ("scratches", "seal", "badge"),
        "texture": ("pencil", "board", "canvas"),
    }
    return {name: (kind, known[name]) for kind, names in kinds.items() for name in names}


# ---- changes that are no setting ---------------------------------------------------------------


@contextmanager
def patched(owner: Any, name: str, function: Any) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, function)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextmanager
def rank_by_noise() -> Iterator[None]:
    """T-LoRA (arXiv 2507.05964): half of the rank at full noise, all of it without noise.

    In training only: a LoRA file cannot say it to the sampler.
    """
    import torch
    from kontext.trainer import loop
    from kontext.trainer.loss import objective
    from kontext.trainer.network.lora import LowRank, with_low_rank

    sigma_now = 0.0

    def losses(family: Any, batch: Any, sigma: Any, *rest: Any) -> Any:
        nonlocal sigma_now
        sigma_now = float(sigma)
        return objective.sample_losses(family, batch, sigma, *rest)

    def forward(
        self: Any, x: Any, base: Any, strength: float = 1.0, drop: Callable | None = None
    ) -> Any:
        rank = len(self.down)
        kept = rank // 2 + round((1 - sigma_now) * (rank - rank // 2))
        shown = (torch.arange(rank) < kept).to(self.down)[:, None]
        dropped = x if drop is None else drop(x)
        return with_low_rank(x, dropped, base, self.down * shown, self.up, self.scale * strength)

    with patched(loop, "sample_losses", losses), patched(LowRank, "forward", forward):
        yield


@contextmanager
def preference() -> Iterator[None]:
    """The picture before the edit as the rejected one (Diffusion-DPO, arXiv 2311.12908, eq. 14).

    Beside the loss, not instead of it; anchored at the base model, capped by the sigmoid.
    """
    import torch
    import torch.nn.functional as F
    from kontext.trainer import loop
    from kontext.trainer.loss import objective

    fit, session = loop.fit, None

    def fitting(begun: Any, *rest: Any) -> None:
        nonlocal session
        session = begun
        fit(begun, *rest)

    def losses(family: Any, batch: Any, *rest: Any) -> Any:
        rejected = replace(batch, target=batch.references[0])

        def margin() -> Any:
            won = objective.sample_losses(family, batch, *rest)
            return won, won - objective.sample_losses(family, rejected, *rest)

        won, ours = margin()
        with torch.no_grad(), session.lora.at_strength(0.0):
            _, base = margin()
        return won + WEIGHT * F.softplus(STEEPNESS * (ours - base)) / STEEPNESS

    with patched(loop, "sample_losses", losses), patched(loop, "fit", fitting):
        yield


def average(paths: list[Path], out: Path) -> Path:
    """The mean of LoRA files of one run, matrix by matrix."""
    import torch
    from safetensors.torch import load_file, save_file

    files = [load_file(path) for path in paths]
    mean = {key: torch.stack([each[key].float() for each in files]).mean(0) for key in files[0]}
    save_file(mean, out)
    return out


# ---- one case ----------------------------------------------------------------------------------


def measure(
    laboratory: Laboratory, edit: Any, pairs: int, seed: int, steps: int
) -> dict[str, dict[str, float]]:
    """The PSNR of every change in decibel, and its seconds per step; "base" is the bare model."""
    from kontext.dataset.pair import PairedDataset
    from kontext.trainer import host
    from kontext.trainer.config import TrainConfig
    from kontext.trainer.loop import train
    from kontext.trainer.request import TrainingRequest

    folder = laboratory.out / "work" / f"{edit.name}_{pairs}_{seed}_{os.getpid()}"
    pictures = laboratory.pictures(seed, FRESH, pairs)
    dataset = PairedDataset(tuple(write_pairs(edit, pictures, seed, folder / "pairs", "train")))
    config = TrainConfig(
        steps=steps, save_every=steps, keep=0, seed=seed, resolution=SIZE, preview_steps=0,
        learning_rate=LEARNING_RATE,
    )  # fmt: skip
    request = TrainingRequest(laboratory.base, dataset, config, "run", folder, folder / "cache")
    paths: dict[str, Path] = {}
    seconds: dict[str, float] = {}

    def trained(name: str, config: TrainConfig, part: str = "", **others: Any) -> Any:
        started = time.perf_counter()
        run_name = f"{name}{part}".replace(" ", "_")
        run = train(replace(request, name=run_name, config=config, **others))
        paths[name] = run.checkpoints()[-1].path
        seconds[name] = seconds.get(name, 0) + (time.perf_counter() - started) / steps
        return run

    train(replace(request, name="cache", config=config.replace(steps=1)))  # encodes
    run = trained("nothing", config.replace(save_every=steps // SAVED))
    for name, settings in list(SETTINGS.items())[1:]:
        trained(name, config.replace(**settings))
    with rank_by_noise():
        trained("rank by noise", config)
    with preference():
        trained("preference", config)
    kept = [each.path for each in run.checkpoints()[-AVERAGED:]]
    paths["average"] = average(kept, folder / "average.safetensors")

    half = halved(pictures)
    small = tuple(write_pairs(edit, half, seed, folder / "small", "train"))
    first = round(steps * FIRST_STAGE)
    trained("stages", config.replace(steps=first), pairs=PairedDataset(small))
    begun = host.load_lora_file(paths["stages"])
    trained("stages", config.replace(steps=steps - first), part=" 2", start=begun)

    fresh = edited(edit, laboratory.pictures(seed, 0, FRESH), seed + 1000)
    decibel = table(laboratory, edit, paths, fresh)
    shutil.rmtree(folder)
    return {"decibel": decibel, "seconds": seconds}


def halved(pictures: Any) -> Any:
    import torch.nn.functional as F

    return F.interpolate(pictures, scale_factor=0.5, mode="area")


def table(laboratory: Laboratory, edit: Any, paths: dict[str, Path], fresh: Any) -> dict:
    """Mean PSNR by change. What was trained with half a control is tried with both sizes."""
    from kontext.evaluation.pictures.loras import LoraFile

    controls, targets = fresh
    loras = [LoraFile(name, path) for name, path in paths.items()]
    rows = laboratory.decibel(edit, loras, controls, targets, seed=7)
    found = dict(zip(("base", *paths), (float(np.mean(row)) for row in rows), strict=True))
    name = "reference_resolution of half"
    small = halved(controls)
    row = laboratory.decibel(edit, [LoraFile(name, paths[name])], small, targets, seed=7)[1]
    return {**found, f"{name}, in use too": float(np.mean(row))}


# ---- all cases ---------------------------------------------------------------------------------


def interval(differences: np.ndarray) -> tuple[float, float]:
    """Mean and half of its 95 % interval, over edits: seeds of one are not independent."""
    from scipy import stats

    spread = differences.std(ddof=1) / len(differences) ** 0.5
    return float(differences.mean()), float(stats.t.ppf(0.975, len(differences) - 1) * spread)


def summary(cases: list[dict[str, Any]]) -> str:
    """The table in Markdown: gain over the run without a change, and cost of a step."""
    names = [each for each in cases[0]["decibel"] if each not in ("base", "nothing")]
    counts = sorted({case["pairs"] for case in cases})
    head = " | ".join(f"{count} pairs" for count in counts)
    kinds = sorted({case["kind"] for case in cases})
    lines = [
        f"| change | {head} | {' | '.join(kinds)} | cost of a step |",
        "| --- |" + " ---: |" * (len(counts) + len(kinds) + 1),
    ]
    for name in names:
        cells = [cell(gains(cases, name, pairs=count)) for count in counts]
        cells += [f"{gains(cases, name, kind=kind).mean():+.2f}" for kind in kinds]
        cost = [case["seconds"].get(name, 0) / case["seconds"]["nothing"] for case in cases]
        times = f"× {np.median(cost):.2f}" if any(cost) else "none"
        lines.append(f"| {name} | {' | '.join(cells)} | {times} |")
    return "\n".join(lines)


def cell(differences: np.ndarray) -> str:
    return "{:+.2f} ± {:.2f}".format(*interval(differences))


def gains(cases: list[dict[str, Any]], name: str, **only: Any) -> np.ndarray:
    """Mean gain in decibel of each edit [edit] among the cases with these values."""
    chosen = [case for case in cases if all(case[key] == value for key, value in only.items())]
    found: dict[str, list[float]] = {}
    for case in chosen:
        gain = case["decibel"][name] - case["decibel"]["nothing"]
        found.setdefault(case["edit"], []).append(gain)
    return np.array([np.mean(each) for each in found.values()])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--comfyui", type=Path, default=os.environ.get("COMFYUI_PATH"))
    parser.add_argument("--out", type=Path, default=ROOT / ".demo-training" / "quality")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--share", default="1/1", help="1/2 or 2/2: every second case")
    options = parser.parse_args()
    CASES.mkdir(parents=True, exist_ok=True)
    boot(options.comfyui, options.out / "host")
    laboratory = Laboratory(options.out)
    mine, shares = map(int, options.share.split("/"))
    cases = list(itertools.product(range(options.seeds), PAIRS, edits().items()))
    for seed, pairs, (name, (kind, edit)) in cases[mine - 1 :: shares]:
        path = CASES / f"{name}_{pairs}_{seed}_{options.steps}.json"
        if path.exists():
            continue
        found = measure(laboratory, edit, pairs, seed, options.steps)
        case = {"edit": name, "kind": kind, "pairs": pairs, "seed": seed, **found}
        path.write_text(json.dumps(case), encoding="utf-8")
        print(
            path.stem, {key: round(each, 2) for key, each in found["decibel"].items()}, flush=True
        )

    paths = sorted(CASES.glob(f"*_{options.steps}.json"))
    done = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    text = f"{len(done)} of {len(cases)} cases.\n\n{summary(done)}"
    print(text)
    if len(done) == len(cases):
        page = ROOT / "docs" / "proofs" / "quality.md"
        before, rest = page.read_text(encoding="utf-8").split("<!-- table -->\n")
        after = rest.split("<!-- end of table -->\n")[1]
        filled = f"{before}<!-- table -->\n{text}\n<!-- end of table -->\n{after}"
        page.write_text(filled, encoding="utf-8")


if __name__ == "__main__":
    main()
