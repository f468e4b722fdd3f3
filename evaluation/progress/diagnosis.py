"""A diagnosis of a run's curves in plain words, with the numbers behind it.

Chance alone rarely gives one: of runs whose loss is noise without a trend, at most about one in
twenty is called oscillating or memorising (simulated, tests/evaluation/progress).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import stats

from ...language import say
from ...trainer.loss.curve import falling_fit, jitter, rise_from_best
from ...trainer.statistics import FEWEST_PAIRS, paired_interval, percent
from .curves import Array, Course, Tested

FEWEST_STEPS = 100  # before the noise of single steps averages out
FEWEST_TESTS = 3
BLOCKS = (10, 20, 40)  # pieces into which the log is cut: slow and fast swings
SWING = 0.05  # rises of the training loss below this share do no harm
JUMP = 0.05  # the same for the held-out loss, as a share of the base's
FLAT = 0.015  # of the base's held-out loss: less over a third of a run is standing still
FLAT_TRAINING = 0.02  # the same for the training loss
SPENT = 0.3  # of its peak: a learning rate below this hardly moves the LoRA any more
LITTLE = 0.03  # a gain below this share is hardly any

SENTENCES: dict[str, Callable[..., str]] = {
    "rate_too_high": lambda **n: say(
        "Learning rate too high: the training loss swings; {times} times it rose, by up to "
        "{rise}%, beyond what the noise of single steps explains. Halve the learning rate.",
        **n,
    ),
    "rate_too_high_held_out": lambda **n: say(
        "Learning rate too high: the held-out loss jumps up and down {times} times, by up to "
        "{rise}% of the base's. Halve the learning rate.",
        **n,
    ),
    "memorising": lambda **n: say(
        "Memorising: since step {step} the held-out loss rose by {rise}% of the base's (at least "
        "{low}%) while the training loss fell by {fall}%. Use the checkpoint at about step "
        "{step}; more pairs, fewer steps or a lower rank help.",
        **n,
    ),
    "held_out_rises": lambda **n: say(
        "Past its best: since step {step} the held-out loss rose by {rise}% of the base's (at "
        "least {low}%). Use the checkpoint at about step {step}.",
        **n,
    ),
    "improving": lambda **n: say(
        "Still improving: over the last third the held-out loss fell by another {fall}% of the "
        "base's ({low} to {high}%), to {change}%. More steps should help.",
        **n,
    ),
    "improving_training": lambda **n: say(
        "Still improving: the training loss fell by {fall}% (at least {low}%) over the last "
        "third. More steps may help.",
        **n,
    ),
    "stalled": lambda **n: say(
        "Stalled early: since step {step} of {done} the held-out loss stands still at {change}% "
        "against the base. Try a higher learning rate or rank, and look at pairs and captions; "
        "more steps alone will not help.",
        **n,
    ),
    "stalled_training": lambda **n: say(
        "Stalled early: in {done} steps the training loss fell by {fall}%, at most {high}%. Try "
        "a higher learning rate, and look at pairs and captions.",
        **n,
    ),
    "levelled": lambda **n: say(
        "Levelled off: since step {step} the held-out loss stands still at {change}% against the "
        "base. More steps of the same bring little.",
        **n,
    ),
    "levelled_training": lambda **n: say(
        "Levelled off: the training loss fell by {fall}% in all, and by less than {high}% over "
        "the last third. More steps of the same bring little.",
        **n,
    ),
    "levelled_as_rate_fell": lambda **n: say(
        "Levelled off with the learning rate: since step {step} the held-out loss stands still at "
        "{change}% against the base, but over the last third the rate was only {rate}% of its "
        "peak. A run planned with more steps may still gain.",
        **n,
    ),
    "undecided": lambda **n: say(
        "No trend to be seen yet: over the last third the held-out loss changed by {change}% of "
        "the base's ({low} to {high}%).",
        **n,
    ),
    "undecided_training": lambda **n: say(
        "No trend to be seen yet: over the last third the training loss changed by {change}% "
        "({low} to {high}%), within the noise of single steps.",
        **n,
    ),
    "too_early": lambda **n: say(
        "Too early to say: {done} steps and {tests} held-out measurements.", **n
    ),
    "unmeasured": lambda: say(
        "No held-out pair has been measured yet, so nothing shows whether the LoRA memorises."
    ),
    "few_held_out": lambda **n: say(
        "Too few held-out pairs: {pairs} cannot show whether the LoRA memorises. Hold out at "
        "least 4, better 8.",
        **n,
    ),
}


@dataclass(frozen=True)
class Symptom:
    """One statement: a key of SENTENCES, and the numbers in it (percentages are rounded)."""

    kind: str
    numbers: dict[str, float] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """In the user's language."""
        return SENTENCES[self.kind](**self.numbers)


def diagnose(course: Course) -> list[Symptom]:
    """The diagnosis of a log at any moment, the most important symptom first. Never empty."""
    pairs = len(course.tested[-1].losses) if course.tested else 0
    trusted = course.tested if pairs >= FEWEST_PAIRS else []
    losses = np.log(np.maximum(course.column("loss"), 1e-12))
    enough = len(course) >= FEWEST_STEPS

    symptoms = [swinging(losses)] if enough else []
    symptoms.append(jumping(trusted))
    if not any(symptoms):
        symptoms.append(rising(trusted, course.column("step"), losses))
    if not any(symptoms):
        if enough and len(trusted) >= FEWEST_TESTS:
            symptoms.append(trend(trusted, course.step, late_rate(course)))
        elif enough:
            symptoms.append(training_trend(losses, course.step))
        else:
            symptoms.append(
                Symptom("too_early", {"done": course.step, "tests": len(course.tested)})
            )
    if course.tested and pairs < FEWEST_PAIRS:
        symptoms.append(Symptom("few_held_out", {"pairs": pairs}))
    elif enough and not course.tested:
        symptoms.append(Symptom("unmeasured"))
    return [symptom for symptom in symptoms if symptom]


# ---- learning rate too high ----------------------------------------------------------------


def swinging(losses: Array) -> Symptom | None:
    """Rises of the training loss that noise does not explain; `losses` are logarithms, per step.

    Compares means over pieces of the log with the closest non-increasing curve. The noise of single
    steps is independent, so without real rises the sum of squares is at most chi-squared.
    """
    noise = np.mean(np.diff(losses) ** 2) / 2  # of one step, whatever the trend (von Neumann 1941)
    worst: Symptom | None = None
    for count in BLOCKS:
        if len(losses) < 5 * count:
            break
        pieces = np.array_split(losses, count)
        means = np.array([piece.mean() for piece in pieces])
        sizes = np.array([len(piece) for piece in pieces], float)
        excess = means - falling_fit(means, sizes)
        deviation = np.sqrt(noise / sizes)
        chance = stats.chi2.sf(np.sum((excess / deviation) ** 2), count)
        high = excess > np.maximum(SWING, 2 * deviation)
        times = int(np.sum(high & ~np.r_[False, high[:-1]]))
        if chance < 0.01 / len(BLOCKS) and times:
            rise = max(np.max(means[i:]) - means[i] for i in range(count))
            share = percent(np.expm1(rise))
            if worst is None or share > worst.numbers["rise"]:
                worst = Symptom("rate_too_high", {"times": times, "rise": share})
    return worst


def jumping(tested: Sequence[Tested]) -> Symptom | None:
    """Held-out losses that jump up and down between measurements, significantly over the pairs."""
    if len(tested) <= FEWEST_TESTS:
        return None
    level = 1 - 0.05 / (len(tested) - 1)
    jumps = []
    for before, after in zip(tested, tested[1:]):  # noqa: B905  the last has no successor
        jump = paired_interval(after.shares - before.shares, level)
        if jump.excludes_zero and abs(jump.mean) > JUMP:
            jumps.append(jump.mean)
    turns = [after for before, after in zip(jumps, jumps[1:]) if before * after < 0]  # noqa: B905
    if len(turns) < 3:
        return None
    return Symptom("rate_too_high_held_out", {"times": len(turns), "rise": percent(max(turns))})


# ---- memorising ----------------------------------------------------------------------------


def rising(tested: Sequence[Tested], steps: Array, losses: Array) -> Symptom | None:
    """A held-out loss that has left its best for good, and what the training loss did meanwhile."""
    rise = rise_from_best(shares_of(tested)) if tested else None
    if rise is None:
        return None
    first, last = rise.best
    height = rise.height
    numbers = {
        "step": tested[rise.bottom].step,
        "rise": percent(height.mean),
        "low": percent(height.low),
    }
    late = losses[steps > tested[-1 - len(tested) // 4].step]
    since = tested[first - 1].step if first else 0
    early = losses[(steps > since) & (steps <= tested[last].step)]
    fall = float(early.mean() - late.mean()) if len(early) and len(late) else 0.0
    if fall <= 0:
        return Symptom("held_out_rises", numbers)
    return Symptom("memorising", {**numbers, "fall": percent(-np.expm1(-fall))})


# ---- improving or not ----------------------------------------------------------------------


def trend(tested: Sequence[Tested], done: int, rate: float) -> Symptom:
    """The last third of the held-out measurements against the third before it.

    `rate` is the learning rate during the last third, as a share of its peak.
    """
    matrix = shares_of(tested)
    thirds = np.array_split(matrix, 3)
    change = paired_interval(thirds[2].mean(0) - thirds[1].mean(0))
    curve = matrix.mean(1)
    deviation = jitter(curve) * np.sqrt(1 / len(thirds[2]) + 1 / len(thirds[1]))
    now = tested[-1].change.mean
    numbers = {"change": percent(now), "done": done}
    if change.high < 0 and -change.mean > max(FLAT / 2, 2 * deviation):
        bounds = {"low": percent(-change.high), "high": percent(-change.low)}
        return Symptom("improving", {**numbers, "fall": percent(-change.mean), **bounds})
    if change.low > -FLAT and change.high < FLAT:
        away = np.flatnonzero(np.abs(curve - thirds[2].mean()) > max(FLAT, 3 * jitter(curve)))
        since = min(away[-1] + 1, len(curve) - 1) if len(away) else 0
        step = tested[since].step
        numbers["step"] = step
        if step > done / 3 and rate < SPENT:
            return Symptom("levelled_as_rate_fell", {**numbers, "rate": percent(rate)})
        early = step <= done / 3 or now > -LITTLE
        return Symptom("stalled" if early else "levelled", numbers)
    bounds = {"low": percent(change.low), "high": percent(change.high)}
    return Symptom("undecided", {"change": percent(change.mean), **bounds})


def training_trend(losses: Array, done: int) -> Symptom:
    """The same by the training loss alone, whose single steps are noisy."""
    first, middle, last = np.array_split(losses, 3)
    fall = float(middle.mean() - last.mean())
    reach = 2 * float(np.sqrt(middle.var(ddof=1) / len(middle) + last.var(ddof=1) / len(last)))
    start = first[: max(10, len(first) // 3)]
    total = float(start.mean() - last.mean())
    total_reach = 2 * float(np.sqrt(start.var(ddof=1) / len(start) + last.var(ddof=1) / len(last)))
    if fall > max(reach, FLAT_TRAINING / 2):
        return Symptom("improving_training", {"fall": percent(fall), "low": percent(fall - reach)})
    if fall + reach < FLAT_TRAINING and total > max(total_reach, LITTLE):
        numbers = {"fall": percent(total), "high": percent(max(0.0, fall + reach))}
        return Symptom("levelled_training", numbers)
    if total + total_reach < LITTLE:
        numbers = {"done": done, "fall": percent(total), "high": percent(total + total_reach)}
        return Symptom("stalled_training", numbers)
    bounds = {"low": percent(-fall - reach), "high": percent(-fall + reach)}
    return Symptom("undecided_training", {"change": percent(-fall), **bounds})


def late_rate(course: Course) -> float:
    """Mean learning rate of the last third of the log, as a share of its peak."""
    rates = course.column("learning_rate")
    return float(np.mean(rates[-len(rates) // 3 :])) / (float(rates.max()) or 1.0)


def shares_of(tested: Sequence[Tested]) -> Array:
    """[measurements, pairs]"""
    return np.array([each.shares for each in tested])
