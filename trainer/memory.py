"""The memory plan: what is kept, computed twice and streamed, decided before the first step.

It never changes what is learnt, only where things lie and how often they are computed. One unit is
an activation of the whole sequence, tokens × hidden values in the compute dtype; the counts below
are what torch's allocator reports for FLUX.1's blocks with this trainer's layers (tests/trainer/
test_memory.py measures them again).
"""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass

import torch

from . import host, parallel
from .config import GB, TrainConfig
from .families import Family
from .network.adapters import adapter_units
from .network.lora import Lora
from .runs.run import Run

# Units that one block keeps for backward. Double: 4 copies before norms, q, k, v before and after
# norm and rotation and joined (6), attention (2), MLP before and after GELU (8). Single: 2, the
# whole of the first linear (7), q and k (2), attention (1), attention joined with the MLP (5)
KEPT_DOUBLE, KEPT_SINGLE = 20, 17
# Units that live for a moment: a block's gradients, and what comes before and after the blocks
GRADIENTS, ENDS = 14, 2
UNUSED = 0.03  # of the limit, for what the allocator cannot use


@dataclass(frozen=True)
class Footprint:
    """What a step takes, in bytes: `unit` see above; `trained` for the LoRA and its optimiser.

    Weights are counted as stored, `movable` is what need not stay on the device; `largest` is the
    largest layer as stored, `cast` what it takes to put it into the compute dtype.
    """

    double: int
    single: int
    unit: int
    weights: int
    movable: int
    largest: int
    cast: int
    trained: int
    parameters: int
    moment: int = 0  # units that the kind of adapter takes for a moment, see `adapter_units`

    @property
    def blocks(self) -> int:
        return self.double + self.single

    def kept(self, checkpointed: int) -> int:
        """Units between forward and backward if the first blocks keep nothing but their input."""
        doubles = min(checkpointed, self.double)
        singles = checkpointed - doubles
        return (self.double - doubles) * KEPT_DOUBLE + (self.single - singles) * KEPT_SINGLE

    def activations(self, checkpointed: int, offloaded: bool = False) -> int:
        """Bytes at the worst moment, the backward of the last block.

        The first blocks are the checkpointed ones: when they are computed again, the others have
        been given back. Offloaded, their inputs wait in host memory, all but two.
        """
        inputs = min(checkpointed, 2) if offloaded else checkpointed
        # double blocks keep more, but their turn comes when a third of the inputs is left
        again = KEPT_SINGLE if checkpointed > self.double and not offloaded else KEPT_DOUBLE
        inside = max(self.kept(checkpointed), again if checkpointed else 0)
        return self.unit * (inputs + inside + GRADIENTS + self.moment + ENDS)

    @property
    def buffers(self) -> int:
        """Room for layers on their way: ComfyUI copies two ahead of the one in use."""
        return 3 * self.largest


@dataclass(frozen=True)
class MemoryPlan:
    """How a training step fits into `limit` bytes.

    The first `checkpointed` blocks compute their activations again in backward, `resident` bytes
    of the weights stay on the device, the others are streamed; `offloaded` inputs of checkpointed
    blocks wait in host memory.
    """

    footprint: Footprint
    limit: int
    checkpointed: int
    resident: int
    offloaded: bool = False

    @property
    def streamed(self) -> int:
        """Weights that come and go, counted in blocks."""
        of = self.footprint
        return -(-(of.weights - self.resident) * of.blocks // of.weights)

    @property
    def beside(self) -> int:
        """Predicted bytes beside the resident weights."""
        of = self.footprint
        buffers = of.buffers if self.streamed else 0
        return of.trained + of.activations(self.checkpointed, self.offloaded) + of.cast + buffers

    @property
    def peak(self) -> int:
        return self.resident + self.beside

    @property
    def fits(self) -> bool:
        return self.peak <= usable(self.limit)

    def words(self) -> str:
        """As on the node: fits 16 GB: 8-bit weights, 38 of 57 blocks checkpointed, 12 streamed."""
        of = self.footprint
        parts = [f"{8 * of.weights / of.parameters:.0f}-bit weights"]
        if not self.checkpointed:
            parts.append("nothing computed twice")
        elif self.checkpointed == of.blocks:
            parts.append(f"all {of.blocks} blocks checkpointed")
        else:
            parts.append(f"{self.checkpointed} of {of.blocks} blocks checkpointed")
        if self.streamed:
            parts.append(f"{self.streamed} streamed")
        if self.offloaded:
            parts.append("activations in host memory")
        limit = f"{self.limit / GB:.3g} GB"
        if self.fits:
            return f"fits {limit}: {', '.join(parts)}"
        return (
            f"may not fit {limit}, about {self.peak / GB:.3g} GB are needed: {', '.join(parts)}. "
            "A lower resolution or batch size needs less"
        )

    def tightened(self) -> MemoryPlan | None:
        """One notch less memory, after it did run out; None if there is nothing left to spare.

        More blocks checkpointed, until all are; then an eighth more of the weights streamed, until
        all that can move are; then the blocks' inputs to host memory.
        """
        of = self.footprint
        if self.checkpointed < of.blocks:
            more = self.checkpointed + -(-of.blocks // 4)
            return dataclasses.replace(self, checkpointed=min(of.blocks, more))
        least = of.weights - of.movable
        if self.resident > least:
            fewer = max(least, self.resident - -(-of.movable // 8))
            return dataclasses.replace(self, resident=fewer)
        if of.movable and not self.offloaded:
            return dataclasses.replace(self, offloaded=True)
        return None


def usable(limit: int) -> int:
    return int(limit * (1 - UNUSED))


def plan_memory(of: Footprint, limit: int, checkpointing: str) -> MemoryPlan:
    """The fastest plan that should stay below `limit` bytes, or the smallest one if none does.

    In this order: everything kept; the fewest blocks checkpointed; all, and the fewest weights
    streamed; and the blocks' inputs in host memory. `checkpointing` on or off settles that part.
    """
    least = of.blocks if checkpointing == "on" else 0
    most = 0 if checkpointing == "off" else of.blocks
    for checkpointed in range(least, most + 1):
        plan = MemoryPlan(of, limit, checkpointed, of.weights)
        if plan.fits:
            return plan
    for offloaded in (False, True) if most and of.movable else (False,):
        # one byte less than everything: the buffers for streaming are counted in
        streaming = MemoryPlan(of, limit, most, of.weights - min(1, of.movable), offloaded)
        room = usable(limit) - streaming.beside
        resident = max(of.weights - of.movable, min(streaming.resident, room))
        plan = dataclasses.replace(streaming, resident=resident)
        if plan.fits:
            return plan
    return plan


def forward_bytes(tokens: int, hidden: int, itemsize: int) -> int:
    """What a forward pass without gradients takes beside the weights."""
    return tokens * hidden * itemsize * (KEPT_DOUBLE + ENDS)


def trained_bytes(lora: Lora) -> int:
    """Memory for the LoRA's float32 weights, their gradients and AdamW's two moments."""
    return 4 * sum(weight.nbytes for weight in lora.parameters())


@dataclass
class Memory:
    """The device memory of a run: a plan, and the base model loaded as it says."""

    model: host.Model
    run: Run
    plan: MemoryPlan

    def load(self) -> None:
        """Load the base model alone, as the plan says; another model may have displaced it."""
        plan, footprint = self.plan, self.plan.footprint
        buffers = footprint.buffers + footprint.cast
        host.load_alone(self.model, plan.beside, plan.resident, buffers)

    def tighten(self) -> bool:
        """Use less memory from now on; False if nothing is left to spare."""
        tighter = self.plan.tightened()
        if tighter is None:
            return False
        self.plan = tighter
        self.write_down(f"{tighter.words()}, after running out of memory")
        return True

    def write_down(self, summary: str) -> None:
        """Write a summary of the plan to ComfyUI's console and to run.yaml."""
        logging.info("Memory plan: %s", summary)
        if parallel.is_first():
            self.run.write_plan(summary)


def memory_limit(model: host.Model, most: float) -> int:
    """Bytes that training may use: what is free with the weights, at most `most` GB unless 0."""
    free, limit = host.room_for(model), int(most * GB)
    return min(free, limit) if limit else free


def footprint_of(
    model: host.Model,
    family: Family,
    lora: Lora,
    config: TrainConfig,
    dtype: torch.dtype,
    tokens: int,
) -> Footprint:
    """Memory footprint of a step with `tokens` tokens."""
    weights, movable, largest, cast, parameters = host.weight_bytes(model, dtype)
    double, single = family.block_counts()
    return Footprint(
        double=double,
        single=single,
        unit=tokens * family.width * dtype.itemsize,
        weights=weights,
        movable=movable,
        largest=largest,
        cast=cast,
        trained=trained_bytes(lora),
        parameters=parameters,
        moment=adapter_units(config),
    )
