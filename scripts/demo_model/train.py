"""Train the demo model from nothing: photographs, VAE, then the Kontext transformer.

    python scripts/demo_model/train.py vae          --comfyui PATH [--work FOLDER]
    python scripts/demo_model/train.py transformer  --comfyui PATH [--work FOLDER]

Both stages resume from their checkpoint in the work folder, draw everything from one seed and
append their figures to <work>/<stage>.jsonl; the weights go to models/demo/, or to --output. The
text encoder needs no training: its weights are fixed random numbers (trainer/host/demo.py).
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # scripts/

from boot import ROOT, boot
from demo_model import parallel


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stage", choices=("vae", "transformer"))
    parser.add_argument(
        "--comfyui",
        type=Path,
        default=os.environ.get("COMFYUI_PATH"),
        help="ComfyUI's folder (or COMFYUI_PATH)",
    )
    parser.add_argument(
        "--work",
        type=Path,
        default=ROOT / ".host" / "demo-training",
        help="photographs, checkpoints and curves",
    )
    parser.add_argument("--steps", type=int, help="default: what made the weights in models/demo")
    parser.add_argument(
        "--output", type=Path, default=ROOT / "models" / "demo", help="the folder of the weights"
    )
    parser.add_argument(
        "--shape",
        type=int,
        nargs=3,
        metavar=("HIDDEN", "DOUBLE", "SINGLE"),
        help="the transformer's hidden size (a multiple of 128) and blocks",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument(
        "--processes",
        type=int,
        help="processes that share each batch (default: 1 on a GPU, else 2)",
    )
    options = parser.parse_args()
    options.processes = options.processes or (1 if options.device == "cuda" else 2)

    options.output.mkdir(parents=True, exist_ok=True)

    from demo_model import data

    data.fetch(options.work / "photographs")
    rendezvous = options.work / "rendezvous"
    rendezvous.unlink(missing_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the processes end as well
    torch.multiprocessing.spawn(train, (options, rendezvous), options.processes, daemon=True)


def train(rank: int, options: argparse.Namespace, rendezvous: Path) -> None:
    """What each of the processes runs."""
    boot(options.comfyui, options.work / "comfyui", options.device)
    parallel.join(rank, options.processes, rendezvous)

    from demo_model import data

    photographs = data.training_photographs(options.work / "photographs")
    started = time.time()

    def log(**figures: float) -> None:
        line = json.dumps({"seconds": round(time.time() - started), **figures})
        print(line, flush=True)
        with (options.work / f"{options.stage}.jsonl").open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    if options.stage == "vae":
        from demo_model.vae import train_vae

        train_vae(
            photographs,
            options.work,
            options.output / "demo_vae.safetensors",
            options.steps or 6500,
            options.seed,
            options.device,
            log,
        )
    else:
        from demo_model.transformer import SHAPE, train_transformer

        train_transformer(
            photographs,
            options.work,
            options.output,
            options.steps or 24700,
            options.seed,
            options.device,
            tuple(options.shape or SHAPE),
            log,
        )


if __name__ == "__main__":
    main()
