"""Show what products in 8 bits do to the held-out loss of the demo model.

    python scripts/proofs/matmul8.py --comfyui PATH [--out FOLDER] [--seeds 4] [--steps 200]

Trains the same LoRAs, from the same seeds, with exact and with 8-bit products, scores each by the
held-out loss (always computed exactly, same draws), and sets the difference that 8 bits make beside
the one that another seed makes. Finished runs are kept in the output folder.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import zlib
from itertools import product
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # scripts/

from boot import ROOT, boot

KINDS = ("exact", "int8", "fp8", "mxfp8")
SIZE = 128  # with fewer tokens nothing is multiplied in 8 bits
DRAWS = (8, 1)  # noise levels and noises of a held-out pair, the same for all


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--comfyui", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=ROOT / ".host" / "matmul8")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--steps", type=int, default=200)
    options = parser.parse_args()
    boot(options.comfyui, options.out / "base")
    out = options.out / weights_in_use()
    turns = product(range(options.seeds), KINDS)
    print(table([train_and_score(out, kind, seed, options.steps) for seed, kind in turns]))


def weights_in_use() -> str:
    """Results of one demo model are not to be compared with those of another."""
    return f"{zlib.crc32((ROOT / 'models' / 'demo' / 'demo_kontext.safetensors').read_bytes()):08x}"


def train_and_score(out: Path, kind: str, seed: int, steps: int) -> dict[str, Any]:
    """Held-out loss of the base and of the LoRA trained this way, with the seconds it took."""
    file = out / f"{kind}_{seed}_{steps}.json"
    if file.exists():
        return json.loads(file.read_text(encoding="utf-8"))
    if out.name != weights_in_use():
        raise SystemExit("The demo model has changed in the meantime: start again.")
    from kontext.trainer.config import TrainConfig
    from kontext.trainer.loop import train
    from kontext.trainer.request import TrainingRequest

    from proofs import verdicts as proof

    out.mkdir(exist_ok=True)
    laboratory, regime = proof.Laboratory(out, SIZE), proof.REGIMES["right"]
    folder = out / f"work_{kind}_{seed}_{steps}"
    pairs = laboratory.dataset(proof.edits()[0], regime, 0, folder / "pairs")
    config = TrainConfig(
        steps=steps, save_every=steps, learning_rate=1e-3, seed=seed, resolution=SIZE,
        preview_steps=0, matmul=kind,
    )  # fmt: skip
    started = time.perf_counter()
    places = folder, folder / "cache"
    request = TrainingRequest(laboratory.base, pairs, config, "proof", *places, replace=True)
    run = train(request)
    seconds = time.perf_counter() - started
    losses = exact_losses(laboratory.base, pairs, run, config.replace(matmul="exact"), folder)
    result = {"kind": kind, "seed": seed, "steps": steps, "seconds": seconds, **losses}
    file.write_text(json.dumps(result), encoding="utf-8")
    print(result, flush=True)
    return result


def exact_losses(base: Any, pairs: Any, run: Any, config: Any, folder: Path) -> dict[str, float]:
    """Mean held-out loss without and with the LoRA, exact products, the same draws for all."""
    import torch
    from kontext.trainer import host
    from kontext.trainer.data.cache import Cache
    from kontext.trainer.families import family_of
    from kontext.trainer.loss.holdout import held_out_losses

    lora = host.load_lora_file(run.checkpoints()[-1].path)
    cache, found = Cache(folder / "cache", base, config), {}
    with torch.inference_mode():
        encoded = [cache.encode(pair) for pair in pairs.holdout]
    for name, model in [("base", base.model), ("loss", host.with_lora(base.model, lora, 1.0))]:
        model = host.for_training(model)
        host.load_alone(model, 0)
        dtype = host.training_dtype(model, config.dtype)
        with host.sampling_allowed():
            losses = held_out_losses(
                family_of(base.model), encoded, config, dtype, model.load_device, *DRAWS
            )
        found[name] = losses.mean().item()
    return found


def table(results: list[dict[str, Any]]) -> str:
    """One row per seed; the noise is what the exact runs of different seeds differ by."""
    import numpy as np

    by = {(r["kind"], r["seed"]): r for r in results}
    seeds = sorted({r["seed"] for r in results})
    lines = [f"| seed | base | {' | '.join(KINDS)} |", "| --- " * (2 + len(KINDS)) + "|"]
    for seed in seeds:
        losses = [f"{by[kind, seed]['loss']:.5f}" for kind in KINDS]
        lines.append(f"| {seed} | {by['exact', seed]['base']:.5f} | {' | '.join(losses)} |")
    gains = {k: np.array([by[k, s]["loss"] - by[k, s]["base"] for s in seeds]) for k in KINDS}
    spread = gains["exact"].std(ddof=1)
    lines.append(f"\nexact runs of different seeds: standard deviation {spread:.5f}")
    for kind in KINDS[1:]:
        gap = gains[kind] - gains["exact"]
        error = gap.std(ddof=1) / len(gap) ** 0.5
        lines.append(f"{kind} minus exact, same seed: {gap.mean():+.5f} ± {error:.5f}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
