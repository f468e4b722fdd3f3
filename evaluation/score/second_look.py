"""The judgement by losses, revised by the finalists' pictures, which have the last word.

A held-out loss may rise, because the model becomes too sure of details, while its pictures stay as
close to the true results as before; and it may fall although no picture changes. Losses are exact
and cheap: they choose the finalists, and judge the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...language import say
from ...trainer.statistics import Interval, paired_interval
from .verdict import BASE, Array, Judgement, Label, Rules, Ruling, Series, Verdict

Pictures = Mapping[int, Array]  # PSNR [pair] against the true result, by place; BASE is one of them


def look_again(series: Series, judgement: Judgement, pictures: Pictures, rules: Rules) -> Judgement:
    """The judgement by losses, revised by pictures of the finalists.

    Unchanged if there are no pictures, or too few.
    """
    finalists = sorted(place for place in pictures if place != BASE)
    if not finalists or len(pictures[BASE]) < rules.fewest_pairs:
        return judgement
    looks = _Looks(series, pictures, rules)
    best = max(finalists, key=lambda place: looks.gain(place).mean)
    gained = looks.gain(best).mean >= rules.seen_gain
    tied = [place for place in finalists if gained and looks.tied(place, best)]
    found = {
        place: looks.ruling(place, tied[0], best) if tied else looks.without_gain(place)
        for place in finalists
    }
    last, note = len(judgement.verdicts) - 1, ""
    if not tied:
        note = say("No checkpoint's pictures are nearer to the true results than the base model's.")
    elif best == last and looks.still_improving(finalists):
        note = say("Still improving at the last checkpoint: train longer.")
        found[last] = (Label.STILL_IMPROVING, say("The best so far.") + " " + looks.summary(best))
    verdicts = []
    for place, verdict in enumerate(judgement.verdicts):
        near = min(finalists, key=lambda finalist: abs(finalist - place))
        label, reason = found.get(place, (verdict.label, verdict.reason))
        if place not in found and verdict.label is judgement.verdicts[near].label:
            # its losses are like those of a finalist
            alike = say("Its losses are like its neighbour's.")
            label, reason = found[near][0], f"{alike} {found[near][1]}"
        verdicts.append(Verdict(label, reason, verdict.gain, verdict.training_gain))
    if not tied:
        return Judgement(tuple(verdicts), note=note)
    good = tuple(
        place
        for place in range(tied[0], tied[-1] + 1)
        if verdicts[place].label in (Label.GOOD, Label.STILL_IMPROVING)
    )
    same = (place for place in tied if looks.deficit(place, best).mean <= rules.seen_same)
    return Judgement(tuple(verdicts), best, next(same), good, note)


class _Looks:
    """Pictures compared pair by pair, in decibels."""

    def __init__(self, series: Series, pictures: Pictures, rules: Rules) -> None:
        self.series, self.pictures, self.rules = series, pictures, rules

    def gain(self, place: int) -> Interval:
        return self.deficit(BASE, place)

    def deficit(self, place: int, against: int) -> Interval:
        """How much further from the true results these pictures are than those."""
        difference = self.pictures[against] - self.pictures[place]
        return paired_interval(difference, self.rules.seen_level)

    def tied(self, place: int, best: int) -> bool:
        """Whether two are so close that it does not matter, or that so few pictures cannot tell."""
        deficit, tie = self.deficit(place, best), self.rules.seen_tie
        return place == best or deficit.mean <= max(tie, min(deficit.error, 2 * tie))

    def clear(self, difference: Interval) -> bool:
        """Whether a difference exceeds `seen_worse` decibels, and chance with so few pairs."""
        return difference.mean > self.rules.seen_worse and difference.low > 0

    def learnt(self, place: int, since: int) -> bool:
        """Whether the training pairs' loss fell from one to the other."""
        return float(self.series.training_difference(place, since).mean()) < 0

    def ruling(self, place: int, first_good: int, best: int) -> Ruling:
        deficit = self.deficit(place, best)
        behind = {"behind": deficit.mean}
        if place < first_good:
            reason = say(
                "Its pictures are {behind:.1f} dB behind the best, which were trained longer.",
                **behind,
            )
            return Label.UNDER_FITTED, reason
        if place == first_good or not self.clear(deficit):
            return Label.GOOD, self.summary(place)
        if place < best:
            reason = say(
                "Its pictures are {behind:.1f} dB behind the best, a dip that later ones make up "
                "for.",
                **behind,
            )
            return Label.UNDER_FITTED, reason
        if self.learnt(place, best):
            reason = say(
                "Its pictures are {behind:.1f} dB behind the best, while training pairs kept "
                "gaining: it learns these, not the edit.",
                **behind,
            )
            return Label.OVER_FITTED, reason
        reason = say(
            "Its pictures are {behind:.1f} dB behind the best, and training pairs have lost too.",
            **behind,
        )
        return Label.DIVERGED, reason

    def without_gain(self, place: int) -> Ruling:
        """The ruling if no finalist's pictures are better than the base model's."""
        lost, summary = self.deficit(place, BASE), self.summary(place)
        if lost.mean <= self.rules.seen_worse:
            return Label.NO_EFFECT, summary
        if not self.clear(lost):
            unclear = say("The pairs differ too much to say. Hold out more.")
            return Label.UNDECIDED, f"{summary} {unclear}"
        if self.learnt(place, BASE):
            gained = say("Training pairs gained: check that held-out pairs are of the same edit.")
            return Label.OVER_FITTED, f"{summary} {gained}"
        return Label.DIVERGED, summary

    def still_improving(self, finalists: Sequence[int]) -> bool:
        """Whether the last step was a clear gain."""
        *before, last = finalists
        step = self.deficit(before[-1] if before else BASE, last)
        return step.low > 0 and step.mean > self.rules.seen_tie

    def summary(self, place: int) -> str:
        gain = self.gain(place).mean
        if gain >= 0:
            return say(
                "Its pictures are {gain:.1f} dB nearer to the true results than the base model's.",
                gain=gain,
            )
        return say(
            "Its pictures are {loss:.1f} dB further from the true results than the base model's.",
            loss=-gain,
        )
