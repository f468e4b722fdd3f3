"""Measure the demo model: what it reproduces, what it follows, what a LoRA can teach it.

    python scripts/demo_model/evaluate.py --comfyui PATH [--out FOLDER] [--only vae,edits,...]

Photographs that no network was trained on, 128 pixels, 20 sampling steps, guidance 2.5, ComfyUI's
sampler. LoRAs are trained by the pack's own trainer with its default settings, on twenty of the
base's photographs, as a user has twenty pictures. Prints a Markdown table, and leaves it with its
figures and grids in the output folder.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # scripts/

from boot import ROOT, boot

SIZE = 128
TRAINING_STEPS = 2000
# Learning rates of LoRAs, and what share of the way from base to ceiling is wanted of them
RATES = {"1e-4": "60 %", "1e-3": "80 %"}
TEST_PHOTOGRAPHS = ("astronaut", "coffee", "motorcycle", "china")
MEMORISED = "chelsea"  # four pairs of this photograph are learnt by heart
PATIENCE = 120  # seconds, in which a LoRA should be good enough
SECTIONS = ("load", "vae", "edits", "loras", "memorise")


class Bench:
    """The demo model, the test photographs and how to edit them."""

    def __init__(self, out: Path):
        from kontext.trainer import host
        from kontext.trainer.host.demo import load_demo_model

        self.out, self.host = out, host
        self.model, self.clip, self.vae = load_demo_model()
        self.tests = self.crops(TEST_PHOTOGRAPHS, 3)

    def crops(self, names: Sequence[str], each: int) -> Tensor:
        from demo_model.data import heldout_crops

        return heldout_crops(SIZE, each, only=names)

    def encode(self, images: Tensor) -> Tensor:
        return self.host.encode_image(self.vae, images.movedim(1, -1))

    def decode(self, latents: Tensor) -> Tensor:
        return self.host.decode_latent(self.vae, latents).movedim(-1, 1)

    def follow(self, model, caption: str, controls: Tensor, seed: int = 11) -> Tensor:
        """Edited pictures, as KSampler makes them (cfg 1, euler, simple), all in one batch."""
        import comfy.sample

        text = self.host.encode_text(self.clip, caption)
        positive = self.host.conditioning(text, [self.encode(controls)], 2.5)
        height, width = controls.shape[2] // 8, controls.shape[3] // 8
        empty = torch.zeros(len(controls), 16, height, width)
        noise = comfy.sample.prepare_noise(empty, seed)
        with torch.inference_mode():
            latents = comfy.sample.sample(
                model,
                noise,
                20,
                1.0,
                "euler",
                "simple",
                positive,
                positive,
                empty,
                disable_pbar=True,
                seed=seed,
            )
        return self.decode(latents)

    def grid(self, name: str, rows: Sequence[Tensor]) -> None:
        """A picture of several batches, one a row."""
        from PIL import Image

        table = torch.cat([torch.cat(list(row), dim=2) for row in rows], dim=1)
        pixels = (table.clamp(0, 1) * 255).byte().movedim(0, -1).numpy()
        Image.fromarray(pixels).save(self.out / f"{name}.png")


def pairs_of(edit, images: Tensor) -> tuple[Tensor, Tensor]:
    """Controls and targets of one edit; planted defects differ from picture to picture."""
    import numpy as np

    pairs = [edit.make(image, np.random.RandomState(100 + i)) for i, image in enumerate(images)]
    return torch.stack([c for c, _ in pairs]), torch.stack([t for _, t in pairs])


def decibel(a: Tensor, b: Tensor) -> float:
    from demo_model.vae import psnr

    return round(psnr(a, b).mean().item(), 2)


def measure_load(bench: Bench) -> dict:
    from kontext.trainer.host.demo import FOLDER, load_demo_model

    started = time.perf_counter()
    load_demo_model()
    loaded = time.perf_counter()
    bench.follow(bench.model, "keep the image unchanged", bench.tests[:1])
    return {
        "load_s": round(loaded - started, 2),
        "sample_s": round(time.perf_counter() - loaded, 2),
        "megabytes": round(sum(f.stat().st_size for f in FOLDER.glob("*.safetensors")) / 1e6, 1),
    }


def measure_vae(bench: Bench) -> dict:
    from demo_model.data import heldout_crops

    figures = {}
    for size in (128, 256):
        images = heldout_crops(size)
        rebuilt = torch.cat([bench.decode(bench.encode(image[None])) for image in images])
        figures[f"vae_{size}_db"] = decibel(rebuilt, images)
    latents = bench.model.model.process_latent_in(bench.encode(heldout_crops(SIZE)))
    figures["latent_mean"] = round(latents.mean().item(), 3)
    figures["latent_deviation"] = round(latents.std().item(), 3)
    return figures


def measure_edits(bench: Bench) -> dict:
    """Each trained edit on the test photographs: quality, ceiling, and whose target is nearest."""
    from demo_model.edits import TRAINED
    from demo_model.vae import psnr

    targets = {edit.name: pairs_of(edit, bench.tests)[1] for edit in TRAINED}
    figures, rows = {}, [bench.tests]
    for edit in TRAINED:
        edited = bench.follow(bench.model, edit.instructions[0], bench.tests)
        wanted = targets[edit.name]
        scores = torch.stack([psnr(edited, target) for target in targets.values()])
        nearest = scores.argmax(0) == list(targets).index(edit.name)
        figures[edit.name] = {
            "db": decibel(edited, wanted),
            "ceiling_db": decibel(bench.decode(bench.encode(wanted)), wanted),
            "nearest": round(nearest.float().mean().item(), 3),
        }
        rows.append(edited)
    bench.grid("trained_edits", rows)
    return figures


def quality_of_trained(bench: Bench, model) -> list[float]:
    """PSNR of every other trained edit on one crop of each test photograph."""
    from demo_model.edits import TRAINED

    images = bench.tests[::3]
    return [
        decibel(bench.follow(model, edit.instructions[0], images), pairs_of(edit, images)[1])
        for edit in TRAINED[::2]
    ]


def twenty_crops(folder: Path) -> Tensor:
    """A crop of every third photograph that the base was trained on."""
    import numpy as np

    from demo_model import data

    data.fetch(folder)
    photographs = data.training_photographs(folder)[::3]
    return data.to_tensor(
        [
            data.random_crop(np.random.RandomState(i), [photograph], SIZE, SIZE)
            for i, photograph in enumerate(photographs)
        ]
    )


def train_lora(bench: Bench, name: str, edit, images: Tensor, **settings):
    """Write pairs of one edit to disk and train on them; returns the run and when, in seconds,
    each of its checkpoints was there."""
    import shutil

    from kontext.dataset.pair import Pair, PairedDataset
    from kontext.trainer.config import TrainConfig
    from kontext.trainer.loop import train
    from kontext.trainer.request import TrainingRequest
    from PIL import Image

    folder = bench.out / "pairs" / name
    folder.mkdir(parents=True, exist_ok=True)
    pairs = []
    controls, targets = pairs_of(edit, images)
    for i, sides in enumerate(zip(controls, targets, strict=True)):
        paths = [folder / f"{i:02}_{side}.png" for side in ("control", "target")]
        for image, path in zip(sides, paths, strict=True):
            pixels = (image * 255).round().byte().movedim(0, -1).numpy()
            Image.fromarray(pixels).save(path)
        pairs.append(Pair(f"{i:02}", (paths[0],), paths[1], edit.instructions[0]))
    config = TrainConfig(resolution=SIZE, preview_steps=0, **settings)
    base = bench.host.Base(bench.model, bench.clip, bench.vae)
    # a finished run of an earlier evaluation would be taken for this one, in no time
    shutil.rmtree(bench.out / "runs", ignore_errors=True)
    started = time.time()
    request = TrainingRequest(
        base,
        PairedDataset(tuple(pairs)),
        config,
        name,
        bench.out / "runs",
        bench.out / "cache",
        replace=True,
    )
    run = train(request)
    return run, [each.path.stat().st_mtime - started for each in run.checkpoints()]


def measure_loras(bench: Bench, families: str, images: Tensor) -> dict:
    """A LoRA for every held-out edit, trained on pairs made of these images: the share of
    base-to-ceiling that it covers, and its cost."""
    from demo_model.edits import HELD_OUT, HELD_OUT_KINDS
    from demo_model.vae import psnr

    figures = {}
    before = quality_of_trained(bench, bench.model)
    for edit in [each for each in HELD_OUT if each.name in families]:
        controls, targets = pairs_of(edit, bench.tests)
        instruction = edit.instructions[0]
        untaught = bench.follow(bench.model, instruction, controls)
        ceiling = decibel(bench.decode(bench.encode(targets)), targets)
        base = decibel(untaught, targets)
        followed = psnr(untaught, targets) > psnr(untaught, controls)
        row = {
            "kind": HELD_OUT_KINDS[edit.name],
            "base_db": base,
            "ceiling_db": ceiling,
            "base_follows": round(followed.float().mean().item(), 3),
        }
        rows = [controls, untaught]
        for rate in RATES:
            run, seconds = train_lora(
                bench,
                f"{edit.name} {rate}",
                edit,
                images,
                keep=0,
                steps=TRAINING_STEPS,
                learning_rate=float(rate),
            )
            early = max(1, sum(each <= PATIENCE for each in seconds)) - 1
            quality = {}
            for at in (early, -1):
                tensors = bench.host.load_lora_file(run.checkpoints()[at].path)
                taught = bench.host.with_lora(bench.model, tensors, 1.0)
                edited = bench.follow(taught, instruction, controls)
                quality[at] = decibel(edited, targets)
            covered = {at: round((db - base) / (ceiling - base), 3) for at, db in quality.items()}
            after = quality_of_trained(bench, taught)
            drops = [b - a for b, a in zip(before, after, strict=True)]
            row[rate] = {
                "db": quality[-1],
                "covered": covered[-1],
                "early": {
                    "covered": covered[early],
                    "step": run.checkpoints()[early].step,
                    "seconds": round(seconds[early]),
                },
                "mean_drop_db": round(sum(drops) / len(drops), 2),
                "worst_drop_db": round(max(drops), 2),
                "seconds": round(seconds[-1]),
            }
            rows.append(edited)
            print(edit.name, rate, row[rate], flush=True)
        bench.grid(f"held_out_{edit.name}", [*rows, targets])
        figures[edit.name] = row
    return figures


def measure_memorising(bench: Bench) -> dict:
    """Far too long on 4 pairs of one photograph: quality on these and on others, by step."""
    from demo_model.edits import HELD_OUT

    edit, images = HELD_OUT[0], bench.crops([MEMORISED], 4)
    run, _ = train_lora(
        bench,
        "memorise",
        edit,
        images,
        learning_rate=1e-3,
        steps=TRAINING_STEPS,
        save_every=50,
        keep=0,
    )
    pairs = {"seen": pairs_of(edit, images), "unseen": pairs_of(edit, bench.tests)}
    curve, edited = [], {}
    for checkpoint in [
        each for each in run.checkpoints() if each.step <= 500 or each.step % 250 == 0
    ]:
        model = bench.host.with_lora(bench.model, bench.host.load_lora_file(checkpoint.path), 1.0)
        edited[checkpoint.step] = {
            name: bench.follow(model, edit.instructions[0], controls)
            for name, (controls, _) in pairs.items()
        }
        curve.append(
            {"step": checkpoint.step}
            | {
                f"{name}_db": decibel(edited[checkpoint.step][name], targets)
                for name, (_, targets) in pairs.items()
            }
        )
        print(curve[-1], flush=True)
    best = max(curve, key=lambda point: point["unseen_db"])["step"]
    for name, (controls, targets) in pairs.items():
        bench.grid(
            f"memorised_{name}",
            [controls, edited[best][name], edited[curve[-1]["step"]][name], targets],
        )
    return {"curve": curve}


def table(figures: dict) -> str:
    """The figures as Markdown."""
    lines = [
        f"Measured {figures['date']} on {figures['machine']}.",
        "",
        "| what | measured | wanted |",
        "| --- | --- | --- |",
    ]
    if load := figures.get("load"):
        lines += [
            f"| weights on disk | {load['megabytes']} MB | 24 MB |",
            f"| loading | {load['load_s']} s | 3 s |",
            f"| 20 sampling steps at 128 px | {load['sample_s']} s | 10 s |",
        ]
    if vae := figures.get("vae"):
        lines += [
            f"| VAE at 128 px | {vae['vae_128_db']} dB | 26 dB |",
            f"| VAE at 256 px | {vae['vae_256_db']} dB | 26 dB |",
            f"| latent mean, deviation | {vae['latent_mean']}, {vae['latent_deviation']} | 0, 1 |",
        ]
    for name, row in figures.get("edits", {}).items():
        wanted = "24 dB" if name == "keep" else "22 dB, 95 %"
        lines.append(
            f"| {name} | {row['db']} dB of the VAE's {row['ceiling_db']}, nearest to its "
            f"own target {row['nearest']:.0%} | {wanted} |"
        )
    for name, row in figures.get("loras", {}).items():
        lines.append(
            f"| held out: {name} ({row['kind']}) | base {row['base_db']} dB, ceiling "
            f"{row['ceiling_db']} dB, base follows {row['base_follows']:.0%} | 0 % |"
        )
        for rate, wanted in RATES.items():
            lora, early = row[rate], row[rate]["early"]
            wanted = "none" if row["kind"] == "geometric" else wanted
            lines.append(
                f"| LoRA {name}, {rate} | {lora['db']} dB, covers {lora['covered']:.0%} "
                f"after {lora['seconds']} s, {early['covered']:.0%} by step {early['step']} after "
                f"{early['seconds']} s; trained edits lose {lora['mean_drop_db']} dB "
                f"(worst {lora['worst_drop_db']}) | {wanted}, {PATIENCE} s, 2 dB |"
            )
    if memorise := figures.get("memorise"):
        best = max(memorise["curve"], key=lambda point: point["unseen_db"])
        last = memorise["curve"][-1]
        lines.append(
            f"| 4 pairs, too long | unseen {best['unseen_db']} dB at step {best['step']}, "
            f"{last['unseen_db']} dB at {last['step']}; seen {last['seen_db']} dB "
            "| falls again |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--comfyui",
        type=Path,
        default=os.environ.get("COMFYUI_PATH"),
        help="ComfyUI's folder (or COMFYUI_PATH)",
    )
    parser.add_argument("--out", type=Path, default=ROOT / ".host" / "demo-training" / "evaluation")
    parser.add_argument(
        "--photographs",
        type=Path,
        default=ROOT / ".host" / "demo-training" / "photographs",
        help="those that the base was trained on; fetched if missing",
    )
    parser.add_argument("--only", default=",".join(SECTIONS), help="sections to measure anew")
    parser.add_argument(
        "--families",
        default="duotone,scratches,pencil,upside_down,seal,board",
        help="the held-out edits that LoRAs are trained for",
    )
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    boot(options.comfyui, options.out / "comfyui")
    bench = Bench(options.out)
    results = options.out / "figures.json"
    figures = json.loads(results.read_text(encoding="utf-8")) if results.exists() else {}
    figures |= {
        "date": date.today().isoformat(),
        "machine": f"{os.cpu_count()} CPU cores ({platform.machine()}), "
        f"PyTorch {torch.__version__}",
    }
    measures = {
        "load": measure_load,
        "vae": measure_vae,
        "edits": measure_edits,
        "loras": lambda bench: (
            figures.get("loras", {})
            | measure_loras(bench, options.families, twenty_crops(options.photographs))
        ),
        "memorise": measure_memorising,
    }
    for section in options.only.split(","):
        figures[section] = measures[section](bench)
        results.write_text(json.dumps(figures, indent=1), encoding="utf-8")
    (options.out / "table.md").write_text(table(figures), encoding="utf-8")
    print(table(figures))


if __name__ == "__main__":
    main()
