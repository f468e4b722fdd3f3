"""Blocks compiled by torch, used only if their gradients agree with the uncompiled ones.

Everything between the linears is compiled: norms, modulation, rotation, activations, residuals.
The linears are custom ops (`opaque`). A block is one graph, shared by all blocks of its kind and by
pictures of all sizes: sequence lengths vary within the bounds of the buckets.
"""

from __future__ import annotations

import importlib.util
import time
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch._dynamo.exc import TorchDynamoException

from ...language import say
from ..batch import EncodedPair
from ..config import TrainConfig
from .frozen import STREAMS, Forward
from .lora import Lora

# Relative difference of all gradients below which a compiled step counts as equal. Fused operations
# round to 16 bits less often: a difference of 0.006 in bf16 with 6 blocks, about three times that
# with 57. A wrong gradient of the rotation showed as 0.13
TOLERANCE = {torch.float32: 1e-4, torch.float16: 0.01, torch.bfloat16: 0.05}
TOLERANCE_IN_8_BITS = 0.1  # slightly different inputs round to different 8-bit values
TIMED = 3  # steps; the fastest counts
KEPT = ("optimized_attention_override",)  # of the options that ComfyUI passes to a block
WRITTEN = ("img", "txt", "x")  # inputs that some blocks update in place
MOST_GRAPHS = 64  # per kind of block: for several batch sizes, and lengths out of bounds


@dataclass(frozen=True)
class Lengths:
    """Bounds (fewest, most) on the tokens of captions, and of pictures with their references."""

    text: tuple[int, int]
    pictures: tuple[int, int]

    def bounds(self, name: str) -> tuple[int, int]:
        """Bounds for `img`, for `txt` and its `mask`; for any other, of both together."""
        if name in ("img", "txt", "mask"):
            return self.pictures if name == "img" else self.text
        return self.text[0] + self.pictures[0], self.text[1] + self.pictures[1]

    def mark(self, sequences: Mapping[str, Tensor], split: int = 0) -> None:
        """Tell torch.compile which lengths vary, and within which bounds, unless one is outside.

        `sequences` are the block's inputs [B, tokens, …], and the rotations [B, 1, tokens, …] as
        `turns`. If a block treats the picture tokens from `split` on differently, there are at
        least two of those.
        """
        marks = []
        more = max(0, split + 2 - self.pictures[0]) if split else 0
        for name, tensor in sequences.items():
            place = 2 if name == "turns" else 1
            low, high = self.bounds(name)
            low += more if name not in ("txt", "mask") else 0
            if not low <= tensor.shape[place] <= high:
                return
            marks += [(tensor, place, low, high)] if low < high else []
        for tensor, place, low, high in marks:
            torch._dynamo.mark_dynamic(tensor, place, min=low, max=high)


def lengths_of(
    shapes: Iterable[tuple[tuple[int, ...], ...]],
    texts: Iterable[int],
    config: TrainConfig,
    tokens: Callable[[Sequence[int]], int],
) -> Lengths:
    """Bounds for pairs of these shapes (`EncodedPair.shape`) and captions of these lengths.

    `tokens` gives the length of a latent. The bounds include pairs without references, if steps may
    drop them, and with the reference in place of the target, as preservation uses them.
    """
    captions, pictures = list(texts), []
    for shape in shapes:
        *latents, text = shape
        target, *references = map(tokens, latents)
        captions.append(text[1])
        pictures.append(target + sum(references))
        if config.reference_dropout:
            pictures.append(target)
        if config.preserve and references:
            pictures.append(references[0] + sum(references))
    return Lengths((min(captions), max(captions)), (min(pictures), max(pictures)))


@dataclass(frozen=True)
class TrialStep:
    """One step of the trial: its loss, all gradients concatenated on the CPU, and its duration."""

    loss: float
    gradients: Tensor
    seconds: float


class Compiler:
    """The compiled blocks of a run; eager before the trial, and if compiling fails."""

    backend: Any = "inductor"

    def __init__(
        self,
        blocks: Sequence[nn.Module],
        device: torch.device,
        dtype: torch.dtype,
        exact: bool,
        note: Callable[[str], None],
        streams: Mapping[str, str] = STREAMS,
    ) -> None:
        """`exact` is False if layers multiply in 8 bits. `note` gets the result in words.

        `streams` says what the inputs of a block are, as STREAMS does, with two more kinds: `mask`
        [B, tokens] of the text, and `split`, the token from which a block treats pictures
        differently.
        """
        self.streams = streams
        self.blocks, self.device, self.dtype, self.note = blocks, device, dtype, note
        self.tolerance = TOLERANCE[dtype] if exact else TOLERANCE_IN_8_BITS
        self.kinds: dict[type, Forward] = {}
        self.lengths: Lengths | None = None
        self.active = self.tried = False

    def copied(self, weight: Tensor) -> Tensor:
        """A copy that autograd may keep: the loaded weight is an inference tensor."""
        return weight.detach().to(self.device, self.dtype, copy=True)

    def forward(self, block: nn.Module) -> Forward:
        """The block's forward, compiled when gradients are wanted."""
        eager = block.forward

        def forward(x: Tensor | None = None, **inputs: Any) -> Any:
            if x is not None:  # ComfyUI passes a single block its input by position
                inputs["x"] = x
            if not (self.active and torch.is_grad_enabled()):
                return eager(**inputs)
            # its block counter would make one graph per block
            options = inputs["transformer_options"]
            inputs["transformer_options"] = {key: options[key] for key in KEPT if key in options}
            if self.lengths:
                self.lengths.mark(*self.sequences(inputs))
            streams = {
                name: inputs.pop(name)
                for name, kind in self.streams.items()
                if kind in WRITTEN and name in inputs
            }
            try:
                return self.kind(block)(eager, streams, inputs)
            except TorchDynamoException as error:
                if not self.tried:
                    raise
                self.give_up(reason(error))
                return run_block(eager, streams, inputs)

        return forward

    def sequences(self, inputs: Mapping[str, Any]) -> tuple[dict[str, Tensor], int]:
        """A block's inputs of varying length, by kind, and the token at which it splits them."""
        given: dict[str, Any] = {kind: inputs.get(name) for name, kind in self.streams.items()}
        given = {kind: value for kind, value in given.items() if value is not None}
        split = given.pop("split", 0)
        return given, split

    def give_up(self, why: str) -> None:
        self.active = False
        self.note(say("blocks are not compiled, training continues without: {why}", why=why))

    def kind(self, block: nn.Module) -> Forward:
        if type(block) not in self.kinds:
            self.kinds[type(block)] = torch.compile(
                copy_of(run_block), fullgraph=True, dynamic=False, backend=self.backend
            )
        return self.kinds[type(block)]

    @contextmanager
    def compiling(self) -> Iterator[None]:
        """Inside, torch may compile MOST_GRAPHS graphs per kind of block."""
        settings: Any = torch._dynamo.config
        new = hasattr(settings, "recompile_limit")
        limit = "recompile_limit" if new else "cache_size_limit"
        with settings.patch({limit: MOST_GRAPHS}):
            yield

    def try_on(self, steps: Sequence[Callable[[], float]], lora: Lora) -> None:
        """Run each of these steps eagerly and compiled; use the compiled blocks if they agree.

        A step adds its gradients to the LoRA's and returns its loss. The first one is timed, for
        information only. If the compiler fails, training stays eager; other errors are raised.
        """
        spent = worst = before = after = 0.0
        try:
            for number, step in enumerate(steps):
                times = 1 if number else TIMED
                self.active = False
                eager = [self.run(step, lora) for _ in range(times)]
                self.active = True
                compiled = [self.run(step, lora) for _ in range(1 + times)]
                fastest = [min(run.seconds for run in runs) for runs in (eager, compiled)]
                if not number:
                    before, after = fastest
                spent += compiled[0].seconds - fastest[1]
                worst = max(worst, *(difference(run, eager[0]) for run in compiled))
            failure = say(
                "gradients would be {worst} off, more than {tolerance}",
                worst=f"{worst:.1g}",
                tolerance=f"{self.tolerance:.1g}",
            )
        except TorchDynamoException as error:
            worst, failure = float("inf"), reason(error)
        finally:
            self.active = False
        self.tried = True
        if worst >= self.tolerance:
            self.give_up(failure)
            return
        self.active = True
        self.note(
            say(
                "{blocks} blocks compiled in {spent} s, gradients {worst} off; a step takes "
                "{share} of the time without, {gain}",
                blocks=len(self.blocks),
                spent=f"{spent:.0f}",
                worst=f"{worst:.1g}",
                share=f"{after / before:.2f}",
                gain=paid_off(spent, before, after),
            )
        )

    def run(self, step: Callable[[], float], lora: Lora) -> TrialStep:
        for parameter in lora.parameters():
            parameter.grad = None
        started = time.perf_counter()
        loss = step()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        seconds = time.perf_counter() - started
        gradients = [each.grad for each in lora.parameters() if each.grad is not None]
        return TrialStep(loss, torch.cat([each.flatten().cpu() for each in gradients]), seconds)


def run_block(eager: Forward, streams: Mapping[str, Tensor], inputs: Mapping[str, Any]) -> Any:
    """Run a block on copies of the inputs it updates; the compiler removes the copies."""
    return eager(**{name: stream.clone() for name, stream in streams.items()}, **inputs)


def copy_of(function: Any) -> Forward:
    """The same function with a code object of its own.

    Torch stores compiled graphs with the code object: they are freed with the run, and each kind
    of block searches only its own graphs.
    """
    return types.FunctionType(function.__code__.replace(), function.__globals__, function.__name__)


@contextmanager
def random_weights(lora: Lora, generator: torch.Generator) -> Iterator[None]:
    """Temporarily gives the LoRA fixed random weights.

    Every layer then has a gradient, and a resumed run comes to the same decision.
    """
    weights = lora.state_dict()
    try:
        lora.load_state_dict(
            {
                name: torch.empty_like(tensor).normal_(std=0.02, generator=generator)
                for name, tensor in weights.items()
            }
        )
        yield
    finally:
        lora.load_state_dict(weights)


def difference(one: TrialStep, other: TrialStep) -> float:
    """Relative difference of the losses or of all gradients, whichever is larger; inf if either
    is NaN."""
    loss = abs(one.loss - other.loss) / max(abs(other.loss), 1e-30)
    gradients = (one.gradients - other.gradients).norm() / other.gradients.norm().clamp_min(1e-30)
    both = torch.tensor([loss, gradients.item()])
    return float("inf") if both.isnan().any() else both.max().item()


def reason(error: TorchDynamoException) -> str:
    """The reason for a failed compilation, in one line."""
    if torch.cuda.is_available() and importlib.util.find_spec("triton") is None:
        return say("Triton is not installed (on Windows: pip install triton-windows)")
    inner = getattr(error, "inner_exception", error)
    lines = [line for line in str(inner).splitlines() if line.strip()]
    return f"{type(inner).__name__}: {lines[0].strip()}" if lines else type(inner).__name__


def paid_off(spent: float, before: float, after: float) -> str:
    if after >= before:
        return say("which never pays off: turn `compile` off here")
    return say("which pays off after {steps} steps", steps=f"{spent / (before - after):.0f}")


def first_of_each(groups: Iterable[list[EncodedPair]]) -> list[list[EncodedPair]]:
    """The first batch of each shape and size."""
    first: dict[Any, list[EncodedPair]] = {}
    for group in groups:
        first.setdefault((group[0].shape, len(group)), group)
    return list(first.values())


def text_tokens(path: Path) -> int:
    """Tokens of an encoded caption."""
    with safe_open(path, "pt") as file:
        return file.get_slice("cond").get_shape()[1]
