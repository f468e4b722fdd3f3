"""Starting from another LoRA: its weights, whatever its key names and rank, as this run's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ...language import say
from .. import host
from ..config import TrainConfig
from ..families import family_of
from ..files import LoraError
from ..network.lora import Lora, LowRank
from .export import kind_of, read_lora

OF_TEXT = ("lora_te", "text_encoder")  # prefixes of the keys of text encoders


def start_from(
    lora: Lora,
    named: Mapping[str, Tensor],
    model: host.Model,
    config: TrainConfig,
    resize: bool = False,
) -> list[str]:
    """Copy the weights of a LoRA, as read from a file; returns notes on what was left out.

    A plain LoRA may have any key names that ComfyUI loads, and any rank: a smaller one fits as it
    is, a larger one is cut down to the run's by `resize` (the best approximation of that rank).
    Other adapters must have the run's own shapes. Raises LoraError for what does not fit.
    """
    if config.adapter != "lora":
        _start_alike(lora, named, config)
        return []
    try:
        parts, others = host.low_rank_parts(model, dict(named))
    except LoraError:
        _require_kind(named)
        raise
    if not parts:
        raise LoraError(
            say(
                "This is not a LoRA for the loaded model: ComfyUI knows none of its {count} keys "
                "({example}).",
                count=len(named), example=next(iter(named), "–"),
            )
        )  # fmt: skip
    by_linear: dict[str, list[host.LowRankPart]] = {}
    for part in parts:
        by_linear.setdefault(part.linear, []).append(part)
    spare = sorted(by_linear.keys() - lora.layers.keys())
    inside = family_of(model).targeted(spare, "all")
    if inside:
        raise LoraError(
            say(
                "The LoRA to start from has {count} layers that this run does not train, {names}, "
                "…: its change there would be lost. Set targets to all.",
                count=len(inside), names=", ".join(inside[:3]),
            )
        )  # fmt: skip
    state = lora.state_dict()
    needed, kept = 0, 1.0
    for name, layer in lora.layers.items():
        if name not in by_linear or not isinstance(layer, LowRank):
            continue
        up, down = joined(by_linear[name], layer.up.shape[0])
        _require_shape(name, up, down, layer)
        needed = max(needed, down.shape[0])
        if down.shape[0] > config.rank and resize:
            up, down, share = cut(up, down, config.rank)
            kept = min(kept, share)
        if down.shape[0] <= config.rank:  # the remaining rank is new, and changes nothing yet
            state[f"{name}.up"][:, : up.shape[1]] = up / layer.scale
            state[f"{name}.down"][: down.shape[0]] = down
    if needed > config.rank and not resize:
        raise LoraError(
            say(
                "The LoRA to start from has rank {theirs}, the run {rank}. Train with rank "
                "{theirs}, or write `start: {{file: …, resize: true}}` to have it cut down.",
                theirs=needed, rank=config.rank,
            )
        )  # fmt: skip
    lora.load_state_dict(state)
    notes = []
    if kept < 1:
        notes.append(
            say(
                "The LoRA to start from was cut down from rank {theirs} to {rank}: the layer "
                "that lost most keeps {share} of its change.",
                theirs=needed, rank=config.rank, share=f"{kept:.1%}",
            )
        )  # fmt: skip
    left_out = [*spare, *others]
    if left_out:
        texts = sum(key.startswith(OF_TEXT) for key in left_out)
        notes.append(
            say(
                "Not trained here, and left out of the LoRA to start from: {count} keys ({texts} "
                "of text encoders): {example}, …",
                count=len(left_out), texts=texts, example=left_out[0],
            )
        )  # fmt: skip
    return notes


def joined(parts: Sequence[host.LowRankPart], rows: int) -> tuple[Tensor, Tensor]:
    """up [rows, r] and down [r, in] of everything that is added to one linear.

    If its parts (q, k and v, say) have the same `down`, as in this trainer's own exports, they
    share the rank; otherwise r is the sum of their ranks.
    """
    first = parts[0].down
    shared = all(torch.equal(part.down, first) for part in parts)
    down = first if shared else torch.cat([part.down for part in parts])
    up, column = torch.zeros(rows, down.shape[0]), 0
    for part in parts:
        height, rank = part.up.shape
        start, count = part.rows or (0, rows)
        if height != count or start + count > rows or part.down.shape[1] != first.shape[1]:
            break  # of another shape, which the caller sees
        up[start : start + count, column : column + rank] += part.up
        column += 0 if shared else rank
    else:
        return up, down
    return torch.cat([part.up for part in parts]), down


def cut(up: Tensor, down: Tensor, rank: int) -> tuple[Tensor, Tensor, float]:
    """The closest up and down of this rank (Eckart & Young 1936), and the share of the norm kept.

    By QR of both sides, so that only a matrix of the old rank is decomposed.
    """
    left, up_triangle = torch.linalg.qr(up)
    right, down_triangle = torch.linalg.qr(down.T)
    u, sizes, v = torch.linalg.svd(up_triangle @ down_triangle.T)
    root = sizes[:rank].sqrt()
    share = sizes[:rank].norm() / sizes.norm() if sizes.any() else torch.tensor(1.0)
    return left @ u[:, :rank] * root, (root[:, None] * v[:rank]) @ right.T, share.item()


def _require_shape(name: str, up: Tensor, down: Tensor, layer: LowRank) -> None:
    theirs = f"{up.shape[0]}×{down.shape[1]}"
    ours = f"{layer.up.shape[0]}×{layer.down.shape[1]}"
    if theirs != ours:
        raise LoraError(
            say(
                "The LoRA to start from is for a model of another size: {name} is {theirs} there, "
                "{ours} here.",
                name=name, theirs=theirs, ours=ours,
            )
        )  # fmt: skip


def _require_kind(named: Mapping[str, Tensor]) -> None:
    """Raise a LoraError that names the kind of adapter, if this trainer has it."""
    tensors, _ = read_lora(named)
    kind = kind_of(tensors)
    if kind != "LoRA":
        raise LoraError(
            say(
                "The LoRA to start from is of another kind, a {kind}: train with `adapter` "
                "{adapter}.",
                kind=kind, adapter=kind.lower(),
            )
        )  # fmt: skip


def _start_alike(lora: Lora, named: Mapping[str, Tensor], config: TrainConfig) -> None:
    """Start from an adapter of the same kind and shapes."""
    tensors, alpha = read_lora(named)
    try:
        lora.start_from(tensors, alpha / config.rank)
    except ValueError as error:
        raise LoraError(str(error)) from error
