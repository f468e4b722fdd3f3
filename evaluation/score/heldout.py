"""The training loss on fixed pairs with fixed noise, by which checkpoints can be compared."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...lines import Lines
from ...trainer import host
from ...trainer.batch import EncodedPair
from ...trainer.config import TrainConfig
from ...trainer.families import family_of
from ...trainer.host import Base
from ...trainer.loss.holdout import held_out_losses
from ...trainer.memory import forward_bytes
from ..pictures.generate import Setting, load_for
from .work import Work

Array = NDArray[np.floating]


@dataclass(frozen=True)
class Draws:
    """The number of noise levels, of noises at each, and their seed: see `held_out_losses`."""

    levels: int
    noises: int
    seed: int

    @property
    def forwards(self) -> int:
        """Forward passes per pair."""
        return self.levels * self.noises


SCREENING, FINAL = Draws(4, 1, seed=1), Draws(8, 2, seed=2)


class LossFile:
    """Losses already computed, one per line: for a new checkpoint, only its own are computed.

    Those of a damaged line are computed again.
    """

    def __init__(self, path: Path) -> None:
        self.lines = Lines(path, known_losses)
        self.known = dict(self.lines)

    def __contains__(self, key: str) -> bool:
        return key in self.known

    def __getitem__(self, key: str) -> Array:
        return self.known[key]

    def add(self, key: str, label: str, losses: Array) -> None:
        self.known[key] = losses
        self.lines.path.parent.mkdir(parents=True, exist_ok=True)
        self.lines.append({"label": label, "losses": losses.tolist(), "key": key})


def known_losses(entry: dict[str, Any]) -> tuple[str, Array]:
    """Key and losses [level, noise] of a line."""
    losses = np.array(entry["losses"], dtype=np.float64)
    if losses.ndim != 2:
        raise ValueError(f"{losses.ndim} dimensions instead of 2")
    return str(entry["key"]), losses


@dataclass(frozen=True)
class LossQuery:
    """A setting's losses on one pair with one set of draws."""

    setting: Setting
    pair: EncodedPair
    draws: Draws

    def key(self, base: str, config: TrainConfig) -> str:
        """A digest of everything the losses depend on; cached files are named by their content."""
        lora, strength = "", 0.0
        if self.setting.lora:
            lora, strength = self.setting.lora.digest, self.setting.strength
        files = [path.stem for path in (self.pair.target, *self.pair.references, self.pair.text)]
        trained = (config.timesteps, config.guidance, config.dtype)
        parts = [base, lora, strength, self.pair.stem, files, trained, astuple(self.draws)]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]


def score_losses(
    base: Base,
    queries: Sequence[LossQuery],
    config: TrainConfig,
    file: LossFile,
    work: Work | None = None,
) -> dict[LossQuery, Array]:
    """The losses [level, noise] of every query. Only what is not in `file` is computed.

    Queries with the same LoRA and strength should follow each other: it is applied once for them.
    Every result is written at once, so that Cancel loses nothing. `work` counts the forward passes
    as part of the whole scoring.
    """
    identity = host.base_hash(base.model)
    keys = {query: query.key(identity, config) for query in queries}
    missing = [query for query in queries if keys[query] not in file]
    dtype, family = host.training_dtype(base.model, config.dtype), family_of(base.model)
    work = work or Work(forwards(queries))
    work.expect(forwards(queries), forwards(missing))
    with host.sampling_allowed():
        for lora, of_lora in groupby(missing, key=lambda query: query.setting.lora):
            tensors = load_for(base, lora) if lora else {}
            for setting, some in groupby(of_lora, key=lambda query: query.setting):
                model = base.model
                if lora:
                    model = host.with_lora(model, tensors, setting.strength)
                model = host.for_training(model)
                host.load_alone(model, _reserve(base, missing, config))
                for query in some:
                    draws, device = query.draws, model.load_device
                    losses = held_out_losses(
                        family, [query.pair], config, dtype, device, *astuple(draws)
                    )[0].numpy()
                    file.add(keys[query], f"{setting.label}, {query.pair.stem}", losses)
                    work.advance(draws.forwards, setting.label)
    return {query: file[key] for query, key in keys.items()}


def forwards(queries: Sequence[LossQuery]) -> int:
    """The number of forward passes of the transformer for these queries."""
    return sum(query.draws.forwards for query in queries)


def _reserve(base: Base, queries: Sequence[LossQuery], config: TrainConfig) -> int:
    """Bytes to keep free for the largest pair's forward pass."""
    family = family_of(base.model)
    tokens = max(family.sequence_length(query.pair.shape) for query in queries)
    dtype = host.training_dtype(base.model, config.dtype)
    return forward_bytes(family, tokens, dtype.itemsize)
