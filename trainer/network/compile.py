"""Blocks compiled by torch, after they have shown that they do what the uncompiled ones do.

What is compiled lies between the linears: norms, modulation, rotation, activations, residuals. The
linears themselves are one operation each (`opaque`). A block is one graph, and all blocks of a kind
share it. Pictures of several sizes share it too: lengths vary within the bounds of the buckets.
"""

from __future__ import annotations

import importlib.util
import time
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch._dynamo.exc import TorchDynamoException

from ..batch import EncodedPair
from ..config import TrainConfig
from .frozen import STREAMS, Forward
from .lora import Lora

# Relative difference of all gradients up to which a compiled step counts as the same. Fused, what
# lies between is not rounded to 16 bits each time: 0.006 off in bf16 at 6 blocks, to be tripled for
# 57. A rotation whose gradient was wrong showed as 0.13
NEAR = {torch.float32: 1e-4, torch.float16: 0.01, torch.bfloat16: 0.05}
NEAR_IN_8_BITS = 0.1  # products round what comes to them slightly other to other values
TIMED = 3  # steps of which the fastest counts
MOST_GRAPHS = 64  # of a kind: batches of several sizes, lengths out of bounds


@dataclass(frozen=True)
class Lengths:
    """The fewest and the most tokens, of captions and of pictures with their references."""

    text: tuple[int, int]
    pictures: tuple[int, int]

    def of(self, name: str) -> tuple[int, int]:
        """Bounds of a block's input: `img`, `txt`, or of the whole sequence."""
        if name in ("img", "txt"):
            return self.pictures if name == "img" else self.text
        return self.text[0] + self.pictures[0], self.text[1] + self.pictures[1]

    def mark(self, streams: Mapping[str, Tensor], turns: Tensor) -> None:
        """Tell the compiler which lengths [B, tokens, C] vary, and how far; not if one is outside.

        `turns` [B, 1, tokens, …] are those of the whole sequence.
        """
        sizes = {name: stream.shape[1] for name, stream in streams.items()}
        bounds = {name: self.of(name) for name in [*sizes, "turns"]}
        if any(not bounds[name][0] <= size <= bounds[name][1] for name, size in sizes.items()):
            return
        for name, tensor, place in [*((n, s, 1) for n, s in streams.items()), ("turns", turns, 2)]:
            low, high = bounds[name]
            if low < high:
                torch._dynamo.mark_dynamic(tensor, place, min=low, max=high)


def lengths_of(
    shapes: Iterable[tuple[tuple[int, ...], ...]],
    texts: Iterable[int],
    config: TrainConfig,
    tokens: Callable[[Sequence[int]], int],
) -> Lengths:
    """Bounds for pairs of these shapes, as `EncodedPair` has them, and texts of these lengths.

    `tokens` gives the length of a latent. Without their references too, where steps may drop them;
    and with the reference in the place of the target, as preservation has it.
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
class Taken:
    """One step of the trial: its loss, all gradients in a row on the CPU, and how long it took."""

    loss: float
    gradients: Tensor
    seconds: float


class Compiler:
    """The compiled blocks of a run. Until they have been tried, and where they fail, eager ones."""

    backend: Any = "inductor"

    def __init__(
        self,
        blocks: Sequence[nn.Module],
        device: torch.device,
        dtype: torch.dtype,
        exact: bool,
        tell: Callable[[str], None],
    ) -> None:
        """`exact` is whether products are, or in 8 bits. `tell` is told how it went."""
        self.blocks, self.device, self.dtype, self.tell = blocks, device, dtype, tell
        self.near = NEAR[dtype] if exact else NEAR_IN_8_BITS
        self.kinds: dict[type, Forward] = {}
        self.lengths: Lengths | None = None
        self.active = self.tried = False

    def plain(self, weight: Tensor) -> Tensor:
        """A copy of a small weight that autograd may keep: the loaded is an inference tensor."""
        return weight.detach().to(self.device, self.dtype, copy=True)

    def forward(self, block: nn.Module) -> Forward:
        """The block's forward, compiled where gradients are wanted."""
        eager = block.forward

        def forward(x: Tensor | None = None, **inputs: Any) -> Any:
            if x is not None:  # single blocks get theirs by position
                inputs["x"] = x
            if not (self.active and torch.is_grad_enabled()):
                return eager(**inputs)
            inputs["transformer_options"] = {}  # counts blocks: each would be another graph
            streams = {name: inputs.pop(name) for name in STREAMS if name in inputs}
            if self.lengths:
                self.lengths.mark(streams, inputs["pe"])
            try:
                return self.kind(block)(eager, streams, inputs)
            except TorchDynamoException as error:
                if not self.tried:
                    raise
                self.give_up(reason(error))
                return run_block(eager, streams, inputs)

        return forward

    def give_up(self, why: str) -> None:
        self.active = False
        self.tell(f"blocks are not compiled, training goes on without: {why}")

    def kind(self, block: nn.Module) -> Forward:
        if type(block) not in self.kinds:
            self.kinds[type(block)] = torch.compile(
                own(run_block), fullgraph=True, dynamic=False, backend=self.backend
            )
        return self.kinds[type(block)]

    @contextmanager
    def compiling(self) -> Iterator[None]:
        """Inside, torch may compile as many graphs as there are batches of another size."""
        settings: Any = torch._dynamo.config
        new = hasattr(settings, "recompile_limit")
        limit = "recompile_limit" if new else "cache_size_limit"
        with settings.patch({limit: MOST_GRAPHS}):
            yield

    def try_on(self, steps: Sequence[Callable[[], float]], lora: Lora) -> None:
        """Take each of these steps eagerly and compiled; keep to what is compiled if they agree.

        A step adds its gradients to the LoRA's and returns its loss. Of the first the time is told;
        it decides nothing. What a compiler cannot do leaves training eager; other errors come out.
        """
        spent = worst = before = after = 0.0
        try:
            for number, step in enumerate(steps):
                times = 1 if number else TIMED
                self.active = False
                eager = [self.take(step, lora) for _ in range(times)]
                self.active = True
                compiled = [self.take(step, lora) for _ in range(1 + times)]
                fastest = [min(taken.seconds for taken in each) for each in (eager, compiled)]
                if not number:
                    before, after = fastest
                spent += compiled[0].seconds - fastest[1]
                worst = max(worst, *(difference(taken, eager[0]) for taken in compiled))
            failure = f"gradients would be {worst:.1g} off, more than {self.near:.1g}"
        except TorchDynamoException as error:
            worst, failure = float("inf"), reason(error)
        finally:
            self.active = False
        self.tried = True
        if worst >= self.near:
            self.give_up(failure)
            return
        self.active = True
        self.tell(
            f"{len(self.blocks)} blocks compiled in {spent:.0f} s, gradients {worst:.1g} off; a "
            f"step takes {after / before:.2f} of the time without, "
            f"{paid_off(spent, before, after)}"
        )

    def take(self, step: Callable[[], float], lora: Lora) -> Taken:
        for parameter in lora.parameters():
            parameter.grad = None
        started = time.perf_counter()
        loss = step()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        seconds = time.perf_counter() - started
        gradients = [each.grad for each in lora.parameters() if each.grad is not None]
        return Taken(loss, torch.cat([each.flatten().cpu() for each in gradients]), seconds)


def run_block(eager: Forward, streams: Mapping[str, Tensor], inputs: Mapping[str, Any]) -> Any:
    """A block on copies of what it updates: the compiler sees through them, and makes none."""
    return eager(**{name: stream.clone() for name, stream in streams.items()}, **inputs)


def own(function: Any) -> Forward:
    """The same function with code of its own. Torch keeps what it has compiled with the code: it
    goes when a run goes, and kinds of blocks do not look through each other's graphs."""
    return types.FunctionType(function.__code__.replace(), function.__globals__, function.__name__)


@contextmanager
def random_weights(lora: Lora, generator: torch.Generator) -> Iterator[None]:
    """Inside, other weights, by which every layer does something and gets a gradient; whatever
    the LoRA has learnt, they are the same."""
    learnt = lora.state_dict()
    try:
        lora.load_state_dict(
            {
                name: torch.empty_like(tensor).normal_(std=0.02, generator=generator)
                for name, tensor in learnt.items()
            }
        )
        yield
    finally:
        lora.load_state_dict(learnt)


def difference(one: Taken, other: Taken) -> float:
    """Relative difference of losses or of all gradients, whichever is larger; endless if one of
    them is no number."""
    loss = abs(one.loss - other.loss) / max(abs(other.loss), 1e-30)
    gradients = (one.gradients - other.gradients).norm() / other.gradients.norm().clamp_min(1e-30)
    both = torch.tensor([loss, gradients.item()])
    return float("inf") if both.isnan().any() else both.max().item()


def reason(error: TorchDynamoException) -> str:
    """Why there is no compiled step, in a sentence."""
    if torch.cuda.is_available() and importlib.util.find_spec("triton") is None:
        return "Triton is not installed (on Windows: pip install triton-windows)"
    inner = getattr(error, "inner_exception", error)
    lines = [line for line in str(inner).splitlines() if line.strip()]
    return f"{type(inner).__name__}: {lines[0].strip()}" if lines else type(inner).__name__


def paid_off(spent: float, before: float, after: float) -> str:
    if after >= before:
        return "which never pays off: turn `compile` off here"
    return f"which pays off after {spent / (before - after):.0f} steps"


def first_of_each(groups: Iterable[list[EncodedPair]]) -> list[list[EncodedPair]]:
    """The first batch of each shape and size."""
    found: dict[Any, list[EncodedPair]] = {}
    for group in groups:
        found.setdefault((group[0].shape, len(group)), group)
    return list(found.values())


def text_tokens(path: Any) -> int:
    """Length of an encoded text."""
    with safe_open(path, "pt") as file:
        return file.get_slice("cond").get_shape()[1]
