"""A run's checkpoints and state: saved, rescued if the disk refuses them, restored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from ..files import StorageError, storing
from ..language import say
from . import host, parallel
from .families import Family
from .learner import Learner
from .request import TrainingError
from .runs.identity import Identity
from .runs.metadata import adapter, origin
from .runs.rescue import LAST_RESORT, rescue
from .runs.run import Run
from .watcher import Journal


@dataclass
class Saving:
    """Saves a run's checkpoints and state. `saved` is the last step that saving was tried for.

    `kept` is the step of the last checkpoint, in the run `kept_in`: another one after a rescue.
    """

    run: Run
    identity: Identity
    rescue_places: Sequence[Path]
    family: Family
    learner: Learner
    journal: Journal
    saved: int = field(default=0, init=False)
    kept: int = field(default=0, init=False)
    kept_in: Run = field(init=False)
    about: Mapping[str, str] = field(init=False)  # metadata about the model and the run

    def begin(self) -> int:
        """Restore the saved state, after writing that of step 0 for a new run.

        Returns the steps done, once all processes have got here.
        """
        if parallel.is_first() and not self.run.state.exists():
            self.run.write_state(0, *self.learner.state_dict())
        parallel.wait()
        done = self.restore()
        self.saved = self.kept = done if self.run.has_checkpoint(done) else 0
        self.kept_in = self.run
        # read before anything fails: a rescued checkpoint has the same metadata
        kind = adapter(self.identity.config)
        self.about = {**self.family.about(), **kind, **origin(self.run.file.read())}
        return done

    def restore(self) -> int:
        """Load the run's saved state into the learner; returns the steps it has done."""
        step, tensors, rest = self.run.state.read()
        try:
            self.learner.load_state_dict(tensors, rest)
        except (KeyError, ValueError, TypeError, IndexError) as error:  # of another version
            raise self.run.state.damaged(error) from error
        if parallel.is_first():
            self.run.rewind_log(step)
        self.journal.watcher.begin(self.run)
        return step

    def save(self, done: int) -> None:
        """Save the LoRA after `done` steps; delete checkpoints beyond the number to keep.

        Raises StorageError if the run's folder cannot be written. The work is then kept in another
        place, which the message names and from which the run is continued.
        """
        self.saved = done  # even if it fails: a second attempt right away would fail as well
        if not parallel.is_first():
            return
        try:
            self.save_into(self.run, done)
        except StorageError as error:
            raise self.rescued(error, done) from error
        stuck = self.run.drop_oldest(self.identity.config.keep)
        if stuck:
            files = say(", ").join(stuck)
            self.journal.note(
                say("could not be deleted, will be tried again: {files}", files=files)
            )

    def save_into(self, run: Run, done: int) -> None:
        """Write a checkpoint, read it back as ComfyUI does, and write the state to continue from.

        Raises TrainingError if ComfyUI would ignore parts of the checkpoint.
        """
        with self.learner.evaluating():
            tensors = self.learner.lora.file_tensors()
            checkpoint = run.write_checkpoint(done, tensors, self.identity, self.about)
        with storing(checkpoint.path):
            ignored = host.unmapped_keys(self.family.model, host.load_lora_file(checkpoint.path))
        if ignored:
            checkpoint.path.unlink()
            raise TrainingError(
                say(
                    "ComfyUI would ignore {keys} in {path}.", keys=ignored[:3], path=checkpoint.path
                )
            )
        run.write_state(done, *self.learner.state_dict())
        self.kept, self.kept_in = done, run

    def rescued(self, error: StorageError, done: int) -> StorageError:
        """The error, extended by where the unsaved work is now."""
        save = partial(self.save_into, done=done)
        copy = rescue(self.run, self.identity, self.rescue_places, save)
        if copy is None:
            places = say(", ").join(map(str, (*self.rescue_places, LAST_RESORT)))
            return StorageError(
                say(
                    "{error} There was no room in {places} either: the steps after the last "
                    "checkpoint, up to {step}, will be done again. Earlier checkpoints are whole.",
                    error=error,
                    places=places,
                    step=done,
                )
            )
        return StorageError(
            say(
                "{error} The work up to step {step} is safe in {place}, earlier checkpoints are "
                "whole. Run again with the same name: training continues from there.",
                error=error,
                step=done,
                place=copy.output,
            )
        )

    def summary(self, done: int) -> str:
        """The step that the run stopped at, and where its last checkpoint is."""
        counts = {"step": done, "steps": self.identity.config.steps}
        if not self.kept:
            return say("stopped at step {step}/{steps} · nothing to keep yet", **counts)
        return say(
            "stopped at step {step}/{steps} · step {kept} is kept in {folder}. Run again with the "
            "same name to continue.",
            **counts,
            kept=self.kept,
            folder=self.kept_in.lora_folder,
        )
