"""Pictures of many LoRAs on many test pictures: each LoRA applied once, each picture made once."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Protocol

import torch
from PIL import Image
from safetensors import safe_open
from torch import Tensor

from ...language import say
from ...trainer import host
from ...trainer.data.pixels import image_of, tensor_of
from ...trainer.data.subject import Subject
from ...trainer.families import family_of
from ...trainer.host import Base
from ...trainer.host.costs import memory_taken, timed
from .cost import Cost, Costs
from .loras import LoraFile
from .samples import Cell, Samples


@dataclass(frozen=True)
class Setting:
    """A LoRA at a strength; the base model alone where there is no LoRA."""

    lora: LoraFile | None = None
    strength: float = 1.0

    @property
    def label(self) -> str:
        return f"{self.lora.label} x {self.strength:g}" if self.lora else say("base model")


@dataclass(frozen=True)
class Trial:
    """Everything about a picture except the LoRA."""

    subject: Subject
    prompt: str
    seed: int
    steps: int = 20
    guidance: float = 2.5


class Counter(Protocol):
    """Receives the number of pictures done, as `host.Progress` does."""

    def update(self, step: int, text: str = "", preview: Image.Image | None = None) -> None: ...


def cell_of(base_digest: str, setting: Setting, trial: Trial) -> Cell:
    width, height = trial.subject.size
    return Cell(
        base=base_digest,
        lora=setting.lora.digest if setting.lora else "",
        strength=setting.strength if setting.lora else 0.0,
        prompt=trial.prompt,
        references=trial.subject.references,
        width=width,
        height=height,
        seed=trial.seed,
        steps=trial.steps,
        guidance=trial.guidance,
    )


def generate(
    base: Base,
    settings: Sequence[Setting],
    trials: Sequence[Trial],
    samples: Samples,
    progress: Counter,
    graph: Mapping[str, object] | None = None,
) -> dict[tuple[Setting, Trial], Path]:
    """The picture of every setting and trial, as files in `samples`.

    Makes only the missing ones, settings outermost, and writes each at once: the pictures of a
    cancelled call are not made again. `progress` counts all pictures. The cost of each LoRA is
    recorded beside the pictures.
    """
    digest = base_digest(base)
    cells = {(s, t): cell_of(digest, s, t) for s in settings for t in trials}
    missing = [place for place, cell in cells.items() if cell not in samples]
    for lora in dict.fromkeys(setting.lora for setting, _ in missing):
        if lora and lora.path.suffix == ".safetensors":
            refuse_others(base, lora, outline(lora.path))
    family = family_of(base.model)

    def text_key(trial: Trial) -> tuple[str, Subject | None]:
        return trial.prompt, trial.subject if family.sees_pictures else None

    texts = {
        (prompt, subject): family.encode_prompts(
            base.clip, prompt, [tensor_of(each) for each in subject.whole] if subject else ()
        )
        for prompt, subject in dict.fromkeys(text_key(trial) for _, trial in missing)
    }
    references = {
        subject: [family.encode_image(base.vae, tensor_of(each)) for each in subject.controls]
        for subject in dict.fromkeys(trial.subject for _, trial in missing)
    }
    costs, device = Costs(samples.folder), base.model.load_device
    done = len(cells) - len(missing)
    for lora, of_lora in groupby(missing, key=lambda place: place[0].lora):
        started = time.perf_counter()
        tensors = load_for(base, lora) if lora else {}
        reading = time.perf_counter() - started
        for setting, places in groupby(of_lora, key=lambda place: place[0]):
            model = host.with_lora(base.model, tensors, setting.strength) if lora else base.model
            loads: list[float] = []
            model = timed(model, loads)
            host.forget_peak(device)
            started, made = time.perf_counter(), 0
            for _, trial in places:
                sampling = say(
                    "{setting} on {picture}: sampling",
                    setting=setting.label,
                    picture=trial.subject.name,
                )
                progress.update(done, sampling)
                text, blank = texts[text_key(trial)]
                latent = family.sample(
                    model,
                    text,
                    references[trial.subject],
                    *trial.subject.size,
                    seed=trial.seed,
                    steps=trial.steps,
                    guidance=trial.guidance,
                    blank=blank,
                )
                picture = image_of(host.decode_latent(base.vae, latent))
                label = f"{setting.label} {trial.subject.name} {seed_label(trial.seed)}"
                samples.save(cells[setting, trial], picture, label, graph)
                done, made = done + 1, made + 1
                each = (time.perf_counter() - started - loads[0]) / made
                cost = Cost(reading, loads[0], each, memory_taken(device))
                costs.add(lora.digest if lora else "", setting.strength if lora else 0.0, cost)
                counted = say("{done} of {count} pictures", done=done, count=len(cells))
                progress.update(done, counted, picture)
    return {place: samples[cell] for place, cell in cells.items()}


def seed_label(seed: int) -> str:
    return say("seed {seed}", seed=seed)


def load_for(base: Base, lora: LoraFile) -> dict[str, Tensor]:
    """The LoRA's tensors. Refuses a file made for another model."""
    tensors = host.load_lora_file(lora.path)
    refuse_others(base, lora, tensors)
    return tensors


def refuse_others(base: Base, lora: LoraFile, tensors: dict[str, Tensor]) -> None:
    """Raise ValueError where no tensor of the LoRA belongs to the model."""
    if len(host.unmapped_keys(base.model, tensors)) == len(tensors):
        title = family_of(base.model).title
        raise ValueError(
            say(
                "{name} is not a LoRA for {model}: none of its {count} tensors belongs to a "
                "layer of the model. Remove it from the list.",
                name=lora.path.name,
                model=title,
                count=len(tensors),
            )
        )


def outline(path: Path) -> dict[str, Tensor]:
    """A safetensors file's names and shapes without the values, except of single numbers."""
    with safe_open(path, "pt") as file:
        shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}
        small = {name: file.get_tensor(name) for name in shapes if math.prod(shapes[name]) <= 8}
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()} | small


def base_digest(base: Base) -> str:
    """A digest of model, text encoder and VAE, with the LoRAs that the user applied to them."""
    parts = host.base_hash(base.model), host.clip_hash(base.clip), host.vae_hash(base.vae)
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:16]
