"""The smallest training there is, and what every attack has to leave as it was."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests")]

import conftest  # noqa: E402, F401  boots ComfyUI on the CPU, imports the pack as `kontext`
import torch  # noqa: E402
from kontext.trainer import host  # noqa: E402
from kontext.trainer.host.demo import load_text_encoder  # noqa: E402
from kontext.trainer.loop import train  # noqa: E402
from kontext.trainer.request import TrainingRequest  # noqa: E402
from kontext.trainer.runs import rescue  # noqa: E402
from kontext.trainer.runs.run import Run  # noqa: E402

# ComfyUI has a package `tests` of its own
sys.modules["pack_tests"] = ModuleType("pack_tests")
sys.modules["pack_tests"].__path__ = [str(ROOT / "tests")]
from pack_tests.trainer.conftest import (  # noqa: E402
    flux_weights,
    load_flux,
    random_weights,
    write_pairs,
)
from pack_tests.trainer.short_runs import SHORT  # noqa: E402

torch.set_num_threads(1)
SETTINGS = SHORT.replace(steps=4, save_every=2, rank=1)


@dataclass
class Tally:
    """What an attack came to. `wrong` says in words what must not have happened."""

    name: str
    cases: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def note(self, outcome: str, wrong: str = "") -> None:
        self.cases += 1
        self.outcomes[outcome] += 1
        if wrong:
            self.wrong.append(wrong)
            print(f"  WRONG: {wrong}", flush=True)

    def __str__(self) -> str:
        outcomes = ", ".join(f"{count} {name}" for name, count in self.outcomes.most_common())
        return f"| {self.name} | {self.cases} | {outcomes} | {len(self.wrong)} |"


class Ground:
    """A folder for each case, one model for all of them."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="kontext-reliability-"))
        rescue.LAST_RESORT = self.folder / "last resort"
        from comfy.sd import VAE
        from comfy.taesd.taesd import TAESD

        weights = random_weights(TAESD(latent_channels=16), 1)
        weights |= {"vae_scale": torch.tensor(0.3611), "vae_shift": torch.tensor(0.1159)}
        shape = {"hidden_size": 128, "depth": 1, "depth_single_blocks": 1}
        self.base = host.Base(
            load_flux(flux_weights(**shape)), load_text_encoder(), VAE(sd=weights)
        )
        self.pairs = write_pairs(self.folder / "pairs", 2)
        self.outside = {self.folder / "pairs": digests(self.folder / "pairs")}
        self.number = 0

    def place(self) -> Path:
        """An empty output folder."""
        self.number += 1
        place = self.folder / f"case {self.number}"
        place.mkdir()
        return place

    def train(self, output: Path, config: Any = SETTINGS, **options: Any) -> Run:
        with torch.inference_mode():  # as ComfyUI runs every node
            request = {"base": self.base, "pairs": self.pairs, "config": config, "name": "ring"}
            places = {"output": output, "cache_folder": self.folder / "cache"}
            return train(TrainingRequest(**{**request, **places, **options}))

    def forget(self, output: Path) -> None:
        shutil.rmtree(output, ignore_errors=True)
        shutil.rmtree(rescue.LAST_RESORT, ignore_errors=True)

    def touched(self) -> str:
        """Which files outside the output folder are not as they were."""
        changed = [folder.name for folder, was in self.outside.items() if digests(folder) != was]
        return f"touched {changed}" if changed else ""


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def loras(run: Run) -> dict[int, str]:
    """SHA-256 of each LoRA's tensors, by step: metadata names the run and its day."""
    found = {}
    for checkpoint in run.checkpoints():
        tensors = host.load_lora_file(checkpoint.path)
        content = b"".join(
            name.encode() + tensors[name].reshape(-1).view(torch.uint8).numpy().tobytes()
            for name in sorted(tensors)
        )
        found[checkpoint.step] = hashlib.sha256(content).hexdigest()
    return found


def in_child(work: Callable[[], Any]) -> bool:
    """Do `work` in a forked process; whether it was killed. What it raises ends it quietly."""
    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        try:
            work()
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])
