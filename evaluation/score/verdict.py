"""Under-fitted, good or over-fitted: verdicts on a run's checkpoints by fixed-noise losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from ...dataset.split import FEWEST_FOR_VERDICT
from ...language import say
from ...trainer.statistics import Interval, paired_interval

Array = NDArray[np.floating]
BASE = -1  # the base model's place among the checkpoints


class Label(str, Enum):
    """A verdict, named as in scores.json; `shown` is in the user's language."""

    NO_EFFECT = "no effect"
    UNDER_FITTED = "under-fitted"
    GOOD = "good"
    OVER_FITTED = "over-fitted"
    DIVERGED = "diverged"
    STILL_IMPROVING = "still improving"
    UNDECIDED = "not enough held-out pairs to say"

    @property
    def shown(self) -> str:
        """In the user's language."""
        return {
            Label.NO_EFFECT: say("no effect"),
            Label.UNDER_FITTED: say("under-fitted"),
            Label.GOOD: say("good"),
            Label.OVER_FITTED: say("over-fitted"),
            Label.DIVERGED: say("diverged"),
            Label.STILL_IMPROVING: say("still improving"),
            Label.UNDECIDED: say("not enough held-out pairs to say"),
        }[self]


@dataclass(frozen=True)
class Rules:
    """The thresholds, fixed on one half of the proof's runs (docs/guide/choosing.md)."""

    fewest_pairs: int = FEWEST_FOR_VERDICT
    least_gain: float = 0.002  # of the base model's loss: less is no effect
    tie: float = 0.02  # of the best gain: smaller deficits count as ties
    worse: float = 0.05  # of the best gain: over-fitting has lost at least this
    lost: float = 0.5  # of the best gain: more is divergence, unless training gained
    shortlist: int = 5
    seen_gain: float = 0.2  # decibel by which pictures must come nearer to their true results
    seen_tie: float = 0.15  # decibel: smaller differences of pictures count as ties
    seen_same: float = 0.05  # decibel: of pictures so near the best the earliest is recommended
    seen_worse: float = 0.4  # decibel: over-fitted pictures have lost at least this
    seen_level: float = 0.8  # of the intervals of pictures' differences


@dataclass(frozen=True)
class Losses:
    """Fixed-noise losses of one checkpoint, [pair, noise level, draw] each."""

    holdout: Array
    training: Array


@dataclass(frozen=True)
class Series:
    """A run's checkpoints in the order of training, and the base model, on the same noise.

    `fresh` holds the held-out losses of finalists (and of the base model, as BASE) on other noise:
    comparisons between two of them use it, so that the best is not merely the luckiest.
    """

    base: Losses
    checkpoints: Sequence[Losses]
    fresh: Mapping[int, Array] = field(default_factory=dict)

    def losses(self, place: int) -> Losses:
        return self.base if place == BASE else self.checkpoints[place]

    def holdout_difference(self, place: int, against: int) -> Array:
        """Held-out loss minus that of `against`, one number per pair."""
        if place in self.fresh and against in self.fresh:
            difference = self.fresh[place] - self.fresh[against]
        else:
            difference = self.losses(place).holdout - self.losses(against).holdout
        return difference.mean(axis=(1, 2))

    def training_difference(self, place: int, against: int) -> Array:
        """As `holdout_difference`, on training pairs."""
        difference = self.losses(place).training - self.losses(against).training
        return difference.mean(axis=(1, 2))

    def finite(self, place: int) -> bool:
        losses = self.losses(place)
        return bool(np.isfinite(losses.holdout).all() and np.isfinite(losses.training).all())


@dataclass(frozen=True)
class Verdict:
    """One checkpoint's label and the reason; gains are shares of the base model's loss."""

    label: Label
    reason: str
    gain: Interval
    training_gain: float

    @property
    def gap(self) -> float:
        """How much more the training pairs gained than the held-out ones."""
        return self.training_gain - self.gain.mean


@dataclass(frozen=True)
class Judgement:
    """The verdicts in the order of the checkpoints.

    `good` are as good as `best`. `recommended` is the earliest of them, or, if pictures were made,
    the earliest whose pictures are the best. All three are empty if no checkpoint can be
    recommended.
    """

    verdicts: tuple[Verdict, ...]
    best: int | None = None
    recommended: int | None = None
    good: tuple[int, ...] = ()
    note: str = ""


def shortlist(series: Series, rules: Rules = Rules()) -> tuple[int, ...]:
    """The checkpoints to score again: those of the lowest held-out losses, in order of training."""
    places = [place for place in range(len(series.checkpoints)) if series.finite(place)]
    places.sort(key=lambda place: series.losses(place).holdout.mean())
    return tuple(sorted(places[: rules.shortlist]))


def judge(series: Series, rules: Rules = Rules()) -> Judgement:
    """Label every checkpoint, and recommend the earliest that is tied with the best."""
    numbers = _Numbers(series)
    places = range(len(series.checkpoints))
    if len(series.base.holdout) < rules.fewest_pairs:
        count = len(series.base.holdout)
        return Judgement(
            tuple(numbers.verdict(place, *_too_few(count, rules)) for place in places),
            note=say(
                "Only {pairs} held-out pairs: at least {least} are needed.",
                pairs=count,
                least=rules.fewest_pairs,
            ),
        )
    finite = [place for place in places if series.finite(place)]
    if not finite:
        return Judgement(
            tuple(numbers.verdict(place, *_not_a_number()) for place in places),
            note=say("Every checkpoint diverged: train again with a lower learning rate."),
        )
    best = _best(series, finite)
    if numbers.gain(best).low <= 0 or numbers.gain(best).mean < rules.least_gain:
        return Judgement(
            tuple(numbers.verdict(p, *_without_gain(numbers, p, rules)) for p in places),
            note=say("No checkpoint is clearly better than the base model."),
        )

    tied = [place for place in finite if _tied(numbers, place, best, rules)]
    recommended, last_good = tied[0], tied[-1]
    verdicts = []
    for place in places:
        if not series.finite(place):
            ruling = _not_a_number()
        elif place < recommended:
            ruling = _before(numbers, place, best)
        elif place <= last_good:
            ruling = _among(numbers, place, best, rules)
        else:
            ruling = _after(numbers, place, recommended, best, rules)
        verdicts.append(numbers.verdict(place, *ruling))
    note = ""
    if best == len(places) - 1 and _still_improving(numbers, best, rules):
        step = numbers.deficit(best - 1 if best else BASE, best)
        verdicts[best] = numbers.verdict(
            best,
            Label.STILL_IMPROVING,
            say(
                "The last checkpoint is the best, {gain:.1%} of the base loss ahead of the one "
                "before it.",
                gain=step.mean,
            ),
        )
        note = say("Still improving at the last checkpoint: train longer.")
    good = tuple(
        place
        for place in range(recommended, last_good + 1)
        if verdicts[place].label in (Label.GOOD, Label.STILL_IMPROVING)
    )
    return Judgement(tuple(verdicts), best, recommended, good, note)


class _Numbers:
    """Gains and deficits as shares of the base model's held-out and training loss."""

    def __init__(self, series: Series) -> None:
        self.series = series
        self.holdout_base = float(series.base.holdout.mean())
        self.training_base = float(series.base.training.mean())

    def gain(self, place: int) -> Interval:
        return self.deficit(BASE, place)

    def deficit(self, place: int, against: int) -> Interval:
        """How much higher the held-out loss is than that of `against`."""
        difference = self.series.holdout_difference(place, against)
        return paired_interval(difference).scaled(1 / self.holdout_base)

    def training_gain(self, place: int, against: int = BASE) -> Interval:
        """How much lower the training loss is than that of `against`."""
        difference = self.series.training_difference(against, place)
        return paired_interval(difference).scaled(1 / self.training_base)

    def verdict(self, place: int, label: Label, reason: str) -> Verdict:
        return Verdict(label, reason, self.gain(place), self.training_gain(place).mean)


Ruling = tuple[Label, str]  # and the reason for it


def _not_a_number() -> Ruling:
    return Label.DIVERGED, say("Its loss is not a number: the weights are broken.")


def _too_few(count: int, rules: Rules) -> Ruling:
    reason = say(
        "{pairs} held-out pairs are too few for a verdict; hold out at least {least}, better 8.",
        pairs=count,
        least=rules.fewest_pairs,
    )
    return Label.UNDECIDED, reason


def _best(series: Series, finite: Sequence[int]) -> int:
    """The lowest held-out loss: among the finalists if there are any, by their fresh losses."""
    finalists = [place for place in finite if place in series.fresh] or finite
    return min(finalists, key=lambda place: series.holdout_difference(place, BASE).mean())


def _tied(numbers: _Numbers, place: int, best: int, rules: Rules) -> bool:
    """Within one standard error of the best, or so close that it does not matter."""
    deficit = numbers.deficit(place, best)
    return place == best or deficit.mean <= max(deficit.error, rules.tie * numbers.gain(best).mean)


def _before(numbers: _Numbers, place: int, best: int) -> Ruling:
    reached = numbers.gain(place).mean / numbers.gain(best).mean
    if reached <= 0:
        reason = say("Not yet better than the base model; later ones are.")
    else:
        reason = say("Has {share:.0%} of the best gain; more training helps.", share=reached)
    return Label.UNDER_FITTED, reason


def _among(numbers: _Numbers, place: int, best: int, rules: Rules) -> Ruling:
    """Between the first and the last tied checkpoint."""
    deficit = numbers.deficit(place, best)
    lost = deficit.mean / numbers.gain(best).mean
    if lost > rules.lost:
        reason = say("Has lost {share:.0%} of the gain, though a later one recovers.", share=lost)
        return Label.DIVERGED, reason
    if deficit.low > 0 and lost > rules.worse:
        reason = say("A dip: {share:.0%} of the gain lost and regained later.", share=lost)
        return Label.UNDER_FITTED, reason
    return Label.GOOD, _as_good(numbers, place)


def _after(numbers: _Numbers, place: int, recommended: int, best: int, rules: Rules) -> Ruling:
    deficit, top = numbers.deficit(place, best), numbers.gain(best).mean
    learnt = numbers.training_gain(place, recommended).mean
    lost = deficit.mean / top
    if learnt <= 0 and lost > rules.lost:
        reason = say("Has lost {share:.0%} of the gain, on training pairs too.", share=lost)
        return Label.DIVERGED, reason
    if deficit.low > 0 and lost > rules.worse and learnt > 0:
        reason = say(
            "Held-out pairs have lost {share:.0%} of the gain while training pairs gained another "
            "{learnt:.1%} of the base loss: it learns these pictures, not the edit.",
            share=lost,
            learnt=learnt,
        )
        return Label.OVER_FITTED, reason
    return Label.GOOD, _as_good(numbers, place)


def _as_good(numbers: _Numbers, place: int) -> str:
    gain = numbers.gain(place)
    return say(
        "Held-out loss {gain:.1%} below the base model ({low:.1%} to {high:.1%}), not clearly "
        "worse than the best.",
        gain=gain.mean,
        low=gain.low,
        high=gain.high,
    )


def _without_gain(numbers: _Numbers, place: int, rules: Rules) -> Ruling:
    """A checkpoint of a run where none is clearly better than the base model."""
    if not numbers.series.finite(place):
        return _not_a_number()
    gain, learnt = numbers.gain(place), numbers.training_gain(place)
    if gain.high < 0 and -gain.mean > rules.least_gain:
        if learnt.mean > rules.least_gain:
            reason = say(
                "Better on training pairs ({learnt:.1%}) and worse than the base model on held-out "
                "ones ({loss:.1%}). Check that both sets are the same edit.",
                learnt=learnt.mean,
                loss=-gain.mean,
            )
            return Label.OVER_FITTED, reason
        reason = say(
            "Worse than the base model, on held-out ({loss:.1%}) and training pairs.",
            loss=-gain.mean,
        )
        return Label.DIVERGED, reason
    if max(abs(gain.low), abs(gain.high)) <= max(rules.least_gain, 0.25 * learnt.mean):
        reason = say("Changes the held-out loss by {gain:+.2%} only.", gain=gain.mean)
        return Label.NO_EFFECT, reason
    reason = say(
        "The gain lies between {low:.1%} and {high:.1%}: the held-out pairs differ too much to "
        "say. Hold out more.",
        low=gain.low,
        high=gain.high,
    )
    return Label.UNDECIDED, reason


def _still_improving(numbers: _Numbers, best: int, rules: Rules) -> bool:
    """Whether the last step was a clear gain, and more than a tie."""
    step = numbers.deficit(best - 1 if best else BASE, best)
    return step.low > 0 and step.mean > rules.tie * numbers.gain(best).mean
