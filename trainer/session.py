"""One LoRA in training: its place on the loaded weights, and everything that is kept of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from PIL import Image
from torch import Tensor

from . import host, parallel
from .attach import attached
from .batches import EncodedPair
from .board import Board
from .export import read_lora
from .holdout import held_out_losses
from .learner import Learner
from .lora import Lora, targeted
from .memory import plan_checkpointing, trained_bytes
from .preview import Preview
from .run import Identity, Run


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
    ) -> None:
        """`tokens` is the length of the longest batch, its pairs laid end to end."""
        self.run, self.identity, self.config = run, identity, identity.config
        self.model = host.for_training(base.model)
        self.flux, self.device = base.flux, self.model.load_device
        self.dtype = host.training_dtype(self.model, self.config.dtype)
        self.blocks = host.blocks(self.flux)
        self.checkpointed, activations = plan_checkpointing(
            self.blocks,
            tokens,
            self.flux.params.hidden_size,
            self.config,
            self.dtype,
            host.room_beside(self.model),
        )
        self.held_out = held_out
        self.base_losses: list[float] = []
        with host.differentiable():
            linears = {
                name: part for name, part in self.flux.named_modules() if host.is_linear(part)
            }
            names = targeted(linears, self.config.targets, self.config.pattern)
            adapted = {name: host.FrozenLinear(linears[name]) for name in names}
            lora = Lora.create(adapted, self.config.rank, self.config.scale, self.config.seed)
            if start:
                tensors, alpha = read_lora(start)
                lora.start_from(tensors, alpha / self.config.rank)
            self.lora = lora.to(self.device)
            self.reserve = activations + trained_bytes(self.lora)
            self.learner = Learner(self.lora, self.config, self.device, self.dtype)
            if parallel.is_first() and not run.has_state():
                run.write_state(0, *self.learner.state_dict())
            parallel.wait()
            self.done = self.restore()
        board = self.config.tensorboard and parallel.is_first()
        self.board = Board(run.folder / "tensorboard", self.done) if board else None

    @contextmanager
    def running(self) -> Iterator[None]:
        """The LoRA in force on the loaded weights. However the block ends, steps done are kept."""
        self.load()
        with host.sampling_allowed():
            host.check_products(self.flux, self.device, self.dtype)
        self.learner.forget_gradients()  # of a step that ran out of memory half-way
        host.forget_peak(self.device)
        with (
            host.differentiable(),
            attached(self.flux, self.lora, host.FrozenLinear, host.is_linear, self.checkpointed),
        ):
            try:
                yield
            finally:
                if self.done and not self.run.has_checkpoint(self.done):
                    self.save()

    def spare_memory(self) -> bool:
        """Checkpoint all blocks from now on; False if that is already so."""
        already, self.checkpointed = bool(self.checkpointed), self.blocks
        return not already

    def load(self) -> None:
        """Bring the transformer back, after another model may have pushed it out."""
        host.load_alone(self.model, self.reserve)

    def save(self) -> None:
        """Write a checkpoint and the state to continue from; drop checkpoints that are too many."""
        if not parallel.is_first():
            return
        with self.learner.evaluating():
            checkpoint = self.run.write_checkpoint(self.done, self.lora.state_dict(), self.identity)
        ignored = host.unmapped_keys(self.model, host.load_lora_file(checkpoint.path))
        if ignored:
            raise TrainingError(f"ComfyUI would ignore {ignored[:3]} in {checkpoint.path}.")
        self.run.write_state(self.done, *self.learner.state_dict())
        self.run.drop_oldest(self.config.keep)

    def restore(self) -> int:
        """Take up the run's saved state; returns the steps it has done."""
        step, tensors, rest = self.run.read_state()
        self.learner.load_state_dict(tensors, rest)
        if parallel.is_first():
            self.run.rewind_log(step)
        return step

    def roll_back(self, loss: float) -> None:
        """Return to the last saved state with half the learning rate; at the second time, stop."""
        step, halved = self.done + 1, self.learner.rate < 1
        self.done = self.restore()
        if halved:
            raise TrainingError(
                f"Training diverged at step {step} (loss {loss:.3g}), and again with half the "
                f"learning rate. The checkpoint of step {self.done} is kept. Train again with a "
                "tenth of the learning rate, and look for broken pictures among the pairs."
            )
        self.learner.rate = 0.5

    def log(self, entry: dict[str, Any]) -> None:
        if parallel.is_first():
            self.run.log(**entry)
        if self.board:
            self.board.add(entry)

    def validate(self) -> dict[str, list[float]]:
        """Losses of the held-out pairs, now and with the base alone, one for each pair."""
        if not self.held_out:
            return {}
        if not self.base_losses:
            self.base_losses = self.losses_at(strength=0.0)
        with self.learner.evaluating():
            return {"holdout": self.losses_at(strength=1.0), "holdout_base": self.base_losses}

    def preview(self, preview: Preview) -> Image.Image:
        """What the LoRA makes of the preview's pair."""
        with self.learner.evaluating():
            strip = preview.sample(self.model, self.done)
        self.load()
        return strip

    def losses_at(self, strength: float) -> list[float]:
        self.lora.strength = strength
        try:
            share = parallel.mine(self.held_out)
            losses = held_out_losses(self.flux, share, self.config, self.dtype, self.device)
        finally:
            self.lora.strength = 1.0
        return parallel.gathered(losses.mean(dim=(1, 2)), len(self.held_out)).tolist()
