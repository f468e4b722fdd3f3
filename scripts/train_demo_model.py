"""Train the demo model from nothing: photographs, VAE, then the Kontext transformer.

    python scripts/train_demo_model.py vae          --comfyui PATH [--work FOLDER]
    python scripts/train_demo_model.py transformer  --comfyui PATH [--work FOLDER]

Both stages resume from their checkpoint in the work folder, draw everything from one seed and
append a line of figures to <work>/<stage>.jsonl; what they finish goes to models/demo/.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def boot(comfyui: Path) -> None:
    """Make ComfyUI importable in this process, on the CPU unless a GPU is asked for."""
    sys.path[:0] = [str(comfyui), str(ROOT)]
    arguments, sys.argv = sys.argv, ["main.py", "--cpu"]
    import comfy.options

    comfy.options.enable_args_parsing()
    import comfy.cli_args  # noqa: F401  parses sys.argv once, at import

    sys.argv = arguments


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("vae", "transformer"))
    parser.add_argument("--comfyui", type=Path, default=os.environ.get("COMFYUI_PATH"),
                        help="ComfyUI's folder (or COMFYUI_PATH)")
    parser.add_argument("--work", type=Path, default=ROOT / ".demo-training",
                        help="photographs, checkpoints and curves")
    parser.add_argument("--steps", type=int, default=None)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    options = parser.parse_args()
    boot(options.comfyui)

    import demo_data
    import torch

    torch.set_num_threads(options.threads)
    demo_data.fetch(options.work / "photographs")
    photographs = demo_data.training_photographs(options.work / "photographs")
    print(f"{len(photographs)} training photographs", flush=True)
    started = time.time()

    def log(**figures: float) -> None:
        line = json.dumps({"seconds": round(time.time() - started), **figures})
        print(line, flush=True)
        with (options.work / f"{options.stage}.jsonl").open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    if options.stage == "vae":
        from demo_vae import train_vae

        train_vae(photographs, options.work, ROOT / "models/demo/demo_vae.safetensors",
                  steps=options.steps or 3000, seed=options.seed, log=log)
    else:
        from demo_transformer import train_transformer

        train_transformer(photographs, options.work, ROOT / "models/demo", options.seed, log)


if __name__ == "__main__":
    main()
