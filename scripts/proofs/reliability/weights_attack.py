"""A training is interrupted in every part of it: the loaded model is as it was, bit for bit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

import comfy.model_management
import torch
from ground import SETTINGS, Ground, Tally, loras
from kontext.dataset.pair import PairedDataset
from kontext.files import StorageError
from kontext.trainer import host, loop, session
from kontext.trainer.data import cache
from kontext.trainer.learner import Learner
from kontext.trainer.network.lora import LoraLinear
from kontext.trainer.preview import Preview
from kontext.trainer.runs.run import Run
from kontext.trainer.watcher import Watcher

Patches = list[Any]


def state_of(model: host.Model) -> str:
    """SHA-256 of all weights and buffers, and of what hangs on each module."""
    digest = hashlib.sha256()
    for name, module in model.model.named_modules():
        own = {key: type(value).__name__ for key, value in sorted(vars(module).items())}
        hooks = [len(getattr(module, f"_{of}_hooks")) for of in ("forward", "forward_pre")]
        digest.update(f"{name} {type(module)} {own} {hooks}".encode())
        for tensors in (module._parameters, module._buffers):
            for key, tensor in tensors.items():
                if tensor is not None:
                    plain = tensor.detach().reshape(-1).view(torch.uint8)
                    digest.update(f"{key} {tensor.dtype} {tensor.requires_grad}".encode())
                    digest.update(plain.cpu().numpy().tobytes())
    return digest.hexdigest()


def at_call(
    owner: Any,
    name: str,
    number: int,
    raises: Callable[[], Any],
    times: int = 1,
    after: bool = False,
) -> Any:
    """A patch: the call of this number, counted from 1, raises, or does what it is given."""
    real, calls = getattr(owner, name), []

    def called(*arguments: Any, **named: Any) -> Any:
        calls.append(1)
        due = number <= len(calls) < number + times
        result = real(*arguments, **named) if after or not due else None
        if due:
            raises()
        return real(*arguments, **named) if result is None and not after else result

    static = isinstance(vars(owner).get(name) if isinstance(owner, type) else None, staticmethod)
    return patch.object(owner, name, staticmethod(called) if static else called)


def raising(error: BaseException) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act


def exploding(*calls: int) -> Any:
    real, seen = loop.sample_losses, []

    def losses(*arguments: Any) -> Any:
        seen.append(1)
        return real(*arguments) * (float("nan") if len(seen) in calls else 1)

    return patch.object(loop, "sample_losses", losses)


def take_over(ground: Ground) -> Any:
    """Another process writes its name into the lock before the first save."""
    real = Run.write_checkpoint

    def write(self: Run, *arguments: Any, **named: Any) -> Any:
        lock = self.folder / "lock.json"
        other = {**json.loads(lock.read_text("utf-8")), "token": "another"}
        lock.write_text(json.dumps(other), "utf-8")
        return real(self, *arguments, **named)

    return patch.object(Run, "write_checkpoint", write)


def interruptions(ground: Ground) -> Iterator[tuple[str, Patches, dict[str, Any]]]:
    """What happens, how it is made to happen, and the options of the training."""
    cancel = comfy.model_management.interrupt_current_processing
    no_memory, full = host.OutOfMemory(), StorageError("full")
    losses, held_out = (loop, "sample_losses"), (session, "held_out_losses")
    first, second = ground.pairs.pairs
    from dataclasses import replace

    tested = {"pairs": PairedDataset((first, replace(second, split="holdout")))}
    sampled = {"config": SETTINGS.replace(preview_steps=1)}

    class Failing(Watcher):
        def add(self, entry: Any) -> None:
            raise ZeroDivisionError

    yield "Cancel after a step", [at_call(host.Progress, "update", 4, cancel)], {}
    yield "Cancel within a forward pass", [at_call(*losses, 2, cancel)], {}
    yield "Cancel while encoding", [at_call(cache, "open_rgb", 1, cancel)], {}
    yield "Ctrl+C within a step", [at_call(*losses, 3, raising(KeyboardInterrupt()))], {}
    yield "the process is told to exit", [at_call(*losses, 1, raising(SystemExit(1)))], {}
    yield "no memory in a forward pass", [at_call(*losses, 1, raising(no_memory))], {}
    yield (
        "no memory in a backward pass",
        [at_call(LoraLinear, "backward", 1, raising(no_memory))],
        {},
    )
    yield "never any memory", [at_call(LoraLinear, "backward", 1, raising(no_memory), 99)], {}
    yield "no memory in an update", [at_call(Learner, "update", 2, raising(no_memory))], {}
    yield "no memory on the processor", [at_call(Learner, "update", 3, raising(MemoryError()))], {}
    yield (
        "an error half-way in an update",
        [at_call(Learner, "update", 3, raising(ZeroDivisionError()), after=True)],
        {},
    )
    yield (
        "an error of the gradient's norm",
        [at_call(Learner, "gradient_norm", 2, raising(RuntimeError("linalg")))],
        {},
    )
    yield "the loss explodes", [exploding(3)], {}
    yield "the loss explodes twice", [exploding(3, 5)], {}
    yield "no memory for held-out pairs", [at_call(*held_out, 2, raising(no_memory))], tested
    yield "an error with held-out pairs", [at_call(*held_out, 2, raising(ValueError()))], tested
    yield "no memory for a preview", [at_call(Preview, "sample", 1, raising(no_memory))], sampled
    yield "an error in a preview", [at_call(Preview, "sample", 1, raising(OSError()))], sampled
    yield "Cancel within a preview", [at_call(Preview, "sample", 1, cancel)], sampled
    yield (
        "the disk is full at a checkpoint",
        [at_call(Run, "write_checkpoint", 1, raising(full))],
        {"rescue_places": [ground.folder / "place"]},
    )
    yield "every disk is full", [at_call(Run, "write_checkpoint", 1, raising(full), 99)], {}
    yield "the state cannot be written", [at_call(Run, "write_state", 2, raising(full), 99)], {}
    yield "the log cannot be written", [at_call(Run, "log", 2, raising(full))], {}
    yield "another process takes the run over", [take_over(ground)], {}
    yield "who watches fails", [], {"watcher": Failing()}
    yield (
        "a checkpoint ComfyUI would not read",
        [patch.object(host, "unmapped_keys", lambda *_: ["odd"])],
        {},
    )
    yield "the model is an inference tensor's", [at_call(loop.Prefetch, "at", 2, cancel)], {}


def attack(ground: Ground) -> list[Tally]:
    tally = Tally("interruptions of the loaded model")
    expected = loras(ground.train(ground.place()))
    before = state_of(ground.base.model)  # only now: at its first load ComfyUI marks its modules
    for name, patches, options in interruptions(ground):
        output = ground.place()
        with ExitStack() as stack:
            for each in patches:
                stack.enter_context(each)
            try:
                ground.train(output, **options)
                outcome = "went on"
            except BaseException as error:  # Cancel, Ctrl+C and exit are among the cases
                outcome = type(error).__name__
        comfy.model_management.interrupt_current_processing(False)
        wrong = "" if state_of(ground.base.model) == before else "the model is another"
        run = Run("ring", output)
        if run.exists() and run.finished and "pairs" not in options and name != "the loss explodes":
            wrong = wrong or ("" if loras(run) == expected else "called finished")
        if torch.is_grad_enabled() is False or torch.is_inference_mode_enabled():
            wrong = "torch was left in another mode"
        tally.note(outcome, wrong and f"{name}: {wrong}")
        ground.forget(output)
    return [tally]
