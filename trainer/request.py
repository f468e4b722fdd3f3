"""The request that `train` carries out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from ..dataset.pair import PairedDataset
from . import host
from .config import TrainConfig
from .runs.job import SamplePlan
from .watcher import Watcher


class TrainingError(RuntimeError):
    """Training cannot continue."""


@dataclass(frozen=True)
class TrainingRequest:
    """One LoRA to train: on which model and pairs, under which name, and where its files go.

    `output` and `cache_folder` are ComfyUI's output folder and the folder for encoded pictures.
    `replace` moves a run of this name, made from other pairs or settings, to the trash folder.
    `start` is a LoRA to begin with, in any key names ComfyUI loads; `resize_start` cuts a larger
    rank down to the run's. `node_id` is the node that shows the progress, `watcher` observes every
    step, `samples` says what to sample during the run. If `output` cannot be written, the work
    goes to the first of `rescue_places` that can. `alone` says that nothing else uses the text
    encoder and the VAE: `base` drops them as soon as everything is encoded. `heading` stays on the
    node below every text.
    """

    base: host.Base
    pairs: PairedDataset
    config: TrainConfig
    name: str
    output: Path
    cache_folder: Path
    replace: bool = False
    start: Mapping[str, Tensor] | None = None
    node_id: str | None = None
    resize_start: bool = False
    watcher: Watcher = field(default_factory=Watcher)
    samples: SamplePlan | None = None
    rescue_places: Sequence[Path] = ()
    alone: bool = False
    heading: str = ""
