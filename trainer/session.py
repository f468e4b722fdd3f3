"""A training run in progress: a LoRA on the loaded weights, and how far it has been trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from PIL import Image

from ..files import write_atomically
from ..language import say
from . import host, parallel
from .batch import EncodedPair
from .config import TrainConfig
from .families import Family, family_of
from .learner import Learner
from .loss.holdout import held_out_losses
from .memory import Memory, footprint_of, memory_limit, plan_memory
from .network.adapters import adapter_kind, measure
from .network.attach import attached
from .network.lora import Lora
from .preview import Preview
from .request import TrainingError, TrainingRequest
from .runs.ending import write_ending
from .runs.identity import Identity
from .runs.run import DIVERGED, Run
from .runs.start import start_from
from .saving import Saving
from .stopping import HeldOutCurve, ending
from .trials import Trials
from .watcher import Board, Journal, Shielded, Watcher


@dataclass
class Session:
    """A run in progress. `done` counts the steps trained so far."""

    config: TrainConfig
    family: Family
    model: host.Model
    dtype: torch.dtype
    lora: Lora
    learner: Learner
    memory: Memory
    trials: Trials
    saving: Saving
    journal: Journal
    held_out: Sequence[EncodedPair]
    done: int
    half_updated: bool = False  # an interrupted update: the weights belong to no step
    base_losses: list[float] = field(default_factory=list)
    curve: HeldOutCurve = field(default_factory=HeldOutCurve)

    @classmethod
    def begin(
        cls,
        request: TrainingRequest,
        run: Run,
        identity: Identity,
        tokens: int,
        held_out: Sequence[EncodedPair],
    ) -> Session:
        """Plan the memory, make the LoRA, and restore the run's saved state.

        `tokens` is the length of the longest batch, its pairs laid end to end. Writes the plan and
        a new run's first state, unloads other models, and waits for the other processes.
        """
        config, family = identity.config, family_of(request.base.model)
        model = host.for_training(request.base.model)
        device, dtype = model.load_device, host.training_dtype(model, config.dtype)
        watcher = Shielded(request.watcher) if parallel.is_first() else Watcher()
        journal = Journal(run, watcher)
        with host.differentiable():
            parts = family.network.named_modules()
            linears = {name: part for name, part in parts if host.is_linear(part)}
            names = family.targeted(linears, config.targets)
            adapted = {name: host.FrozenLinear(linears[name]) for name in names}
            kind = adapter_kind(config)
            lora = Lora.create(adapted, config.rank, config.scale, config.seed, kind).to(device)
            footprint = footprint_of(model, family, lora, config, dtype, tokens)
            limit = memory_limit(model, config.max_vram)
            memory = Memory(model, run, plan_memory(footprint, limit, config.checkpointing))
            memory.write_down(memory.plan.summary())
            if config.adapter == "dora":
                memory.load()
                measure(lora, adapted, device)
            if request.start and not run.state.exists():
                for line in start_from(lora, request.start, model, config, request.resize_start):
                    journal.note(line)
            learner = Learner(lora, config, device, dtype)
            trials = Trials(family, learner, journal, device, dtype)
            saving = Saving(run, identity, request.rescue_places, family, learner, journal)
            done = saving.begin()
        if config.tensorboard and parallel.is_first():
            journal.board = Board(run.folder / "tensorboard", done)
        session = cls(
            config, family, model, dtype, lora, learner, memory, trials, saving, journal, held_out,
            done,
        )  # fmt: skip
        session.recall()
        return session

    def restore(self) -> None:
        """Return to the last saved state."""
        self.done = self.saving.restore()
        self.recall()

    def recall(self) -> None:
        """Reload the held-out measurements up to the saved state from the log."""
        self.curve = HeldOutCurve()
        for entry in self.saving.run.lines:
            if self.learner.judged_from < entry["step"] <= self.done:
                self.curve.add(entry)
        if parallel.is_first():
            write_ending(self.saving.run.folder, self.learner.ending)

    @property
    def last_step(self) -> int:
        """The step to end at: the last planned one, or an earlier one if that was decided."""
        early = self.learner.ending
        return early.step if early else self.config.steps

    @property
    def device(self) -> torch.device:
        return self.model.load_device

    @contextmanager
    def running(self) -> Iterator[None]:
        """The LoRA attached to the loaded weights. However the block ends, its steps are saved."""
        self.memory.load()
        with host.sampling_allowed():
            host.check_products(self.family.network, self.device, self.dtype)
        if self.half_updated:
            with host.differentiable():
                self.restore()
                self.half_updated = False
        self.learner.forget_gradients()  # of a step that ran out of memory half-way
        host.forget_peak(self.device)
        plan, compiler = self.memory.plan, self.trials.compiler
        with (
            host.differentiable(),
            compiler.compiling() if compiler else nullcontext(),
            attached(
                self.family.network,
                self.lora,
                self.trials.frozen,
                host.is_linear,
                self.family.blocks()[: plan.checkpointed],
                plan.offloaded,
                compiler,
                plan.keeping,
                # not in fp16: there ComfyUI searches these outputs for infinities
                () if self.dtype == torch.float16 else self.family.unread(self.lora.layers),
            ),
        ):
            try:
                yield
            finally:
                if self.done != self.saving.saved and not self.half_updated:
                    self.saving.save(self.done)
                    self.journal.watcher.saved()

    def step(self) -> None:
        """Update the LoRA with the gradients gathered."""
        self.half_updated = True
        self.learner.update(self.done)
        self.done, self.half_updated = self.done + 1, False

    def roll_back(self, loss: float) -> None:
        """Return to the last saved state with half the learning rate; the second time, give up.

        Raises TrainingError then.
        """
        step, halved = self.done + 1, self.learner.rate < 1
        self.restore()
        values = {"loss": f"{loss:.3g}", "step": step, "kept": self.done}
        self.journal.note(say("loss {loss} at step {step}: back to step {kept}", **values))
        if halved:
            words = say(
                "Training diverged at step {step} (loss {loss}), and again with half the "
                "learning rate. The checkpoint of step {kept} is kept. Train again with a "
                "tenth of the learning rate, and look for broken pictures among the pairs.",
                **values,
            )
            if parallel.is_first():  # for the tries, wherever this one is trained
                write_atomically(self.saving.run.folder / DIVERGED, words.encode())
            raise TrainingError(words)
        self.learner.rate = 0.5

    def validate(self) -> dict[str, list[float]]:
        """The loss of each held-out pair, with the LoRA and with the base model alone.

        Empty if no pair is held out, or if memory runs out.
        """
        if not self.held_out:
            return {}
        if not self.base_losses:
            self.base_losses = self.losses_at(strength=0.0)
        with self.learner.evaluating():
            losses = self.losses_at(strength=1.0) if self.base_losses else []
        if losses:
            return {"holdout": losses, "holdout_base": self.base_losses}
        words = say("held-out pairs not measured at step {step}: out of memory", step=self.done)
        self.journal.note(words)
        return {}

    def judge(self, entry: Mapping[str, Any]) -> None:
        """End the run earlier if the held-out losses in this log entry call for it."""
        if self.learner.ending or "holdout" not in entry:
            return
        self.curve.add(entry)
        self.learner.ending = ending(self.curve, self.config, self.done)
        if self.learner.ending and parallel.is_first():
            write_ending(self.saving.run.folder, self.learner.ending)
            self.journal.note(self.learner.ending.text)

    def losses_at(self, strength: float) -> list[float]:
        """One loss per held-out pair; empty if a process runs out of memory on its share."""
        share, measured = parallel.mine(self.held_out), True
        try:
            with self.lora.at_strength(strength):
                each = held_out_losses(self.family, share, self.config, self.dtype, self.device)
            losses = each.mean(dim=(1, 2))
        except host.OutOfMemory:  # the other processes wait for this share: send a placeholder
            losses, measured = torch.zeros(len(share)), False
        results = torch.stack([losses, torch.full_like(losses, measured)], dim=1)
        losses, success = parallel.gathered(results, len(self.held_out)).unbind(dim=1)
        return losses.tolist() if success.all() else []

    def preview(self, preview: Preview, progress: host.Progress) -> Image.Image | None:
        """Samples with the current LoRA; None if memory runs out.

        Training continues as if nothing had happened: sampling draws from torch's own generators.
        """
        devices = [self.device] if self.device.type == "cuda" else []
        try:
            with torch.random.fork_rng(devices), self.learner.evaluating():
                sheet = preview.sample(self.model, self.done, progress)
        except host.OutOfMemory:
            self.journal.note(say("no samples of step {step}: out of memory", step=self.done))
            sheet = None
        self.memory.load()
        return sheet
