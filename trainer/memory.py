"""The memory plan: what is kept, computed twice and streamed, decided before the first step.

It never changes what is learnt, only where things are stored and how often they are computed. One
unit is an activation of the whole sequence: tokens × hidden values in the compute dtype. Each
family states how many units its blocks keep, as torch's allocator reports them with this trainer's
layers; tests/trainer/test_memory.py and tests/families/test_memory.py measure them again.
"""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass

import torch

from ..language import say
from . import host, parallel
from .config import GB, TrainConfig
from .families import Family
from .network.adapters import adapter_units
from .network.lora import Lora
from .runs.run import Run

UNUSED = 0.03  # share of the limit that the allocator loses to fragmentation


@dataclass(frozen=True)
class Footprint:
    """Memory footprint of a step, in bytes; for the unit see above.

    `kinds` has, for each kind of block in the order they run in, their number and the units that
    one keeps for backward. `weights` are counted as stored, and so are the `movable` ones among
    them, which can be streamed. `largest` is the largest layer as stored, `cast_bytes` its copy in
    the compute dtype; `block_casts` are the copies that a block keeps between its recomputation
    and its backward. `trained` is for the LoRA and its optimiser; `transient_units` are needed
    briefly, by a block's gradients, the layers before and after the blocks, and the adapter.
    """

    kinds: tuple[tuple[int, int], ...]
    bytes_per_unit: int
    weights: int
    movable: int
    largest: int
    cast_bytes: int
    trained: int
    parameters: int
    transient_units: int
    block_casts: int = 0

    @property
    def blocks(self) -> int:
        return sum(count for count, _ in self.kinds)

    def kept_units(self, checkpointed: int) -> int:
        """Units kept from forward to backward if the first blocks keep only their input."""
        units = [kept for count, kept in self.kinds for _ in range(count)]
        return sum(units[checkpointed:])

    def activations(self, checkpointed: int, offloaded: bool = False) -> int:
        """Bytes at the peak, in the backward of the last block.

        The first blocks are the checkpointed ones: when one is recomputed, those after it and their
        inputs have been freed. If `offloaded`, all inputs but two are in host memory.
        """
        held = (lambda inputs: min(inputs, 2)) if offloaded else (lambda inputs: inputs)
        peaks, last = [held(checkpointed) + self.kept_units(checkpointed)], 0
        for count, kept in self.kinds:
            first, last = last, min(checkpointed, last + count)
            if last > first:
                peaks.append(held(last) + kept)
        return self.bytes_per_unit * (max(peaks) + self.transient_units)

    @property
    def buffers(self) -> int:
        """Bytes for streamed layers: ComfyUI copies two ahead of the one in use."""
        return 3 * self.largest


@dataclass(frozen=True)
class MemoryPlan:
    """How a training step fits into `limit` bytes.

    The first `checkpointed` blocks recompute their activations in backward; with `keeping`, their
    weights are dequantised once for both. `resident` bytes of the weights stay on the device, the
    others are streamed. If `offloaded`, the inputs of checkpointed blocks are kept in host memory.
    """

    footprint: Footprint
    limit: int
    checkpointed: int
    resident: int
    offloaded: bool = False
    keeping: bool = False

    @property
    def streamed(self) -> int:
        """Streamed weights, counted in blocks."""
        footprint = self.footprint
        return -(-(footprint.weights - self.resident) * footprint.blocks // footprint.weights)

    @property
    def besides_weights(self) -> int:
        """Predicted bytes besides the resident weights."""
        footprint = self.footprint
        buffers = footprint.buffers if self.streamed else 0
        return (
            footprint.trained
            + footprint.activations(self.checkpointed, self.offloaded)
            + (footprint.block_casts if self.keeping else footprint.cast_bytes)
            + buffers
        )

    @property
    def peak(self) -> int:
        return self.resident + self.besides_weights

    @property
    def fits(self) -> bool:
        return self.peak <= usable(self.limit)

    def summary(self) -> str:
        """Such as: fits 16 GB: 8-bit weights, 38 of 57 blocks checkpointed, 12 streamed."""
        footprint = self.footprint
        bits, blocks = 8 * footprint.weights / footprint.parameters, footprint.blocks
        parts = [say("{bits}-bit weights", bits=f"{bits:.0f}")]
        if not self.checkpointed:
            parts.append(say("nothing computed twice"))
        elif self.checkpointed == blocks:
            parts.append(say("all {blocks} blocks checkpointed", blocks=blocks))
        else:
            count = self.checkpointed
            parts.append(say("{count} of {blocks} blocks checkpointed", count=count, blocks=blocks))
        if self.streamed:
            parts.append(say("{count} streamed", count=self.streamed))
        if self.offloaded:
            parts.append(say("activations in host memory"))
        values = {"limit": f"{self.limit / GB:.3g}", "plan": say(", ").join(parts)}
        if self.fits:
            return say("fits {limit} GB: {plan}", **values)
        return say(
            "may not fit {limit} GB, about {peak} GB are needed: {plan}. A lower resolution or "
            "batch size needs less",
            **values,
            peak=f"{self.peak / GB:.3g}",
        )

    def tightened(self) -> MemoryPlan | None:
        """A plan for less memory, after it has run out; None if there is none.

        First a quarter more of the blocks checkpointed, until all are; then nothing dequantised is
        kept; then an eighth more of the movable weights streamed, until all are; then the blocks'
        inputs in host memory.
        """
        footprint = self.footprint
        if self.checkpointed < footprint.blocks:
            more = self.checkpointed + -(-footprint.blocks // 4)
            return dataclasses.replace(self, checkpointed=min(footprint.blocks, more))
        if self.keeping:
            return dataclasses.replace(self, keeping=False)
        least = footprint.weights - footprint.movable
        if self.resident > least:
            fewer = max(least, self.resident - -(-footprint.movable // 8))
            return dataclasses.replace(self, resident=fewer)
        if footprint.movable and not self.offloaded:
            return dataclasses.replace(self, offloaded=True)
        return None


def usable(limit: int) -> int:
    return int(limit * (1 - UNUSED))


def plan_memory(footprint: Footprint, limit: int, checkpointing: str) -> MemoryPlan:
    """The fastest plan that should stay below `limit` bytes, or the smallest one if none does.

    The first that fits of: everything kept; as few blocks checkpointed as possible; all of them,
    and as few weights streamed as possible; also the blocks' inputs in host memory.
    `checkpointing` "on" checkpoints all blocks, "off" none.
    """
    least = footprint.blocks if checkpointing == "on" else 0
    most = 0 if checkpointing == "off" else footprint.blocks
    for checkpointed in range(least, most + 1):
        for keeping in (True, False) if checkpointed and footprint.block_casts else (False,):
            plan = MemoryPlan(footprint, limit, checkpointed, footprint.weights, keeping=keeping)
            if plan.fits:
                return plan
    for offloaded in (False, True) if most and footprint.movable else (False,):
        # at least one byte is streamed, so that the buffers for streaming are counted
        streaming = MemoryPlan(
            footprint, limit, most, footprint.weights - min(1, footprint.movable), offloaded
        )
        room = usable(limit) - streaming.besides_weights
        resident = max(footprint.weights - footprint.movable, min(streaming.resident, room))
        plan = dataclasses.replace(streaming, resident=resident)
        if plan.fits:
            return plan
    return plan


def forward_bytes(family: Family, tokens: int, itemsize: int) -> int:
    """Bytes of a forward pass without gradients, besides the weights."""
    largest = max(kept for _, kept in family.block_memory())
    return tokens * family.width * itemsize * (largest + family.ends)


def trained_bytes(lora: Lora) -> int:
    """Bytes of the LoRA's float32 weights, their gradients and AdamW's two moments."""
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
        buffers = footprint.buffers + footprint.cast_bytes
        host.load_alone(self.model, plan.besides_weights, plan.resident, buffers)

    def tighten(self) -> bool:
        """Use less memory from now on; False if no tighter plan exists."""
        tighter = self.plan.tightened()
        if tighter is None:
            return False
        self.plan = tighter
        self.write_down(say("{plan}, after running out of memory", plan=tighter.summary()))
        return True

    def write_down(self, summary: str) -> None:
        """Log a summary of the plan, and record it in run.yaml."""
        logging.info("Memory plan: %s", summary)
        if parallel.is_first():
            self.run.file.write_plan(summary)


def memory_limit(model: host.Model, most: float) -> int:
    """Bytes that training may use, the weights included; at most `most` GB unless that is 0."""
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
    casts = [host.dense_bytes(each, dtype) for each in family.used_again(lora.layers)]
    return Footprint(
        kinds=family.block_memory(),
        bytes_per_unit=tokens * family.width * dtype.itemsize,
        weights=weights,
        movable=movable,
        largest=largest,
        cast_bytes=cast,
        trained=trained_bytes(lora),
        parameters=parameters,
        transient_units=family.transient + family.ends + adapter_units(config),
        block_casts=max(casts) if cast else 0,
    )
