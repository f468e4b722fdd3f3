"""A training run on disk: its settings, log, checkpoints and what resuming needs."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import yaml
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ...files import storing, write_atomically
from ...lines import Lines
from ..config import DOES_NOT_MATTER, MAY_CHANGE, TrainConfig
from ..files import save_tensors
from .export import comfyui_tensors, model_metadata
from .identity import Identity

LONGEST_NAME = 80  # it occurs twice in a path, and Windows stops at 260 characters
MOST_BYTES = 200  # of the 255 that Linux allows, less the step and the suffix
RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
UNFIT = re.compile(r'[<>:"/\\|?*\x00-\x1f]')
OWN_FILES = (
    "run.yaml", "log.jsonl", "pairs.json", "pinned.json", "loss.png", "log.csv", "run.html",
    "scores/scores.json",
)  # fmt: skip
SAVE_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


class RunError(ValueError):
    """A run's name is unfit, taken or unknown."""


@dataclass(frozen=True, order=True)
class Checkpoint:
    """A saved LoRA and the number of steps it was trained for."""

    step: int
    path: Path

    def metadata(self) -> dict[str, str]:
        with safe_open(self.path, "pt") as file:
            return file.metadata() or {}


class Run:
    """The folders of one run under ComfyUI's output directory.

    `<output>/loras/<name>/` holds the checkpoints, `<output>/kontext_runs/<name>/` the rest.
    """

    def __init__(self, name: str, output: Path) -> None:
        self.name = checked_name(name)
        self.output = output
        self.folder = output / "kontext_runs" / self.name
        self.lora_folder = output / "loras" / self.name
        self.state_file = self.folder / "state" / "state.safetensors"
        self.lines = Lines(self.folder / "log.jsonl", logged_step)

    @staticmethod
    def names(output: Path) -> list[str]:
        """Names of all runs, the latest first."""
        found = output.glob("kontext_runs/*/run.yaml")
        newest = sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)
        return [path.parent.name for path in newest]

    @classmethod
    def open(cls, name: str, output: Path) -> Run:
        """An existing run; RunError lists those that exist."""
        run = cls(name, output)
        if not run.exists():
            known = ", ".join(cls.names(output)) or "none yet"
            raise RunError(f"There is no training run {run.name!r} in {output}. Runs: {known}.")
        return run

    @classmethod
    def create(cls, name: str, output: Path, identity: Identity, replace: bool = False) -> Run:
        """A new run, or the one of this name, to be continued or, if it has finished, used.

        Raises RunError if that one was made from something else, unless `replace` deletes it. What
        is in MAY_CHANGE may differ as long as there are steps to be done.
        """
        run = cls(name, output)
        if run.exists():
            changed = run.changes(identity)
            if changed and run.steps_done() and not replace:
                raise RunError(
                    f"A run named {run.name!r} exists and differs: {'; '.join(changed)}. "
                    "Undo this to continue it, choose another name, or turn on `replace` to "
                    "delete that run."
                )
            run.clear(everything=bool(changed))
        with storing(run.folder):
            run.lora_folder.mkdir(parents=True, exist_ok=True)
            run.state_file.parent.mkdir(parents=True, exist_ok=True)
        run.write_identity(identity)
        return run

    def changes(self, identity: Identity) -> list[str]:
        """In words, what keeps this run from being continued, or used, as one of `identity`."""
        free = DOES_NOT_MATTER
        if self.steps_done() < identity.config.steps:
            free = free | MAY_CHANGE
        differences = self.identity().differences(identity)
        changed = [words for name, words in differences.items() if name not in free]
        if 0 < self.steps_done() < identity.config.steps and not self.has_state():
            changed.append(f"{self.state_file}, which continuing needs, is gone")
        return changed

    def steps_done(self) -> int:
        return max((checkpoint.step for checkpoint in self.checkpoints()), default=0)

    def clear(self, everything: bool) -> None:
        """Remove what a killed process left unfinished; or all of this run's files, no others."""
        folders = (self.lora_folder, self.folder, self.state_file.parent)
        files = [path for folder in folders for path in folder.glob("*.tmp")]
        if everything:
            files += [checkpoint.path for checkpoint in self.checkpoints()]
            files += [self.state_file, *(self.folder / name for name in OWN_FILES)]
            files += self.folder.glob("samples/step_*.png")
            files += self.folder.glob("sample_controls/*.png")
        for path in files:
            with storing(path):
                path.unlink(missing_ok=True)

    def exists(self) -> bool:
        return (self.folder / "run.yaml").is_file()

    # ---- what it was made from -------------------------------------------------------------

    def write_identity(self, identity: Identity) -> None:
        """Note what the run is made from; the rest of run.yaml stays, should it end right here."""
        path = self.folder / "run.yaml"
        content = yaml.safe_load(path.read_text(encoding="utf-8")) if self.exists() else {}
        content |= {
            "name": self.name,
            "changed": time.strftime("%Y-%m-%d %H:%M:%S"),
            "base_hash": identity.base_hash,
            "dataset_hash": identity.dataset_hash,
            "start_hash": identity.start_hash,
            "text_hash": identity.text_hash,
            "vae_hash": identity.vae_hash,
            "config": asdict(identity.config),
        }
        pairs = json.dumps(dict(identity.pairs), ensure_ascii=False, indent=0)
        write_atomically(self.folder / "pairs.json", pairs.encode("utf-8", "surrogatepass"))
        text = yaml.safe_dump(content, allow_unicode=True, sort_keys=False)
        write_atomically(path, text.encode("utf-8"))

    def write_plan(self, words: str) -> None:
        """Note the memory plan in run.yaml, beside what the run was made from."""
        path = self.folder / "run.yaml"
        content = yaml.safe_load(path.read_text(encoding="utf-8")) | {"memory_plan": words}
        text = yaml.safe_dump(content, allow_unicode=True, sort_keys=False)
        write_atomically(path, text.encode("utf-8"))

    def identity(self) -> Identity:
        content = yaml.safe_load((self.folder / "run.yaml").read_text(encoding="utf-8"))
        known = {setting.name for setting in fields(TrainConfig)}
        unknown = content["config"].keys() - known
        if unknown:
            raise RunError(
                f"Run {self.name!r} has settings that this version of the trainer does not know: "
                f"{', '.join(sorted(unknown))}. Update the trainer, or choose another name."
            )
        names = [f"{of}_hash" for of in ("base", "dataset", "start", "text", "vae")]
        hashes: dict[str, str] = {name: content.get(name, "") for name in names}
        path = self.folder / "pairs.json"
        text = path.read_bytes().decode("utf-8", "surrogatepass") if path.exists() else "{}"
        return Identity(TrainConfig(**content["config"]), **hashes, pairs=json.loads(text))

    @property
    def config(self) -> TrainConfig:
        return self.identity().config

    # ---- checkpoints -----------------------------------------------------------------------

    def checkpoints(self) -> tuple[Checkpoint, ...]:
        """All saved LoRAs, earliest first."""
        pattern = re.compile(re.escape(self.name) + r"_(\d{6})\.safetensors")
        found = (
            (pattern.fullmatch(path.name), path)
            for path in (self.lora_folder.iterdir() if self.lora_folder.is_dir() else ())
        )
        return tuple(sorted(Checkpoint(int(match[1]), path) for match, path in found if match))

    def checkpoint_at(self, step: int) -> Checkpoint:
        """The checkpoint of this step, or the last one for 0."""
        existing = {checkpoint.step: checkpoint for checkpoint in self.checkpoints()}
        wanted = step or max(existing, default=0)
        if wanted not in existing:
            steps = ", ".join(map(str, existing)) or "none"
            raise RunError(f"Run {self.name!r} has no checkpoint at step {step}. It has: {steps}.")
        return existing[wanted]

    def has_checkpoint(self, step: int) -> bool:
        return any(checkpoint.step == step for checkpoint in self.checkpoints())

    @property
    def finished(self) -> bool:
        return self.has_checkpoint(self.config.steps)

    def write_checkpoint(
        self,
        step: int,
        tensors: Mapping[str, Tensor],
        identity: Identity,
        about: Mapping[str, str] | None = None,
    ) -> Checkpoint:
        """Save the LoRA as it is after `step` steps; `about` is what the file says of the model."""
        path = self.lora_folder / f"{self.name}_{step:06d}.safetensors"
        config = asdict(identity.config)
        metadata = model_metadata(
            path.stem, tensors, config, identity.base_hash, identity.dataset_hash, step, about
        )
        dtype = SAVE_DTYPES[identity.config.save_dtype]
        alpha = identity.config.scale * identity.config.rank
        save_tensors(comfyui_tensors(tensors, alpha, dtype), path, metadata)
        return Checkpoint(step, path)

    def drop_oldest(self, keep: int) -> list[str]:
        """Delete all but the last `keep` checkpoints, the best and the pinned; 0 keeps all.

        Returns in words which could not be deleted: another program may have them open.
        """
        old = self.checkpoints()[:-keep] if keep else ()
        stay = self.pinned() | {best.step for best in [self.best()] if best}
        stuck = []
        for checkpoint in old:
            if checkpoint.step not in stay:
                try:
                    checkpoint.path.unlink(missing_ok=True)
                except OSError as error:
                    stuck.append(f"{checkpoint.path.name} ({error.strerror})")
        return stuck

    def best(self) -> Checkpoint | None:
        """The checkpoint with the lowest mean held-out loss; None where none was measured."""
        losses = {entry["step"]: entry.get("holdout") for entry in self.logged()}
        measured = [
            (sum(held_out) / len(held_out), checkpoint)
            for checkpoint in self.checkpoints()
            if (held_out := losses.get(checkpoint.step)) and math.isfinite(sum(held_out))
        ]
        return min(measured)[1] if measured else None

    def pinned(self) -> frozenset[int]:
        """Steps whose checkpoints are never deleted: the numbers in `pinned.json`."""
        path = self.folder / "pinned.json"
        return frozenset(json.loads(path.read_text(encoding="utf-8")) if path.exists() else ())

    def pin(self, step: int, pinned: bool = True) -> None:
        """Never delete the checkpoint of this step, or let it go again. RunError if it is none."""
        self.checkpoint_at(step)
        steps = self.pinned() | {step} if pinned else self.pinned() - {step}
        write_atomically(self.folder / "pinned.json", json.dumps(sorted(steps)).encode())

    # ---- state and log ---------------------------------------------------------------------

    def write_state(self, step: int, tensors: Mapping[str, Tensor], rest: str = "") -> None:
        """Save what continuing from `step` needs, replacing the previous state."""
        threads = str(torch.get_num_threads())
        save_tensors(
            tensors, self.state_file, {"step": str(step), "rest": rest, "threads": threads}
        )

    def has_state(self) -> bool:
        return self.state_file.is_file()

    def state_metadata(self) -> dict[str, str]:
        """What was noted with the saved state: `step`, `threads`, and `rest`; empty without one."""
        if not self.has_state():
            return {}
        try:
            with safe_open(self.state_file, "pt") as file:
                return file.metadata()
        except SafetensorError as error:
            raise self.damaged_state(error) from error

    def state_step(self) -> int:
        """The step that the saved state follows; -1 without one."""
        return int(self.state_metadata().get("step", -1))

    def threads(self) -> int:
        """CPU threads that the saved state was computed with; without one, those of now."""
        return int(self.state_metadata().get("threads", torch.get_num_threads()))

    def read_state(self) -> tuple[int, dict[str, Tensor], str]:
        """The step that the saved state follows, its tensors, and the rest."""
        metadata = self.state_metadata()
        try:
            # not mapped: Windows could not replace the file while the optimiser holds its tensors
            tensors = safetensors.torch.load(self.state_file.read_bytes())
        except SafetensorError as error:
            raise self.damaged_state(error) from error
        return int(metadata["step"]), tensors, metadata["rest"]

    def damaged_state(self, error: SafetensorError) -> RunError:
        return RunError(
            f"{self.state_file}, which continuing needs, is damaged ({error}). Choose another "
            "name and go on from the last checkpoint with `start_from`."
        )

    def log(self, **entry: Any) -> None:
        self.lines.append(entry, durable=False)

    def logged(self) -> list[dict[str, Any]]:
        """The log's entries, one a step."""
        return self.lines.read()

    def rewind_log(self, step: int) -> None:
        """Forget the steps after `step`: they are about to be done again."""
        self.lines.rewrite(entry for entry in self.lines if entry["step"] <= step)


def logged_step(entry: dict[str, Any]) -> dict[str, Any]:
    """A line of the log as it was written; KeyError, TypeError or ValueError for no step's."""
    if type(entry["step"]) is not int:
        raise TypeError("the step is no whole number")
    optional = ("learning_rate", "grad_norm", "seconds", "memory")
    numbers = [entry["loss"], *(entry.get(name) or 0 for name in optional)]
    numbers += [*entry.get("holdout", ()), *entry.get("holdout_base", ())]
    if not all(type(number) in (int, float) for number in numbers):
        raise TypeError("not all measurements are numbers")
    return entry


def checked_name(name: str) -> str:
    """The name of a run, fit to be a folder's on every system."""
    name = name.strip()
    if not name:
        raise RunError("Give the run a name.")
    if UNFIT.search(name) or name.endswith(".") or RESERVED.fullmatch(name):
        raise RunError(
            f"{name!r} cannot be a run's name, because it names a folder: no / \\ : * ? \" < > | "
            "and no final dot."
        )
    if len(name) > LONGEST_NAME or len(name.encode("utf-8")) > MOST_BYTES:
        raise RunError(
            f"The run's name has {len(name)} characters, too many for a file name on every "
            f"system; {LONGEST_NAME} Latin or {MOST_BYTES // 3} Chinese ones fit: {name[:40]}…"
        )
    return name
