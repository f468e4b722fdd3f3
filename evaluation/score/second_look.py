"""A judgement by losses, looked at again with the finalists' pictures, which have the last word.

A held-out loss may rise, because the model grows too sure of details, while its pictures stay as
near to their true results as they were; and it may fall where no picture changes. Losses are exact
and cheap: they choose the finalists, and judge the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..statistics import Interval, paired_interval
from .verdict import BASE, Array, Finding, Judgement, Label, Rules, Series, Verdict

Pictures = Mapping[int, Array]  # PSNR [pair] against the true result, by place; BASE is one of them


def look_again(series: Series, judgement: Judgement, pictures: Pictures, rules: Rules) -> Judgement:
    """The judgement that pictures of finalists leave of one by losses.

    Unchanged where there are no pictures, or too few pairs of them.
    """
    finalists = sorted(place for place in pictures if place != BASE)
    if not finalists or len(pictures[BASE]) < rules.fewest_pairs:
        return judgement
    looks = _Looks(series, pictures, rules)
    best = max(finalists, key=lambda place: looks.gain(place).mean)
    gained = looks.gain(best).mean >= rules.seen_gain
    tied = [place for place in finalists if gained and looks.tied(place, best)]
    recommended = tied[0] if tied else None
    found = {
        place: looks.without_gain(place)
        if recommended is None
        else looks.finding(place, recommended, best)
        for place in finalists
    }
    last, note = len(judgement.verdicts) - 1, ""
    if recommended is None:
        note = "No checkpoint's pictures are nearer to the true results than the base model's."
    elif best == last and looks.still_improving(finalists):
        note = "Still improving at the last checkpoint: train longer."
        found[last] = (Label.STILL_IMPROVING, f"The best so far: {looks.words(best)}.")
    verdicts = []
    for place, verdict in enumerate(judgement.verdicts):
        near = min(finalists, key=lambda finalist: abs(finalist - place))
        label, reason = found.get(place, (verdict.label, verdict.reason))
        if place not in found and verdict.label is judgement.verdicts[near].label:
            # alike by their losses, of which one has been looked at
            label, reason = found[near][0], f"By its losses like its neighbour. {found[near][1]}"
        verdicts.append(Verdict(label, reason, verdict.gain, verdict.training_gain))
    if recommended is None:
        return Judgement(tuple(verdicts), note=note)
    good = tuple(
        place
        for place in range(recommended, tied[-1] + 1)
        if verdicts[place].label in (Label.GOOD, Label.STILL_IMPROVING)
    )
    return Judgement(tuple(verdicts), best, recommended, good, note)


class _Looks:
    """Pictures compared pair by pair, in decibel."""

    def __init__(self, series: Series, pictures: Pictures, rules: Rules) -> None:
        self.series, self.pictures, self.rules = series, pictures, rules

    def gain(self, place: int) -> Interval:
        return self.deficit(BASE, place)

    def deficit(self, place: int, against: int) -> Interval:
        """How much further from the true results these pictures are than those."""
        difference = self.pictures[against] - self.pictures[place]
        return paired_interval(difference, self.rules.seen_level)

    def tied(self, place: int, best: int) -> bool:
        """So close that it does not matter, or that so few pictures cannot tell."""
        deficit, tie = self.deficit(place, best), self.rules.seen_tie
        return place == best or deficit.mean <= max(tie, min(deficit.error, 2 * tie))

    def clear(self, difference: Interval) -> bool:
        """Of `seen_worse` decibel, and more than chance makes of so few pairs."""
        return difference.mean > self.rules.seen_worse and difference.low > 0

    def learnt(self, place: int, since: int) -> bool:
        """Whether the training pairs' loss fell from one to the other."""
        return float(self.series.training(place, since).mean()) < 0

    def finding(self, place: int, recommended: int, best: int) -> Finding:
        deficit = self.deficit(place, best)
        behind = f"Its pictures are {deficit.mean:.1f} dB behind the best, "
        if place < recommended:
            return Label.UNDER_FITTED, behind + "which were trained longer."
        if place == recommended or not self.clear(deficit):
            return Label.GOOD, f"Its pictures are {self.words(place)}."
        if place < best:
            return Label.UNDER_FITTED, behind + "a dip that later ones make up for."
        if self.learnt(place, best):
            return (
                Label.OVER_FITTED,
                behind + "while training pairs went on gaining: it learns these, not the edit.",
            )
        return Label.DIVERGED, behind + "and training pairs have lost too."

    def without_gain(self, place: int) -> Finding:
        """Where no finalist's pictures are better than the base model's."""
        lost = self.deficit(place, BASE)
        said = f"Its pictures are {self.words(place)}"
        if lost.mean <= self.rules.seen_worse:
            return Label.NO_EFFECT, f"{said}."
        if not self.clear(lost):
            return Label.UNDECIDED, f"{said}, but they differ too much to say. Hold out more."
        if self.learnt(place, BASE):
            return (
                Label.OVER_FITTED,
                f"{said}, while training pairs gained. Check that held-out pairs are of the same "
                "edit.",
            )
        return Label.DIVERGED, f"{said}."

    def still_improving(self, finalists: Sequence[int]) -> bool:
        """Whether the last step was a clear gain."""
        *before, last = finalists
        step = self.deficit(before[-1] if before else BASE, last)
        return step.low > 0 and step.mean > self.rules.seen_tie

    def words(self, place: int) -> str:
        gain = self.gain(place).mean
        side = "nearer to" if gain >= 0 else "further from"
        return f"{abs(gain):.1f} dB {side} the true results than the base model's"
