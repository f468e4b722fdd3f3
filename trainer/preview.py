"""Samples during training: control, result and target of a few pictures side by side."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, replace

from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from ..dataset.pair import PairedDataset
from ..dataset.strips import pasted
from ..files import storing, write_atomically
from ..language import say
from . import host
from .batch import Text
from .data.cache import Cache
from .data.pixels import image_of, tensor_of
from .data.sizes import training_sizes
from .data.subject import Subject, subject_of_image, subject_of_pair
from .runs.job import SamplePlan
from .runs.run import Run


@dataclass(frozen=True)
class Shot:
    """A subject and a prompt, both encoded; `blank` is the empty prompt, for guidance."""

    subject: Subject
    references: tuple[Tensor, ...]
    prompt: str
    text: Text
    blank: Text | None


class Preview:
    """Samples with ComfyUI's own sampler and the LoRA in training, always from the same noise."""

    def __init__(
        self, base: host.Base, cache: Cache, pairs: PairedDataset, plan: SamplePlan, run: Run
    ) -> None:
        self.base, self.plan, self.run, self.config = base, plan, run, cache.config
        self.family = family = cache.family
        self.shots: list[Shot] = []
        texts: dict[tuple, tuple[Text, Text | None]] = {}
        for subject in subjects(plan, pairs, cache):
            references = tuple(
                family.encode_image(base.vae, tensor_of(control)) for control in subject.controls
            )
            whole = [tensor_of(control) for control in subject.whole]
            for prompt in plan.prompts or (subject.caption,):
                key = prompt, subject if family.sees_pictures else None
                if key not in texts:
                    texts[key] = family.encode_prompts(base.clip, prompt, whole)
                self.shots.append(Shot(subject, references, prompt, *texts[key]))

    def due(self, done: int, saving: bool, last: bool) -> bool:
        """Whether to sample after `done` steps; always at the last one."""
        if self.plan.every and not last:
            return done % self.plan.every == 0
        return saving

    def sample(self, model: host.Model, step: int, progress: host.Progress) -> Image.Image:
        """The strips after `step` steps, one below the other. Also saves each in `samples`."""
        strips = []
        for number, shot in enumerate(self.shots, start=1):
            values = {"step": step, "number": number, "count": len(self.shots)}
            progress.update(step, say("step {step}: sampling {number} of {count}", **values))
            with host.sampling_allowed():
                latent = self.family.sample(
                    model,
                    shot.text,
                    shot.references,
                    *shot.subject.size,
                    seed=self.plan.seed,
                    steps=self.plan.steps,
                    blank=shot.blank,
                )
                result = image_of(host.decode_latent(self.base.vae, latent))
            target = [shot.subject.target] if shot.subject.target else []
            strip = pasted(scaled([*shot.subject.controls, result, *target], result.height))
            self.keep(strip, step, number, shot)
            strips.append(strip)
        return pasted(strips, down=True)

    def keep(self, strip: Image.Image, step: int, number: int, shot: Shot) -> None:
        """Write `step_000250.png`, the second shot's `step_000250_2.png`, and so on."""
        suffix = f"_{number}" if number > 1 else ""
        path = self.run.folder / "samples" / f"step_{step:06d}{suffix}.png"
        facts = {"step": step, "prompt": shot.prompt, "seed": self.plan.seed}
        metadata = PngInfo()
        metadata.add_text("kontext_sample", json.dumps(facts, ensure_ascii=False))
        content = io.BytesIO()
        strip.save(content, "png", pnginfo=metadata)
        with storing(path):
            path.parent.mkdir(exist_ok=True)
        write_atomically(path, content.getvalue())


def subjects(plan: SamplePlan, pairs: PairedDataset, cache: Cache) -> list[Subject]:
    """The plan's own controls in their own shapes, else held-out pairs at the training size."""
    sizes = training_sizes(cache.config, cache.family.multiple)
    sources = (pairs.holdout or pairs.train)[: plan.most]
    if not plan.controls:
        return [subject_of_pair(pair, sizes) for pair in sources]
    sizes = replace(sizes, square=False)
    caption = sources[0].caption
    return [subject_of_image(control, "", sizes, caption) for control in plan.controls]


def scaled(images: list[Image.Image], height: int) -> list[Image.Image]:
    """The images at this height."""
    return [image.resize((image.width * height // image.height, height)) for image in images]
