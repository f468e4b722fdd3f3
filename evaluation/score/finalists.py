"""Pictures of the finalists on held-out pairs, and their measures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from PIL import Image
from torch import Tensor

from ...dataset.image import open_rgb
from ...dataset.pair import Pair
from ...language import say
from ...trainer.config import TrainConfig
from ...trainer.data.pixels import tensor_of
from ...trainer.data.sizes import Sizes
from ...trainer.data.subject import Subject, subject_of_pair
from ...trainer.families import family_of
from ...trainer.host import Base
from ..pictures.generate import Setting, Trial, generate
from ..pictures.samples import Samples
from .displacement import UNKNOWN, Displacement, displacement, typical
from .measures import Embed, PictureScore, drift, mean, score_picture, thumbnail
from .work import PictureWork, Work

LITTLE_DONE = 0.3
COPIED = 0.5


@dataclass(frozen=True)
class PicturePlan:
    """How many held-out pairs to make pictures of, and how.

    `off_task` is an instruction that the LoRA was not trained on; if empty, drift is not measured.
    """

    pairs: int = 8
    sampling_steps: int = 20
    seed: int = 1
    off_task: str = ""
    embed: Embed = thumbnail


@dataclass(frozen=True)
class PictureSummary:
    """The means of a setting's `PictureScore`s; `drift` is from the base model, off the task.

    `each_psnr` has the PSNR of every picture, `displacement` is that of a typical one.
    """

    psnr: float
    ssim: float
    direction: float
    done: float
    preserved: float
    memorised: float
    drift: float
    each_psnr: tuple[float, ...]
    displacement: Displacement = UNKNOWN

    def remarks(self, base: PictureSummary) -> list[str]:
        """Sentences about what the pictures show and a loss cannot."""
        found = []
        if self.done < LITTLE_DONE:
            found.append(
                say("Its pictures show only {share:.0%} of the edit.", share=max(0.0, self.done))
            )
        if self.memorised >= COPIED:
            found.append(
                say(
                    "{share:.0%} of its pictures look like a training target, not like their own: "
                    "it copies.",
                    share=self.memorised,
                )
            )
        return found + self.displacement.remarks(base.displacement)

    def numbers(self) -> dict[str, float]:
        """All means by name."""
        flat = asdict(self)
        del flat["each_psnr"]
        return {**flat, **flat.pop("displacement")}


def summarise_pictures(
    base: Base,
    settings: Sequence[Setting],
    holdout: Sequence[Pair],
    training: Sequence[Pair],
    plan: PicturePlan,
    config: TrainConfig,
    samples: Samples,
    work: Work,
) -> dict[Setting, PictureSummary]:
    """Make the missing pictures with the same seed for all settings, and measure all of them.

    `work` counts their sampling steps as part of the whole scoring.
    """
    family = family_of(base.model)
    sizes = Sizes(config.sides[0], config.reference_resolution, family.multiple)
    subjects = [subject_of_pair(pair, sizes) for pair in holdout[: plan.pairs]]
    targets = [pixels(open_rgb(pair.target)) for pair in training]
    trials = {
        (subject, prompt): Trial(subject, prompt, plan.seed, plan.sampling_steps, family.guidance)
        for subject in subjects
        for prompt in (subject.caption, *filter(None, [plan.off_task]))
    }
    progress = PictureWork(work, len(settings) * len(trials), plan.sampling_steps)
    paths = generate(base, settings, list(trials.values()), samples, progress)

    def picture(setting: Setting, subject: Subject, prompt: str) -> Image.Image:
        return open_rgb(paths[setting, trials[subject, prompt]])

    summaries = {}
    for setting in settings:
        scores, moved = [], []
        for subject in subjects:
            out, control = picture(setting, subject, subject.caption), control_of(subject)
            assert subject.target is not None  # of a held-out pair
            before, after = pixels(control) if control else None, pixels(subject.target)
            scores.append(score_picture(pixels(out), before, after, targets, plan.embed))
            if control:
                moved.append(displacement(out, control, subject.target))
        drifts = [
            drift(*(pixels(picture(s, subject, plan.off_task)) for s in (setting, Setting())))
            for subject in subjects
            if plan.off_task
        ]
        each = tuple(score.psnr for score in scores)
        summaries[setting] = PictureSummary(
            **means(scores), drift=mean(drifts), each_psnr=each, displacement=typical(moved)
        )
    return summaries


def control_of(subject: Subject) -> Image.Image | None:
    """The first control in the size of the result; None for a picture made from text alone."""
    first = subject.controls[0] if subject.controls else None
    return first.resize(subject.size, Image.Resampling.LANCZOS) if first else None


def means(scores: Sequence[PictureScore]) -> Mapping[str, float]:
    rows = [asdict(score) for score in scores]
    return {name: mean([row[name] for row in rows]) for name in rows[0]}


def pixels(picture: Image.Image) -> Tensor:
    """[3, H, W] in 0..1."""
    return tensor_of(picture)[0].movedim(-1, 0)
