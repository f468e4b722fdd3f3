"""Prove the verdicts: train runs whose outcome is known, score them, compare with fresh pictures.

    python scripts/proofs/verdicts.py --comfyui PATH [--out FOLDER] [--share 1/2] [--tune]

The pictures are those of the template wheels that ComfyUI installs, shuffled anew for every seed.
The truth about a checkpoint is how near it brings pictures that neither the training nor the scorer
has seen to their true result. Every finished run is kept in the output folder, so
the script can be stopped and started again, and two processes may do a share each. `--tune` looks
for the thresholds on one half of the runs; the table is always made of the other half, and written
into docs/guide/choosing.md. The halves lie like the colours of a chessboard: both have every way
to train, every edit and every seed.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # scripts/

from boot import ROOT, boot

SIZE = 64
SEEDS = range(3)
HELD_OUT, FRESH = 8, 12  # pictures that the scorer sees, and that the truth is taken from
ALIKE = 0.1  # mean difference below which one of two pictures is left out, in shares of the range
TEMPLATES = "comfyui_workflow_templates_media_image"
CLEAR = 0.5  # decibel: a smaller difference is not a clear case
CLOSE = 0.3  # decibel: the recommended checkpoint may be that far from the best


@dataclass(frozen=True)
class Regime:
    """A way to train."""

    steps: int
    save_every: int
    pairs: int = 16
    learning_rate: float = 1e-3
    swapped: bool = False
    noise: bool = False


REGIMES = {
    "too few steps": Regime(steps=40, save_every=8),
    "right": Regime(steps=300, save_every=50),
    "far too many on 3 pairs": Regime(steps=600, save_every=100, pairs=3),
    "far too many on 6 pairs": Regime(steps=600, save_every=100, pairs=6),
    "learning rate x 30": Regime(steps=120, save_every=20, learning_rate=3e-2),
    "swapped folders": Regime(steps=150, save_every=25, swapped=True),
    "noise targets": Regime(steps=150, save_every=25, noise=True),
}


@dataclass(frozen=True)
class Proof:
    """One run: what was measured of the base model (first) and of every checkpoint."""

    name: str
    regime: str
    edit: str
    number: int
    seconds: float
    holdout: list  # [checkpoint, pair, level, noise]
    training: list
    fresh: dict[str, list]  # finalists' held-out losses on other noise, by place; -1 is the base
    pictures: list  # PSNR of held-out pictures, [checkpoint, pair]
    decibel: list  # the same of fresh ones: the truth

    @property
    def colour(self) -> int:
        """Which half of the chessboard it is on."""
        places = list(REGIMES).index(self.regime), [each.name for each in edits()].index(self.edit)
        return (sum(places) + self.number) % 2


def edits() -> list[Any]:
    """Five kinds of edit that the demo model was never taught, and that its VAE can show."""
    from demo_model import edits

    names = ("duotone", "scratches", "seal", "board", "upside_down")
    return [edit for edit in edits.HELD_OUT if edit.name in names]


def photographs(size: int) -> Any:
    """Squares [N, 3, size, size] of ComfyUI's template pictures, in the order of their names."""
    import torch
    from PIL import Image, ImageOps

    (folder,) = importlib.util.find_spec(TEMPLATES).submodule_search_locations
    found: list[np.ndarray] = []
    for path in sorted(Path(folder).glob("templates/*-1.webp")):
        with Image.open(path) as image:
            if getattr(image, "is_animated", False) or min(image.size) < 256:
                continue
            square = np.asarray(ImageOps.fit(image.convert("RGB"), (size, size))) / 255
        if all(np.abs(square - other).mean() > ALIKE for other in found):
            found.append(square)
    return torch.from_numpy(np.stack(found)).movedim(-1, 1).float()


class Laboratory:
    """The demo model, and the pairs of an edit on disk."""

    def __init__(self, out: Path, size: int = SIZE) -> None:
        from kontext.trainer import host
        from kontext.trainer.host.demo import load_demo_model

        self.out, self.base = out, host.Base(*load_demo_model())
        self.size, self.photographs = size, photographs(size)

    def pictures(self, number: int, first: int, count: int) -> Any:
        """Some of the pictures, in the order of this seed."""
        order = np.random.RandomState(number).permutation(len(self.photographs))
        return self.photographs[order[first : first + count]]

    def dataset(self, edit: Any, regime: Regime, number: int, folder: Path) -> Any:
        """Training pairs as the regime spoils them, and true held-out pairs."""
        from kontext.dataset.pair import PairedDataset

        held_out = self.pictures(number, FRESH, HELD_OUT)
        training = self.pictures(number, FRESH + HELD_OUT, regime.pairs)
        sides = (
            write_pairs(edit, training, number, folder, "train", regime),
            write_pairs(edit, held_out, number, folder, "holdout"),
        )
        return PairedDataset(tuple(itertools.chain(*sides)))

    def run(self, name: str, regime: Regime, edit: Any, number: int) -> Proof:
        """Train, score, and take the truth."""
        from kontext.dataset.pair import PairedDataset
        from kontext.evaluation.pictures.loras import loras_of_run
        from kontext.evaluation.score.finalists import PicturePlan
        from kontext.evaluation.score.score import score
        from kontext.trainer.config import TrainConfig
        from kontext.trainer.loop import train
        from kontext.trainer.request import TrainingError, TrainingRequest
        from kontext.trainer.runs.run import Run

        folder, started = self.out / "work" / name.replace(" ", "_"), time.perf_counter()
        shutil.rmtree(folder, ignore_errors=True)
        pairs = self.dataset(edit, regime, number, folder / "pairs")
        config = TrainConfig(
            steps=regime.steps,
            save_every=regime.save_every,
            learning_rate=regime.learning_rate,
            keep=0,
            seed=number,
            resolution=self.size,
            preview_steps=0,
        )
        try:
            shown = PairedDataset(pairs.train)
            places = folder, folder / "cache"
            run = train(TrainingRequest(self.base, shown, config, "proof", *places))
        except TrainingError:  # it diverged: what was saved before is judged
            run = Run.open("proof", folder)
        loras = loras_of_run(run)
        plan = PicturePlan(pairs=0)
        scores = score(self.base, loras, pairs, (1.0,), run.config, folder / "cache", folder, plan)
        series = scores.series
        known = edited(edit, self.pictures(number, FRESH, HELD_OUT), number)
        fresh = edited(edit, self.pictures(number, 0, FRESH), number + 1000)
        proof = Proof(
            name=name,
            regime=next(key for key, value in REGIMES.items() if value == regime),
            edit=edit.name,
            number=number,
            seconds=round(time.perf_counter() - started, 1),
            holdout=[each.holdout.tolist() for each in (series.base, *series.checkpoints)],
            training=[each.training.tolist() for each in (series.base, *series.checkpoints)],
            fresh={str(place): losses.tolist() for place, losses in series.fresh.items()},
            pictures=self.decibel(edit, loras, *known, seed=5),
            decibel=self.decibel(edit, loras, *fresh, seed=7),
        )
        shutil.rmtree(folder)
        return proof

    def decibel(
        self, edit: Any, loras: Sequence[Any], controls: Any, targets: Any, seed: int
    ) -> list[list[float]]:
        """PSNR of edited controls to the true results, for the base model and every LoRA."""
        import comfy.sample
        import torch
        from kontext.trainer import host

        text = host.encode_text(self.base.clip, edit.instructions[0])
        references = host.encode_image(self.base.vae, controls.movedim(1, -1))
        positive = host.conditioning(text, [references], 2.5)
        empty = torch.zeros_like(host.encode_image(self.base.vae, targets.movedim(1, -1)))
        noise = comfy.sample.prepare_noise(empty, seed)
        table = []
        for lora in (None, *loras):
            model = self.base.model
            if lora:
                model = host.with_lora(model, host.load_lora_file(lora.path), 1.0)
            with torch.inference_mode():
                latents = comfy.sample.sample(
                    model, noise, 8, 1.0, "euler", "simple", positive, positive, empty,
                    disable_pbar=True, seed=seed,
                )  # fmt: skip
            pictures = host.decode_latent(self.base.vae, latents).movedim(-1, 1)
            errors = (torch.nan_to_num(pictures) - targets).square().mean((1, 2, 3))
            decibel = -10 * errors.clamp_min(1e-8).log10()
            table.append([round(each, 3) for each in decibel.tolist()])
        return table


def edited(edit: Any, pictures: Any, number: int) -> tuple[Any, Any]:
    """Controls and targets."""
    import torch

    rng = np.random.RandomState(number)
    controls, targets = zip(*(edit.make(picture, rng) for picture in pictures), strict=True)
    return torch.stack(controls), torch.stack(targets)


def write_pairs(
    edit: Any,
    pictures: Any,
    number: int,
    folder: Path,
    split: str,
    regime: Regime | None = None,
) -> list[Any]:
    import torch
    from kontext.dataset.pair import Pair
    from kontext.trainer.data.pixels import image_of

    folder.mkdir(parents=True, exist_ok=True)
    controls, targets = edited(edit, pictures, number)
    if regime and regime.swapped:
        controls, targets = targets, controls
    if regime and regime.noise:
        targets = torch.rand(targets.shape, generator=torch.Generator().manual_seed(number))
    pairs = []
    for place, sides in enumerate(zip(controls, targets, strict=True)):
        paths = [folder / f"{split}{place:02}_{side}.png" for side in ("control", "target")]
        for image, path in zip(sides, paths, strict=True):
            image_of(image.movedim(0, -1)[None]).save(path)
        stem = f"{split}{place:02}"
        pairs.append(Pair(stem, (paths[0],), paths[1], edit.instructions[0], split))
    return pairs


# ---- truth and verdict ---------------------------------------------------------------------


def truths(proof: Proof) -> list[str | None]:
    """What each checkpoint is by its fresh pictures; None where that is not a clear case.

    Clear is what two standard errors over the fresh pictures leave no doubt of.
    """
    decibel = np.array(proof.decibel)
    gains, training = decibel[1:] - decibel[0], np.array(proof.training)[1:].mean((1, 2, 3))
    peak = int(gains.mean(1).argmax())
    found: list[str | None] = []
    for place, gain in enumerate(gains):
        short = gains[peak] - gain
        if gains[peak].mean() < CLEAR / 2:
            if gain.mean() < -CLEAR and gain.mean() < -doubt(gain):
                found.append("worse")
            else:
                still = abs(gain.mean()) < 0.2 and doubt(gain) < CLEAR
                found.append("no effect" if still else None)
        elif short.mean() < CLOSE / 2:
            found.append("good" if doubt(short) < CLEAR else None)
        elif short.mean() < max(CLEAR, doubt(short)):
            found.append(None)
        elif place < peak:
            found.append("under-fitted")
        else:
            found.append("over-fitted" if training[place] < training[peak] else "diverged")
    return found


def doubt(differences: np.ndarray) -> float:
    """Two standard errors of a mean."""
    return float(2 * differences.std(ddof=1) / len(differences) ** 0.5)


AGREES = {
    "no effect": {"no effect"},
    "worse": {"diverged", "over-fitted"},
    "good": {"good", "still improving"},
    "under-fitted": {"under-fitted", "still improving", "no effect"},
    "over-fitted": {"over-fitted"},
    "diverged": {"diverged"},
}


def judged(proof: Proof, rules: Any) -> Any:
    from kontext.evaluation.score.second_look import look_again
    from kontext.evaluation.score.verdict import Losses, Series, judge

    base, *rest = (
        Losses(np.array(h), np.array(t)) for h, t in zip(proof.holdout, proof.training, strict=True)
    )
    fresh = {int(place): np.array(losses) for place, losses in proof.fresh.items()}
    series = Series(base, rest, fresh)
    pictures = {place: np.array(proof.pictures[place + 1]) for place in fresh}
    return look_again(series, judge(series, rules), pictures, rules)


@dataclass(frozen=True)
class Figures:
    """How often verdicts and recommendations were right."""

    runs: int
    clear: int
    agreement: float
    close: float
    false_over_fitted: float
    confusion: Counter

    @property
    def score(self) -> float:
        return self.agreement + self.close - 2 * max(0.0, self.false_over_fitted - 0.03)


def figures(proofs: Iterable[Proof], rules: Any) -> Figures:
    proofs, confusion, close, recommended = list(proofs), Counter(), 0, 0
    for proof in proofs:
        judgement, gains = judged(proof, rules), np.array(proof.decibel).mean(1)
        gains = gains[1:] - gains[0]
        for truth, verdict in zip(truths(proof), judgement.verdicts, strict=True):
            if truth:
                confusion[truth, verdict.label.value] += 1
        chosen = 0.0 if judgement.recommended is None else gains[judgement.recommended]
        recommended += 1
        close += chosen >= max(gains.max(), 0.0) - CLOSE
    clear = sum(confusion.values())
    right = sum(count for (truth, found), count in confusion.items() if found in AGREES[truth])
    not_over = {pair: n for pair, n in confusion.items() if pair[0] not in ("over-fitted", "worse")}
    false = sum(count for (_, found), count in not_over.items() if found == "over-fitted")
    return Figures(
        runs=len(proofs),
        clear=clear,
        agreement=right / max(1, clear),
        close=close / max(1, recommended),
        false_over_fitted=false / max(1, sum(not_over.values())),
        confusion=confusion,
    )


def tuned(proofs: Sequence[Proof]) -> Any:
    """The thresholds that do best on these runs."""
    from kontext.evaluation.score.verdict import Rules

    grid = itertools.product((0.2, 0.3), (0.1, 0.15, 0.2), (0.3, 0.4), (0.7, 0.8, 0.9))
    names = ("seen_gain", "seen_tie", "seen_worse", "seen_level")
    tried = [Rules(**dict(zip(names, values, strict=True))) for values in grid]
    return max(tried, key=lambda rules: figures(proofs, rules).score)


def table(found: Figures) -> str:
    """The confusion table and the three demands, in Markdown."""
    verdicts = sorted({verdict for _, verdict in found.confusion})
    lines = [
        f"{found.runs} runs, {found.clear} clear checkpoints. Verdict agrees with the truth: "
        f"{found.agreement:.1%}. Recommended checkpoint within {CLOSE} dB of the best: "
        f"{found.close:.1%} of runs. False over-fitted: {found.false_over_fitted:.1%}.",
        "",
        "| truth \\ verdict | " + " | ".join(verdicts) + " |",
        "| --- |" + " ---: |" * len(verdicts),
    ]
    for truth in AGREES:
        counts = [found.confusion[truth, verdict] for verdict in verdicts]
        lines.append(f"| {truth} | " + " | ".join(map(str, counts)) + " |")
    return "\n".join(lines)


def write_table(text: str) -> None:
    page = ROOT / "docs" / "guide" / "choosing.md"
    before, rest = page.read_text(encoding="utf-8").split("<!-- proof -->\n")
    after = rest.split("<!-- end of proof -->\n")[1]
    filled = f"{before}<!-- proof -->\n{text}\n<!-- end of proof -->\n{after}"
    page.write_text(filled, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--comfyui",
        type=Path,
        default=os.environ.get("COMFYUI_PATH"),
        required="COMFYUI_PATH" not in os.environ,
    )
    parser.add_argument("--out", type=Path, default=ROOT / ".demo-training" / "verdicts")
    parser.add_argument("--share", default="1/1", help="1/2 or 2/2: every second run")
    parser.add_argument("--only", default="", help="only runs with this in their name")
    parser.add_argument("--tune", action="store_true", help="look for thresholds on half the runs")
    options = parser.parse_args()
    (options.out / "runs").mkdir(parents=True, exist_ok=True)
    boot(options.comfyui, options.out / "host")
    from kontext.evaluation.score.verdict import Rules

    laboratory = Laboratory(options.out)
    mine, shares = map(int, options.share.split("/"))
    runs = list(itertools.product(SEEDS, edits(), REGIMES.items()))
    for number, edit, (name, regime) in runs[mine - 1 :: shares]:
        path = options.out / "runs" / f"{name} {edit.name} {number}.json"
        if path.exists() or options.only not in path.stem:
            continue
        proof = laboratory.run(path.stem, regime, edit, number)
        path.write_text(json.dumps(asdict(proof)), encoding="utf-8")
        gains = np.array(proof.decibel).mean(1)
        verdicts = [each.label.value for each in judged(proof, Rules()).verdicts]
        print(
            f"{path.stem}: {proof.seconds} s",
            np.round(gains - gains[0], 2)[1:],
            verdicts,
            flush=True,
        )

    paths = sorted((options.out / "runs").glob("*.json"))
    proofs = [Proof(**json.loads(path.read_text(encoding="utf-8"))) for path in paths]
    fixing, judging = ([proof for proof in proofs if proof.colour == k] for k in (0, 1))
    rules = tuned(fixing) if options.tune else Rules()
    print(rules)
    for half in (fixing, judging):
        print(table(figures(half, rules)), "\n")
    if len(proofs) == len(runs):
        write_table(table(figures(judging, Rules())))


if __name__ == "__main__":
    main()
