"""Pictures of many LoRAs on many test pictures: each LoRA applied once, each picture made once."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from PIL import Image
from torch import Tensor

from ..trainer import host
from ..trainer.host import Base, Progress
from ..trainer.pixels import image_of, tensor_of
from .samples import Cell, Samples
from .subjects import LoraFile, Subject


@dataclass(frozen=True)
class Setting:
    """A LoRA at a strength; the base model alone where there is no LoRA."""

    lora: LoraFile | None = None
    strength: float = 1.0

    @property
    def label(self) -> str:
        return f"{self.lora.label} x {self.strength:g}" if self.lora else "base model"


@dataclass(frozen=True)
class Trial:
    """Everything about a picture except the LoRA."""

    subject: Subject
    prompt: str
    seed: int
    steps: int = 20
    guidance: float = 2.5


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
    progress: Progress,
    graph: Mapping[str, object] | None = None,
) -> dict[tuple[Setting, Trial], Path]:
    """The picture of every setting and trial, as files in `samples`.

    Makes only those that are missing, settings outermost, and writes each as soon as it exists:
    what a cancelled call leaves behind is not made again. `progress` counts all pictures.
    """
    digest = base_digest(base)
    cells = {(s, t): cell_of(digest, s, t) for s in settings for t in trials}
    missing = [place for place, cell in cells.items() if cell not in samples]
    texts = {
        prompt: host.encode_text(base.clip, prompt)
        for prompt in dict.fromkeys(trial.prompt for _, trial in missing)
    }
    references = {
        subject: _encode(base, subject.controls)
        for subject in dict.fromkeys(trial.subject for _, trial in missing)
    }
    done = len(cells) - len(missing)
    for lora, of_lora in groupby(missing, key=lambda place: place[0].lora):
        tensors = load_for(base, lora) if lora else {}
        for setting, places in groupby(of_lora, key=lambda place: place[0]):
            model = host.with_lora(base.model, tensors, setting.strength) if lora else base.model
            for _, trial in places:
                progress.update(done, f"{setting.label} on {trial.subject.name}: sampling")
                latent = host.sample(
                    model,
                    texts[trial.prompt],
                    references[trial.subject],
                    *trial.subject.size,
                    seed=trial.seed,
                    steps=trial.steps,
                    guidance=trial.guidance,
                )
                picture = image_of(host.decode_latent(base.vae, latent))
                label = f"{setting.label} {trial.subject.name} seed {trial.seed}"
                samples.save(cells[setting, trial], picture, label, graph)
                done += 1
                progress.update(done, f"{done} of {len(cells)} pictures", picture)
    return {place: samples[cell] for place, cell in cells.items()}


def load_for(base: Base, lora: LoraFile) -> dict[str, Tensor]:
    """The LoRA's tensors. Refuses a file made for another model."""
    tensors = host.load_lora_file(lora.path)
    if len(host.unmapped_keys(base.model, tensors)) == len(tensors):
        raise ValueError(
            f"{lora.path.name} is no LoRA for FLUX.1: none of its {len(tensors)} tensors belongs "
            "to a layer of the model. Take it out of the list."
        )
    return tensors


def base_digest(base: Base) -> str:
    """A digest of model, text encoder and VAE, with the LoRAs that the user put on them."""
    parts = host.base_hash(base.model), host.clip_hash(base.clip), host.vae_hash(base.vae)
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:16]


def _encode(base: Base, pictures: Sequence[Image.Image]) -> list[Tensor]:
    return [host.encode_image(base.vae, tensor_of(picture)) for picture in pictures]
