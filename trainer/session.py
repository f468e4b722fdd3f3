"""One LoRA in training: its place on the loaded weights, and everything that is kept of it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from ..files import StorageError, storing
from . import host, parallel
from .batch import EncodedPair, draw_seeds, load_batch, seeded
from .config import GB
from .data.batches import Batches
from .learner import Learner
from .loss.holdout import held_out_losses
from .loss.objective import sample_losses
from .memory import Footprint, plan_memory, trained_bytes
from .network.adapters import adapter_kind, adapter_units, measure
from .network.attach import attached
from .network.compile import Compiler, first_of_each, lengths_of, random_weights, text_tokens
from .network.frozen import FrozenBase
from .network.lora import Lora, targeted
from .network.matmul8 import Products
from .network.opaque import Opaque
from .preview import Preview
from .runs.export import read_lora
from .runs.rescue import LAST_RESORT, rescue
from .runs.run import Identity, Run
from .watcher import Board, Watcher


class TrainingError(RuntimeError):
    """Training cannot go on."""


class Session:
    """A run in progress. `done` counts the steps that the LoRA has been trained for."""

    def __init__(
        self,
        base: host.Base,
        run: Run,
        identity: Identity,
        tokens: int,
        held_out: Sequence[EncodedPair],
        start: Mapping[str, Tensor] | None = None,
        rescue_places: Sequence[Path] = (),
        watcher: Watcher | None = None,
    ) -> None:
        """`tokens` is the length of the longest batch, its pairs laid end to end."""
        self.run, self.identity, self.config = run, identity, identity.config
        self.rescue_places = rescue_places
        self.notes: list[str] = []
        self.model = host.for_training(base.model)
        self.flux, self.device = base.flux, self.model.load_device
        self.dtype = host.training_dtype(self.model, self.config.dtype)
        self.blocks = host.blocks(self.flux)
        eight = self.config.matmul != "exact"
        self.products = Products(host.FrozenLinear, self.config.matmul) if eight else None
        place = self.blocks, self.device, self.dtype
        compiling = self.config.compile == "blocks"
        self.compiler = Compiler(*place, not eight, self.note) if compiling else None
        self.held_out = held_out
        self.base_losses: list[float] = []
        self.watcher = watcher if watcher and parallel.is_first() else Watcher()
        with host.differentiable():
            linears = {
                name: part for name, part in self.flux.named_modules() if host.is_linear(part)
            }
            names = targeted(linears, self.config.targets, self.config.pattern)
            adapted = {name: host.FrozenLinear(linears[name]) for name in names}
            config, kind = self.config, adapter_kind(self.config)
            lora = Lora.create(adapted, config.rank, config.scale, config.seed, kind)
            self.lora = lora.to(self.device)
            self.plan = plan_memory(
                self.footprint(tokens), self.memory_limit(), self.config.checkpointing
            )
            self.note_plan(self.plan.words())
            if config.adapter == "dora":
                self.load()
                measure(lora, adapted, self.device)
            if start:
                tensors, alpha = read_lora(start)
                lora.start_from(tensors, alpha / config.rank)
            self.learner = Learner(self.lora, self.config, self.device, self.dtype)
            if parallel.is_first() and not run.has_state():
                run.write_state(0, *self.learner.state_dict())
            parallel.wait()
            self.done = self.restore()
        self.torn = False
        self.saved = self.done if run.has_checkpoint(self.done) else 0
        self.kept, self.kept_in = self.saved, run
        board = self.config.tensorboard and parallel.is_first()
        self.board = Board(run.folder / "tensorboard", self.done) if board else None

    @contextmanager
    def running(self) -> Iterator[None]:
        """The LoRA in force on the loaded weights. However the block ends, steps done are kept."""
        self.load()
        with host.sampling_allowed():
            host.check_products(self.flux, self.device, self.dtype)
        if self.torn:
            with host.differentiable():
                self.done, self.torn = self.restore(), False
        self.learner.forget_gradients()  # of a step that ran out of memory half-way
        host.forget_peak(self.device)
        with (
            host.differentiable(),
            self.compiler.compiling() if self.compiler else nullcontext(),
            attached(
                self.flux,
                self.lora,
                self.frozen,
                host.is_linear,
                self.blocks[: self.plan.checkpointed],
                self.plan.offloaded,
                self.compiler,
            ),
        ):
            try:
                yield
            finally:
                if self.done != self.saved and not self.torn:
                    self.save()
                    self.watcher.saved()

    def frozen(self, module: nn.Module) -> FrozenBase:
        """A linear of the base, as this run computes with it."""
        plain = host.FrozenLinear(module)
        base = self.products(module) if self.products else plain
        return Opaque(base, plain) if self.compiler else base

    def try_products(self, pair: EncodedPair) -> None:
        """Find the layers that may multiply in 8 bits: one step of this pair through the base."""
        if self.products is None or self.products.tried:
            return
        batch = load_batch([pair], None, self.device)
        generator = seeded(self.config.seed, 0, "8bit")
        noise = torch.randn(batch.target.shape, generator=generator).to(self.device)
        sigma = noise.new_full((1,), 0.5)
        self.lora.strength = 1e-30  # adds nothing, so that a continued run finds the same layers
        try:
            with self.products.trying():
                losses = sample_losses(self.flux, batch, sigma, noise, self.config, self.dtype)
                losses.sum().backward()
        finally:
            self.lora.strength = 1.0
            self.learner.forget_gradients()
        self.note(self.products.words())

    def try_compiling(
        self, batches: Batches, texts: Sequence[Path], progress: host.Progress
    ) -> None:
        """Compile the blocks, and compare a step of each shape with an eager one. `texts` are the
        encoded ones that steps may have beside their own captions."""
        if self.compiler is None or self.compiler.tried:
            return
        progress.say("compiling the blocks: this takes minutes, the first time")
        tokens = map(text_tokens, texts)
        self.compiler.lengths = lengths_of(batches.buckets, tokens, self.config)
        groups = [parallel.mine(group) for group in first_of_each(batches.epoch(0))]
        steps = [partial(self.trial_step, group) for group in groups if group]
        try:
            with random_weights(self.lora, seeded(self.config.seed, 0, "compile")):
                self.compiler.try_on(steps, self.lora)
        finally:
            self.learner.forget_gradients()
        progress.say(self.notes[-1])

    def trial_step(self, pairs: Sequence[EncodedPair]) -> float:
        """The gradients and the loss of some step of these pairs, always the same."""
        host.throw_if_interrupted()
        batch = load_batch(pairs, None, self.device)
        generator = seeded(self.config.seed, 0, "trial")
        noise = torch.randn(batch.target.shape, generator=generator).to(self.device)
        sigma = noise.new_full((len(pairs),), 0.5)
        with self.lora.dropping(self.config.dropout, draw_seeds(len(pairs), generator)):
            losses = sample_losses(self.flux, batch, sigma, noise, self.config, self.dtype)
            loss = losses.mean()
            self.learner.backward(loss)
        return loss.item()

    def footprint(self, tokens: int) -> Footprint:
        """What a step with a batch of so many tokens takes."""
        weights, movable, largest, cast, parameters = host.weight_bytes(self.model, self.dtype)
        return Footprint(
            double=len(self.flux.double_blocks),
            single=len(self.flux.single_blocks),
            unit=tokens * self.flux.params.hidden_size * self.dtype.itemsize,
            weights=weights,
            movable=movable,
            largest=largest,
            cast=cast,
            trained=trained_bytes(self.lora),
            parameters=parameters,
            moment=adapter_units(self.config),
        )

    def memory_limit(self) -> int:
        """Bytes that may be taken: what is free beside the weights, or less if the user says so."""
        free, most = host.room_for(self.model), int(self.config.max_vram * GB)
        return min(free, most) if most else free

    def spare_memory(self) -> bool:
        """Take less memory from now on; False if nothing is left to spare."""
        tighter = self.plan.tightened()
        if tighter is None:
            return False
        self.plan = tighter
        self.note_plan(f"{tighter.words()}, after running out of memory")
        return True

    def note_plan(self, words: str) -> None:
        logging.info("Memory plan: %s", words)
        if parallel.is_first():
            self.run.write_plan(words)

    def load(self) -> None:
        """Bring the transformer back, after another model may have pushed it out."""
        of, plan = self.plan.footprint, self.plan
        host.load_alone(self.model, plan.beside, plan.resident, of.buffers + of.cast)

    def step(self) -> None:
        """Take the step that gradients have been gathered for."""
        self.torn = True  # should this fail half-way, the LoRA is that of no step
        self.learner.update(self.done)
        self.done, self.torn = self.done + 1, False

    def save(self) -> None:
        """Keep the work so far; drop checkpoints that are too many.

        Raises StorageError where the run's folder refuses it. The work is then kept in another
        place, which the message names and from which the run is continued.
        """
        self.saved = self.done  # or as good as: at once a second attempt would fail alike
        if not parallel.is_first():
            return
        try:
            self.save_into(self.run)
        except StorageError as error:
            raise self.rescued(error) from error
        stuck = self.run.drop_oldest(self.config.keep)
        if stuck:
            self.note(f"could not be deleted, and is tried again: {', '.join(stuck)}")

    def save_into(self, run: Run) -> None:
        """Write a checkpoint, read it back as ComfyUI does, and write what continuing needs."""
        with self.learner.evaluating():
            checkpoint = run.write_checkpoint(self.done, self.lora.file_tensors(), self.identity)
        with storing(checkpoint.path):
            ignored = host.unmapped_keys(self.model, host.load_lora_file(checkpoint.path))
        if ignored:
            checkpoint.path.unlink()
            raise TrainingError(f"ComfyUI would ignore {ignored[:3]} in {checkpoint.path}.")
        run.write_state(self.done, *self.learner.state_dict())
        self.kept, self.kept_in = self.done, run

    def rescued(self, error: StorageError) -> StorageError:
        """The error with what has become of the work that it stood against."""
        kept = rescue(self.run, self.identity, self.rescue_places, self.save_into)
        if kept is None:
            places = ", ".join(map(str, (*self.rescue_places, LAST_RESORT)))
            return StorageError(
                f"{error} There was no room in {places} either: the steps after the last "
                f"checkpoint, up to {self.done}, will be done again. Earlier checkpoints are whole."
            )
        return StorageError(
            f"{error} The work up to step {self.done} is safe in {kept.output}, earlier "
            "checkpoints are whole. Run again with the same name: training goes on from there."
        )

    def note(self, text: str) -> None:
        """Say something unusual: in ComfyUI's console, and with the next step in the log."""
        logging.warning("%s: %s", self.run.name, text)
        self.notes.append(text)

    def standing(self) -> str:
        """Where the run stands, and where its last checkpoint is."""
        folder = self.kept_in.lora_folder
        kept = f"step {self.kept} is kept in {folder}" if self.kept else "nothing to keep yet"
        return f"stopped at step {self.done}/{self.config.steps} · {kept}"

    def restore(self) -> int:
        """Take up the run's saved state; returns the steps it has done."""
        step, tensors, rest = self.run.read_state()
        self.learner.load_state_dict(tensors, rest)
        if parallel.is_first():
            self.run.rewind_log(step)
        self.watcher.begin(self.run)
        return step

    def roll_back(self, loss: float) -> None:
        """Return to the last saved state with half the learning rate; at the second time, stop."""
        step, halved = self.done + 1, self.learner.rate < 1
        self.done = self.restore()
        self.note(f"loss {loss:.3g} at step {step}: back to step {self.done}")
        if halved:
            raise TrainingError(
                f"Training diverged at step {step} (loss {loss:.3g}), and again with half the "
                f"learning rate. The checkpoint of step {self.done} is kept. Train again with a "
                "tenth of the learning rate, and look for broken pictures among the pairs."
            )
        self.learner.rate = 0.5

    def log(self, entry: dict[str, Any]) -> None:
        if self.notes:
            entry["note"], self.notes = "; ".join(self.notes), []
        if parallel.is_first():
            self.run.log(**entry)
        if self.board:
            self.board.add(entry)
        self.watcher.add(entry)

    def validate(self) -> dict[str, list[float]]:
        """Losses of the held-out pairs, now and with the base alone, one for each pair; none if
        there is no memory for them."""
        if not self.held_out:
            return {}
        if not self.base_losses:
            self.base_losses = self.losses_at(strength=0.0)
        with self.learner.evaluating():
            losses = self.losses_at(strength=1.0) if self.base_losses else []
        if losses:
            return {"holdout": losses, "holdout_base": self.base_losses}
        self.note(f"held-out pairs not measured at step {self.done}: out of memory")
        return {}

    def preview(self, preview: Preview, progress: host.Progress) -> Image.Image | None:
        """What the LoRA makes of the preview's pictures; None if there is no memory for them.

        The training goes on as if nothing had been: sampling draws from torch's own generators.
        """
        devices = [self.device] if self.device.type == "cuda" else []
        try:
            with torch.random.fork_rng(devices), self.learner.evaluating():
                sheet = preview.sample(self.model, self.done, progress)
        except host.OutOfMemory:
            self.note(f"no samples of step {self.done}: out of memory")
            sheet = None
        self.load()
        return sheet

    def losses_at(self, strength: float) -> list[float]:
        """One loss for each held-out pair; none if a process has no memory for its share."""
        share, measured = parallel.mine(self.held_out), True
        self.lora.strength = strength
        try:
            each = held_out_losses(self.flux, share, self.config, self.dtype, self.device)
            losses = each.mean(dim=(1, 2))
        except host.OutOfMemory:  # told to the others, who wait for the share
            losses, measured = torch.zeros(len(share)), False
        finally:
            self.lora.strength = 1.0
        told = torch.stack([losses, torch.full_like(losses, measured)], dim=1)
        losses, told = parallel.gathered(told, len(self.held_out)).unbind(dim=1)
        return losses.tolist() if told.all() else []
