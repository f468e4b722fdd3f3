"""A run on disk as a training leaves it, for tests that need no model."""

import json
from pathlib import Path

import torch
from kontext.trainer.config import TrainConfig
from kontext.trainer.runs.identity import Identity
from kontext.trainer.runs.metadata import save_lora
from kontext.trainer.runs.run import Run
from PIL import Image

from .compared import put_comparison
from .evaluation.runs import STEPS, known_run

SAVED = (500, 1000, 1500)
GRAPH = {"id": "0", "nodes": [], "links": [], "version": 0.4}


def put_run(output: Path, name: str = "rings", steps: int = STEPS) -> str:
    """A run with three checkpoints, samples, a graph and a comparison. The comparison's id."""
    config = TrainConfig(steps=steps, alpha=16.0)
    run = Run.create(name, output, Identity(config, "base", "pairs"))
    for entry in known_run("improving", tests=30):
        run.log(**entry)
    for step in SAVED:
        path = run.lora_folder / f"{name}_{step:06d}.safetensors"
        layer = "lora_unet_single_blocks_0_linear1"
        tensors = {f"{layer}.lora_{part}.weight": torch.ones(4, 4) for part in ("up", "down")}
        tensors[f"{layer}.alpha"] = torch.tensor(step / 1)
        save_lora(tensors, path, {"ss_steps": str(step)})
    identity = put_comparison(run.folder, steps=SAVED)
    for step in SAVED:
        Image.new("RGB", (96, 32), (step // 10, 90, 60)).save(
            run.folder / "samples" / f"step_{step:06d}.png"
        )
    row = {"stem": "ring & co", "caption": "Polish <b>it</b>.", "split": "train"}
    (run.folder / "dataset.jsonl").write_text(json.dumps(row) + "\n", "utf-8")
    (run.folder / "workflow.json").write_text(json.dumps(GRAPH), "utf-8")
    return identity
