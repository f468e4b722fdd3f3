"""A training run on disk: its folders and checkpoints, and whether it can be continued."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ...dataset.files import folded
from ...files import DamagedFileError, moment, parsed, read_json, storing, write_atomically
from ...language import say
from ..batch import DTYPES
from ..config import CHANGEABLE_ALWAYS, CHANGEABLE_UNFINISHED, TrainConfig
from ..families import family_of_lora
from ..statistics import relative_change
from .checkpoint import Checkpoint
from .ending import ending_of
from .export import comfyui_tensors
from .identity import Identity, RunError
from .lock import NAME as LOCK
from .lock import Lock, LockedError
from .log import log_lines
from .metadata import run_metadata, save_lora
from .name import checked_name, is_name
from .run_file import RunFile
from .state import State

TRASH = "kontext_trash"  # in the output folder
DIVERGED = "diverged.txt"  # in a run's folder, if it ended so: the reason


class Run:
    """The folders of one run under ComfyUI's output directory.

    `<output>/loras/<name>/` holds the checkpoints, `<output>/kontext_runs/<name>/` the rest.
    """

    def __init__(self, name: str, output: Path) -> None:
        self.name = checked_name(name)
        self.output = output
        self.folder = output / "kontext_runs" / self.name
        self.lora_folder = output / "loras" / self.name
        self.file = RunFile(self.folder, self.name)
        self.yaml_file = self.file.path
        self.state = State(self.folder / "state" / "state.safetensors")
        self.lines = log_lines(self.folder)
        self.measured: dict[int, float] = {}  # held-out change by step, up to where `best` has read
        self.lock: Lock | None = None  # of a run that this process trains

    @staticmethod
    def names(output: Path) -> list[str]:
        """Names of all runs, the latest first."""
        files = sorted(output.glob("kontext_runs/*/run.yaml"), key=modified, reverse=True)
        return [path.parent.name for path in files if is_name(path.parent.name)]

    @classmethod
    def open(cls, name: str, output: Path) -> Run:
        """An existing run; RunError lists those that exist."""
        run, known = cls(name, output), cls.names(output)
        if run.name not in known:
            raise RunError(
                say(
                    "There is no training run '{name}' in {output}. Runs: {known}.",
                    name=run.name,
                    output=output,
                    known=", ".join(known) or "-",
                )
            )
        return run

    @classmethod
    def create(cls, name: str, output: Path, identity: Identity, replace: bool = False) -> Run:
        """A new run, or the existing one of this name, to continue or, if finished, to use.

        Raises RunError if the existing run was made from something else, unless `replace` moves it
        to the trash. Settings in CHANGEABLE_UNFINISHED may differ while steps are left.
        """
        run = cls(name, output)
        run.require_name_of_its_own()
        obstacles = run.obstacles(identity)
        if obstacles and run.has_work() and not replace:
            raise RunError(
                say(
                    "A run named '{name}' exists and differs: {changes}. Undo this to continue it, "
                    "choose another name, or turn on `replace` to move that run into {trash}.",
                    name=run.name,
                    changes=say("; ").join(obstacles),
                    trash=output / TRASH,
                )
            )
        if obstacles:
            run.put_aside()
        run.remove_unfinished()
        with storing(run.folder):
            run.lora_folder.mkdir(parents=True, exist_ok=True)
            run.state.path.parent.mkdir(parents=True, exist_ok=True)
        run.file.write_identity(identity)
        return run

    def require_name_of_its_own(self) -> None:
        """Raise RunError if Windows and macOS would take the name for that of another run."""
        known = self.names(self.output)
        twins = [name for name in known if folded(name) == folded(self.name)]
        if twins and self.name not in twins:
            raise RunError(
                say(
                    "There is a run named '{other}', and '{name}' would be the same folder on "
                    "Windows and macOS. Use its exact name, or choose another one.",
                    other=twins[0],
                    name=self.name,
                )
            )

    def obstacles(self, identity: Identity) -> list[str]:
        """Why this run cannot be continued or used as one with `identity`, in words."""
        if not self.exists():
            gone = say("{file}, which says what it was made from, is missing", file=self.yaml_file)
            return [gone] if self.has_work() else []
        found = self.differences(identity)
        unfinished = self.steps_done() < self.last_step(identity.config)
        if unfinished and self.has_work() and not self.state.exists():
            found.append(
                say("{file}, which is needed to continue, is missing", file=self.state.path)
            )
        return found

    def differences(self, identity: Identity) -> list[str]:
        """The differences from `identity` that matter, in words."""
        unfinished = self.steps_done() < identity.config.steps
        free = CHANGEABLE_ALWAYS | (CHANGEABLE_UNFINISHED if unfinished else set())
        differences = self.identity().differences(identity)
        return [words for name, words in differences.items() if name not in free]

    def steps_done(self) -> int:
        return max((checkpoint.step for checkpoint in self.checkpoints()), default=0)

    def has_work(self) -> bool:
        """Whether there is anything to lose: a LoRA, steps in the log, or a state after them."""
        try:
            stepped = self.state.step() > 0
        except RunError:  # damaged, but there was one
            stepped = True
        return stepped or bool(self.saved_files()) or next(iter(self.lines), None) is not None

    def put_aside(self) -> Path:
        """Move all of this run's files into a new folder of TRASH, laid out like the output folder.

        Other files in the folder of its LoRAs stay. Nothing in TRASH is ever deleted.
        """
        trash = self.output / TRASH / f"{self.name}_{moment()}"
        own = [path for path in self.folder.glob("*") if path.name != LOCK]
        own.sort(key=lambda path: path.name == "run.yaml")  # last: without it there is no run
        with storing(trash):
            trash.mkdir(parents=True)
            for path in [*(checkpoint.path for checkpoint in self.saved_files()), *own]:
                target = trash / path.relative_to(self.output)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.move(path, target)
        return trash

    def remove_unfinished(self) -> None:
        """Delete the partial files of a killed process."""
        for folder in (self.lora_folder, self.folder, self.state.path.parent):
            for path in folder.glob("*.tmp"):
                with storing(path):
                    path.unlink(missing_ok=True)

    def require_held(self) -> None:
        """Raise LockedError if another process has taken this run over."""
        if self.lock and not self.lock.mine:
            raise LockedError(
                say(
                    "Another process has taken over run “{name}”, because this one gave no sign of "
                    "life. It stops here and writes nothing more.",
                    name=self.name,
                )
            )

    def exists(self) -> bool:
        return self.file.exists()

    # ---- what it was made from -------------------------------------------------------------

    def identity(self) -> Identity:
        """What the run was made from. If run.yaml is damaged, what its last LoRA says."""
        return self.file.identity(self.noted_in_lora)

    def noted_in_lora(self) -> dict[str, Any]:
        """The settings and hashes in the last LoRA's metadata; empty without one."""
        for checkpoint in reversed(self.checkpoints()):
            notes = checkpoint.metadata()
            try:
                config = parsed(notes["ss_training_config"].encode("utf-8", "surrogatepass"))
            except (KeyError, ValueError):  # of another program, or spoilt
                continue
            if isinstance(config, dict):
                return {
                    "config": config,
                    "base_hash": notes.get("ss_sd_model_hash", ""),
                    "dataset_hash": notes.get("ss_dataset_hash", ""),
                }
        return {}

    @property
    def config(self) -> TrainConfig:
        return self.identity().config

    # ---- checkpoints -----------------------------------------------------------------------

    def checkpoints(self) -> tuple[Checkpoint, ...]:
        """All saved LoRAs whose files are whole, earliest first."""
        return tuple(each for each in self.saved_files() if not each.damage)

    def saved_files(self) -> list[Checkpoint]:
        """All saved LoRAs, whole or not, earliest first."""
        pattern = re.compile(re.escape(self.name) + r"_(\d{6,})\.safetensors")
        files = self.lora_folder.iterdir() if self.lora_folder.is_dir() else ()
        found = ((pattern.fullmatch(path.name), path) for path in files)
        return sorted(Checkpoint(int(match[1]), path) for match, path in found if match)

    def checkpoint_at(self, step: int) -> Checkpoint:
        """The checkpoint of this step, or the last one for 0."""
        existing = {checkpoint.step: checkpoint for checkpoint in self.checkpoints()}
        wanted = step or max(existing, default=0)
        if wanted in existing and existing[wanted].is_intact:
            return existing[wanted]
        damaged = [each.path for each in self.saved_files() if each.step == wanted]
        if damaged:
            raise RunError(
                say(
                    "{path} is damaged. Choose another step, or copy the file from a backup.",
                    path=damaged[0],
                )
            )
        raise RunError(
            say(
                "Run '{name}' has no checkpoint at step {step}. It has: {steps}.",
                name=self.name,
                step=step,
                steps=", ".join(map(str, existing)) or "-",
            )
        )

    def has_checkpoint(self, step: int) -> bool:
        """Whether the LoRA of this step exists and is intact."""
        return any(each.step == step and each.is_intact for each in self.checkpoints())

    @property
    def finished(self) -> bool:
        return self.has_checkpoint(self.last_step())

    def last_step(self, config: TrainConfig | None = None) -> int:
        """The step that the run ends at with these settings, by default its own."""
        config, early = config or self.config, ending_of(self.folder)
        return early.step if early and early.holds_for(config) else config.steps

    def write_checkpoint(
        self,
        step: int,
        tensors: Mapping[str, Tensor],
        identity: Identity,
        about: Mapping[str, str] | None = None,
    ) -> Checkpoint:
        """Save the LoRA after `step` steps.

        `about` is added to the file's metadata; by default, what the tensors reveal of the model.
        """
        self.require_held()
        path = self.lora_folder / f"{self.name}_{step:06d}.safetensors"
        about = about or family_of_lora(tensors).metadata()
        metadata = {**run_metadata(self.name, step, identity), **about}
        dtype = DTYPES[identity.config.save_dtype]
        alpha = identity.config.scale * identity.config.rank
        save_lora(comfyui_tensors(tensors, alpha, dtype), path, metadata)
        return Checkpoint(step, path)

    def drop_oldest(self, keep: int) -> list[str]:
        """Delete all but the last `keep` checkpoints, the best and the pinned; 0 keeps all.

        Returns the files that could not be deleted, each with the reason: it may be open elsewhere.
        """
        old = self.checkpoints()[:-keep] if keep else ()
        try:
            stay = self.pinned() | {best.step for best in [self.best()] if best}
        except DamagedFileError as error:  # it is unknown which are pinned: keep all
            return [str(error)] if old else []
        stuck = []
        for checkpoint in old:
            if checkpoint.step not in stay:
                try:
                    checkpoint.path.unlink(missing_ok=True)
                except OSError as error:
                    stuck.append(f"{checkpoint.path.name} ({error.strerror})")
        return stuck

    def best(self) -> Checkpoint | None:
        """The checkpoint with the lowest held-out loss, relative to the base loss of each pair.

        None if none was measured. Reads only what was logged since the last call.
        """
        anew, added = self.lines.added()
        if anew:
            self.measured.clear()
        for entry in added:
            if entry.get("holdout"):
                change = relative_change(entry["holdout"], entry["holdout_base"]).mean
                self.measured[entry["step"]] = change
        measured = [
            (self.measured[checkpoint.step], checkpoint)
            for checkpoint in self.checkpoints()
            if math.isfinite(self.measured.get(checkpoint.step, math.nan))
        ]
        return min(measured)[1] if measured else None

    def pinned(self) -> frozenset[int]:
        """Steps whose checkpoints are never deleted: the numbers in `pinned.json`."""
        steps = read_json(
            self.folder / "pinned.json",
            [],
            say("Write a list of steps into it, for example [500, 1250], or delete it."),
        )
        if not all(str(step).isdecimal() for step in steps):
            raise DamagedFileError(
                say(
                    "{path} is damaged ({reason}). {remedy}",
                    path=self.folder / "pinned.json",
                    reason=steps,
                    remedy=say(
                        "Write a list of steps into it, for example [500, 1250], or delete it."
                    ),
                )
            )
        return frozenset(map(int, steps))

    def pin(self, step: int, pinned: bool = True) -> None:
        """Never delete the checkpoint of this step, or undo that. RunError if there is none."""
        self.checkpoint_at(step)
        steps = self.pinned() | {step} if pinned else self.pinned() - {step}
        write_atomically(self.folder / "pinned.json", json.dumps(sorted(steps)).encode())

    # ---- state and log ---------------------------------------------------------------------

    def write_state(self, step: int, tensors: Mapping[str, Tensor], rest: str = "") -> None:
        """Save everything that resuming at `step` needs, in place of the previous state."""
        self.require_held()
        self.state.write(step, tensors, rest)

    def log(self, **entry: Any) -> None:
        self.lines.append(entry, durable=False)

    def logged(self) -> list[dict[str, Any]]:
        """The log's entries, one a step."""
        return self.lines.read()

    def rewind_log(self, step: int) -> None:
        """Remove the steps after `step` from the log: they will be done again."""
        self.lines.rewrite(entry for entry in self.lines if entry["step"] <= step)


def modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # moved away just now
        return 0.0
