"""What the curves of a run say, in plain words, with the numbers that say it.

Nothing is said that chance would say: of runs whose loss is noise without a trend, about one in
twenty at worst is called oscillating or memorising (simulated, tests/evaluation/test_diagnosis.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import stats

from ..statistics import paired_interval
from .curves import Array, Entry, Tested, held_out

FEWEST_STEPS = 100  # before the noise of single steps averages out
FEWEST_TESTS = 3
FEWEST_PAIRS = 3  # fewer have no interval
BLOCKS = (10, 20, 40)  # the log is looked at in so many pieces: slow and fast swings
SWING = 0.05  # rises of the training loss below this share do no harm
JUMP = 0.05  # the same for the held-out loss, as a share of the base's
RISE = 0.02  # of the base's held-out loss; less is no memorising worth a word
FLAT = 0.015  # of the base's held-out loss: less over a third of a run is standing still
FLAT_TRAINING = 0.02  # the same for the training loss
SPENT = 0.3  # of its peak: a learning rate below this hardly moves the LoRA any more
LITTLE = 0.03  # a gain below this share is hardly any

TEXTS = {
    "rate_too_high": "Learning rate too high: the training loss swings; {times} times it rose, by "
    "up to {rise} %, beyond what the noise of single steps explains. Halve the learning rate.",
    "rate_too_high_held_out": "Learning rate too high: the held-out loss jumps up and down "
    "{times} times, by up to {rise} % of the base's. Halve the learning rate.",
    "memorising": "Memorising: since step {step} the held-out loss rose by {rise} % of the base's "
    "(at least {low} %) while the training loss fell by {fall} %. Use the checkpoint at about "
    "step {step}; more pairs, fewer steps or a lower rank help.",
    "held_out_rises": "Past its best: since step {step} the held-out loss rose by {rise} % of the "
    "base's (at least {low} %). Use the checkpoint at about step {step}.",
    "improving": "Still improving: over the last third the held-out loss fell by another {fall} % "
    "of the base's ({low} to {high} %), to {change} %. More steps should help.",
    "improving_training": "Still improving: the training loss fell by {fall} % (at least {low} %) "
    "over the last third. More steps may help.",
    "stalled": "Stalled early: since step {step} of {done} the held-out loss stands still at "
    "{change} % against the base. Try a higher learning rate or rank, and look at pairs and "
    "captions; more steps alone will not help.",
    "stalled_training": "Stalled early: in {done} steps the training loss fell by {fall} %, at "
    "most {high} %. Try a higher learning rate, and look at pairs and captions.",
    "levelled": "Levelled off: since step {step} the held-out loss stands still at {change} % "
    "against the base. More steps of the same bring little.",
    "levelled_training": "Levelled off: the training loss fell by {fall} % in all, and by less "
    "than {high} % over the last third. More steps of the same bring little.",
    "levelled_as_rate_fell": "Levelled off with the learning rate: since step {step} the held-out "
    "loss stands still at {change} % against the base, but over the last third the rate was only "
    "{rate} % of its peak. A run planned with more steps may still gain.",
    "undecided": "No trend can be told yet: over the last third the held-out loss changed by "
    "{change} % of the base's ({low} to {high} %).",
    "undecided_training": "No trend can be told yet: over the last third the training loss "
    "changed by {change} % ({low} to {high} %), within the noise of single steps.",
    "too_early": "Too early to say: {done} steps and {tests} held-out measurements.",
    "few_held_out": "Too few held-out pairs: with {pairs} it cannot be told whether the LoRA "
    "memorises. Hold out at least 3, better 5.",
}


@dataclass(frozen=True)
class Finding:
    """One thing to say: a key of TEXTS, and the numbers in it (percentages are rounded)."""

    kind: str
    numbers: dict[str, float] = field(default_factory=dict)

    @property
    def text(self) -> str:
        return TEXTS[self.kind].format(**self.numbers)


def diagnose(log: Sequence[Entry]) -> list[Finding]:
    """What a log says, the most important first. Never empty; works on the log of any moment."""
    tested = held_out(log)
    pairs = len(tested[-1].losses) if tested else 0
    trusted = tested if pairs >= FEWEST_PAIRS else []
    done = log[-1]["step"] if log else 0
    losses = np.log(np.maximum([entry["loss"] for entry in log], 1e-12))
    steps = np.asarray([entry["step"] for entry in log])
    enough = len(log) >= FEWEST_STEPS

    findings = [swinging(losses)] if enough else []
    findings.append(jumping(trusted))
    if not any(findings):
        findings.append(rising(trusted, steps, losses))
    if not any(findings):
        if enough and len(trusted) >= FEWEST_TESTS:
            findings.append(trend(trusted, done, late_rate(log)))
        elif enough:
            findings.append(training_trend(losses, done))
        else:
            findings.append(Finding("too_early", {"done": done, "tests": len(trusted)}))
    if pairs < FEWEST_PAIRS and (tested or enough):
        findings.append(Finding("few_held_out", {"pairs": pairs}))
    return [finding for finding in findings if finding]


# ---- learning rate too high ----------------------------------------------------------------


def swinging(losses: Array) -> Finding | None:
    """Rises of the training loss (its logarithm, one a step) that noise does not explain.

    Means over pieces of the log against the best curve that only falls. Draws of single steps are
    independent, so under noise the sum of squares is at most chi-squared.
    """
    noise = np.mean(np.diff(losses) ** 2) / 2  # of one step, whatever the trend (von Neumann 1941)
    worst: Finding | None = None
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
                worst = Finding("rate_too_high", {"times": times, "rise": share})
    return worst


def falling_fit(values: Array, weights: Array) -> Array:
    """The closest curve that never rises (pool adjacent violators, Barlow et al. 1972)."""
    pools: list[tuple[float, float, int]] = []
    for value, weight in zip(values, weights, strict=True):
        pool = (float(value), float(weight), 1)
        while pools and pools[-1][0] < pool[0]:
            mean, mass, count = pools.pop()
            total = mass + pool[1]
            pool = ((mean * mass + pool[0] * pool[1]) / total, total, count + pool[2])
        pools.append(pool)
    return np.repeat([mean for mean, *_ in pools], [count for *_, count in pools])


def jumping(tested: Sequence[Tested]) -> Finding | None:
    """Held-out losses that go up and down between measurements by more than the pairs scatter."""
    if len(tested) <= FEWEST_TESTS:
        return None
    base = base_loss(tested)
    level = 1 - 0.05 / (len(tested) - 1)
    jumps = []
    for before, after in zip(tested, tested[1:]):  # noqa: B905  the last has no successor
        jump = paired_interval(np.subtract(after.losses, before.losses), level).scaled(1 / base)
        if jump.excludes_zero and abs(jump.mean) > JUMP:
            jumps.append(jump.mean)
    turns = [after for before, after in zip(jumps, jumps[1:]) if before * after < 0]  # noqa: B905
    if len(turns) < 3:
        return None
    return Finding("rate_too_high_held_out", {"times": len(turns), "rise": percent(max(turns))})


# ---- memorising ----------------------------------------------------------------------------


def rising(tested: Sequence[Tested], steps: Array, losses: Array) -> Finding | None:
    """A held-out loss that has left its best for good, and what training did meanwhile.

    The last quarter of the measurements against the best earlier one: the difference must hold
    over the pairs (three comparisons, hence the level), and stand out of the curve's own jitter.
    """
    if len(tested) < 4:
        return None
    matrix = np.array([each.losses for each in tested]) / base_loss(tested)
    quarters = np.array_split(np.arange(len(tested)), 4)
    means = [matrix[quarter].mean() for quarter in quarters]
    best = quarters[int(np.argmin(means[:3]))]
    last = quarters[3]
    rise = paired_interval(matrix[last].mean(0) - matrix[best].mean(0), 1 - 0.05 / 3)
    deviation = jitter(matrix.mean(1)) * np.sqrt(1 / len(best) + 1 / len(last))
    if rise.low <= 0 or rise.mean < max(RISE, 3 * deviation):
        return None
    bottom = best[int(np.argmin(matrix[best].mean(1)))]
    numbers = {"step": tested[bottom].step, "rise": percent(rise.mean), "low": percent(rise.low)}
    late = losses[steps > tested[last[0] - 1].step]
    early = losses[
        (steps > (tested[best[0] - 1].step if best[0] else 0)) & (steps <= tested[best[-1]].step)
    ]
    fall = float(early.mean() - late.mean()) if len(early) and len(late) else 0.0
    if fall <= 0:
        return Finding("held_out_rises", numbers)
    return Finding("memorising", {**numbers, "fall": percent(-np.expm1(-fall))})


def jitter(curve: Array) -> float:
    """Scatter of single values about the closest curve that falls and then rises."""
    ones, best = np.ones_like(curve), np.inf
    for low in range(len(curve)):
        falling = falling_fit(curve[: low + 1], ones[: low + 1])
        rising = -falling_fit(-curve[low + 1 :], ones[low + 1 :])
        best = min(best, np.mean((curve - np.concatenate([falling, rising])) ** 2))
    # the fit follows half of the scatter
    return 2 * float(np.sqrt(best))


# ---- improving or not ----------------------------------------------------------------------


def trend(tested: Sequence[Tested], done: int, rate: float) -> Finding:
    """The last third of the held-out measurements against the third before it.

    `rate` is the learning rate of the time, as a share of its peak.
    """
    base = base_loss(tested)
    matrix = np.array([each.losses for each in tested]) / base
    thirds = np.array_split(matrix, 3)
    change = paired_interval(thirds[2].mean(0) - thirds[1].mean(0))
    curve = matrix.mean(1)
    deviation = jitter(curve) * np.sqrt(1 / len(thirds[2]) + 1 / len(thirds[1]))
    now = tested[-1].change.mean
    numbers = {"change": percent(now), "done": done}
    if change.high < 0 and -change.mean > max(FLAT / 2, 2 * deviation):
        bounds = {"low": percent(-change.high), "high": percent(-change.low)}
        return Finding("improving", {**numbers, "fall": percent(-change.mean), **bounds})
    if change.low > -FLAT and change.high < FLAT:
        away = np.flatnonzero(np.abs(curve - thirds[2].mean()) > max(FLAT, 3 * jitter(curve)))
        since = min(away[-1] + 1, len(curve) - 1) if len(away) else 0
        step = tested[since].step
        numbers["step"] = step
        if step > done / 3 and rate < SPENT:
            return Finding("levelled_as_rate_fell", {**numbers, "rate": percent(rate)})
        early = step <= done / 3 or now > -LITTLE
        return Finding("stalled" if early else "levelled", numbers)
    bounds = {"low": percent(change.low), "high": percent(change.high)}
    return Finding("undecided", {"change": percent(change.mean), **bounds})


def training_trend(losses: Array, done: int) -> Finding:
    """The same from the training loss alone, whose single steps are noisy."""
    first, middle, last = np.array_split(losses, 3)
    fall = float(middle.mean() - last.mean())
    reach = 2 * float(np.sqrt(middle.var(ddof=1) / len(middle) + last.var(ddof=1) / len(last)))
    start = first[: max(10, len(first) // 3)]
    total = float(start.mean() - last.mean())
    total_reach = 2 * float(np.sqrt(start.var(ddof=1) / len(start) + last.var(ddof=1) / len(last)))
    if fall > max(reach, FLAT_TRAINING / 2):
        return Finding("improving_training", {"fall": percent(fall), "low": percent(fall - reach)})
    if fall + reach < FLAT_TRAINING and total > max(total_reach, LITTLE):
        numbers = {"fall": percent(total), "high": percent(max(0.0, fall + reach))}
        return Finding("levelled_training", numbers)
    if total + total_reach < LITTLE:
        numbers = {"done": done, "fall": percent(total), "high": percent(total + total_reach)}
        return Finding("stalled_training", numbers)
    bounds = {"low": percent(-fall - reach), "high": percent(-fall + reach)}
    return Finding("undecided_training", {"change": percent(-fall), **bounds})


def late_rate(log: Sequence[Entry]) -> float:
    """Mean learning rate of the last third of the log, as a share of its peak."""
    rates = [entry["learning_rate"] for entry in log]
    return float(np.mean(rates[-len(rates) // 3 :])) / (max(rates) or 1.0)


def base_loss(tested: Sequence[Tested]) -> float:
    """The base's mean loss on the held-out pairs."""
    last = tested[-1]
    return float(np.mean(last.losses)) / (1 + last.change.mean)


def percent(share: float) -> float:
    return round(100 * float(share), 1)
