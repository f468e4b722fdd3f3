"""Score checkpoints on held-out pairs: losses, verdicts, the best checkpoint and strength."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...dataset.pair import DatasetError, Pair, PairedDataset
from ...language import say
from ...trainer.batch import EncodedPair
from ...trainer.config import TrainConfig
from ...trainer.data.cache import Cache
from ...trainer.host import Base, throw_if_interrupted
from ...trainer.statistics import Interval, paired_interval
from ..pictures.generate import Setting
from ..pictures.loras import LoraFile
from ..pictures.samples import Samples
from .finalists import PicturePlan, PictureSummary, summarise_pictures
from .heldout import FINAL, SCREENING, Array, Draws, LossFile, LossQuery, score_losses
from .second_look import look_again
from .verdict import BASE, Judgement, Losses, Rules, Series, judge, shortlist
from .work import Work

BANDS = ("low noise", "middle", "high noise")


@dataclass(frozen=True)
class StrengthScore:
    """The recommended LoRA at one strength: held-out gain as a share of the base model's loss."""

    strength: float
    gain: Interval


@dataclass(frozen=True)
class Scores:
    """The results for all LoRAs."""

    loras: tuple[LoraFile, ...]
    series: Series
    judgement: Judgement
    strengths: tuple[StrengthScore, ...]
    pictures: Mapping[int, PictureSummary]

    @property
    def best(self) -> LoraFile | None:
        """The checkpoint to keep; None if the data cannot decide."""
        place = self.judgement.recommended
        return None if place is None else self.loras[place]

    @property
    def best_strength(self) -> float:
        """The strength closest to 1 among those as good as the best."""
        if not self.strengths:
            return 1.0
        top = max(self.strengths, key=lambda score: score.gain.mean)
        reach = max(top.gain.error, Rules().tie * abs(top.gain.mean))
        tied = [score for score in self.strengths if score.gain.mean >= top.gain.mean - reach]
        return min(tied, key=lambda score: abs(score.strength - 1)).strength


def bands(series: Series, place: int) -> tuple[float, float, float]:
    """A checkpoint's held-out gain in each of BANDS, as a share of the base loss there.

    Low noise decides texture, high noise composition.
    """
    before, after = series.base.holdout, series.checkpoints[place].holdout
    if place in series.fresh:
        before, after = series.fresh[BASE], series.fresh[place]
    low, middle, high = (
        1 - float(after[:, levels].mean() / before[:, levels].mean())
        for levels in np.array_split(np.arange(before.shape[1]), len(BANDS))
    )
    return low, middle, high


def score(
    base: Base,
    loras: Sequence[LoraFile],
    pairs: PairedDataset,
    strengths: Sequence[float],
    config: TrainConfig,
    cache_folder: Path,
    folder: Path,
    plan: PicturePlan,
    node_id: str | None = None,
) -> Scores:
    """Judge all LoRAs at strength 1 by losses, look at the finalists' pictures, then measure the
    recommended one at every strength.

    `config` has the picture sizes and the noise that the run was trained with; losses and pictures
    are kept in `folder`. Raises DatasetError if no pair is held out.
    """
    file = LossFile(folder / "scores" / "losses.jsonl")
    several = sorted({1.0, *strengths})
    screening, *later = cost(len(loras), pairs, len(several), plan)
    work = Work(screening + sum(later), node_id)
    holdout, training = _encode(Cache(cache_folder, base, config), pairs)

    def losses(chosen: Sequence[Setting], some: Sequence[EncodedPair], draws: Draws) -> list[Array]:
        queries = [LossQuery(setting, pair, draws) for setting in chosen for pair in some]
        found = score_losses(base, queries, config, file, work)
        return [
            np.stack([found[LossQuery(setting, pair, draws)] for pair in some])
            for setting in chosen
        ]

    # screen: every checkpoint, on held-out and training pairs
    settings = [Setting(), *(Setting(lora) for lora in loras)]
    both = losses(settings, [*holdout, *training], SCREENING)
    first, *rest = (Losses(each[: len(holdout)], each[len(holdout) :]) for each in both)

    # finalists: again, on other noise
    finalists = (BASE, *shortlist(Series(first, rest)))
    work.expect(sum(later), sum(later_cost(len(finalists), len(holdout), len(several), plan)))
    again = losses([settings[place + 1] for place in finalists], holdout, FINAL)
    series = Series(first, rest, dict(zip(finalists, again, strict=True)))
    judgement = judge(series)

    # pictures: of the finalists, which have the last word
    pictures: dict[int, PictureSummary] = {}
    if plan.pairs:
        found = summarise_pictures(
            base,
            [settings[place + 1] for place in finalists],
            pairs.holdout,
            pairs.train,
            plan,
            config,
            Samples(folder / "samples"),
            work,
        )
        pictures = dict(zip(finalists, found.values(), strict=True))
        seen = {place: np.array(summary.each_psnr) for place, summary in pictures.items()}
        judgement = look_again(series, judgement, seen, Rules())

    # strengths: of the recommended one
    scored: list[StrengthScore] = []
    if judgement.recommended is not None:
        lora = loras[judgement.recommended]
        tried = [Setting(lora, strength) for strength in several]
        for setting, lost in zip(tried, losses(tried, holdout, FINAL), strict=True):
            gain = paired_interval((again[0] - lost).mean(axis=(1, 2)))
            scored.append(StrengthScore(setting.strength, gain.scaled(1 / float(again[0].mean()))))
    return Scores(tuple(loras), series, judgement, tuple(scored), pictures)


def cost(
    loras: int, pairs: PairedDataset, strengths: int, plan: PicturePlan
) -> tuple[int, int, int]:
    """Forward passes to screen all LoRAs; and at most for finalists, strengths and pictures."""
    holdout, finalists = len(pairs.holdout), min(loras, Rules().shortlist) + 1
    screening = (loras + 1) * (holdout + min(holdout, len(pairs.train))) * SCREENING.forwards
    return screening, *later_cost(finalists, holdout, strengths, plan)


def later_cost(finalists: int, holdout: int, strengths: int, plan: PicturePlan) -> tuple[int, int]:
    """Forward passes for losses of `finalists` (including the base model) and strengths, and for
    pictures."""
    pictures = finalists * min(holdout, plan.pairs) * (2 if plan.off_task else 1)
    return (finalists + strengths) * holdout * FINAL.forwards, pictures * plan.sampling_steps


def evenly(pairs: Sequence[Pair], count: int) -> list[Pair]:
    """`count` of the pairs, spread over their order."""
    places = np.linspace(0, len(pairs) - 1, min(count, len(pairs))).round().astype(int)
    return [pairs[place] for place in places]


def _encode(cache: Cache, pairs: PairedDataset) -> tuple[list[EncodedPair], list[EncodedPair]]:
    """All held-out pairs, and as many training pairs."""
    if not pairs.holdout or not pairs.train:
        raise DatasetError(
            say(
                "Scoring needs held-out pairs and training pairs; this dataset has {held_out} and "
                "{training}. Set `holdout` in Load Paired Dataset (0.2, or 8 pairs) as it was for "
                "the training.",
                held_out=len(pairs.holdout),
                training=len(pairs.train),
            )
        )
    encoded = []
    for side in (pairs.holdout, evenly(pairs.train, len(pairs.holdout))):
        encoded.append([_encode_one(cache, pair) for pair in side])
    return encoded[0], encoded[1]


def _encode_one(cache: Cache, pair: Pair) -> EncodedPair:
    throw_if_interrupted()
    return cache.encode(pair)
