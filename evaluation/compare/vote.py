"""Votes by eye: which of two pictures is better, which two to show next, the ranking they give."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special, stats

from ..pictures.lines import append_line, read_lines

CHOICES = ("left", "right", "equal")
PRIOR = 3.0  # log-odds: of items this far apart the better one gets 95 % of the votes


@dataclass(frozen=True)
class Vote:
    """Two items as they were shown for the test picture `row`, and which one was better."""

    left: str
    right: str
    row: str
    choice: str

    @property
    def pair(self) -> frozenset[str]:
        return frozenset((self.left, self.right))


@dataclass(frozen=True)
class Standing:
    """An item's log-odds against the average item, with its interval, and its votes."""

    item: str
    score: float
    low: float
    high: float
    wins: int
    equal: int
    losses: int


class Ballot:
    """The votes of one run: a file that is only ever appended to, a line each."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, vote: Vote) -> None:
        append_line(self.path, {**asdict(vote), "time": time.strftime("%Y-%m-%d %H:%M:%S")})

    def undo(self) -> None:
        """Take the last vote that counts back; nothing happens where there is none."""
        append_line(self.path, {"undo": True})

    def votes(self) -> list[Vote]:
        """All that count, in the order they were given."""
        kept: list[Vote] = []
        for line in read_lines(self.path):
            if "undo" in line:
                del kept[-1:]
            else:
                kept.append(Vote(line["left"], line["right"], line["row"], line["choice"]))
        return kept


def rank(
    items: Sequence[str], votes: Sequence[Vote], prior: float = PRIOR, level: float = 0.95
) -> list[Standing]:
    """The items, best first, by the Bradley–Terry model; votes for others are left out.

    P(i is preferred to j) = 1 / (1 + exp(s_j - s_i)), with scores s that sum to zero; *equal* is
    half a vote for each. Scores maximise the likelihood times a normal prior of standard deviation
    `prior`, which keeps an unbeaten item finite (`np.inf`: no prior). Intervals are normal ones
    from the inverse Fisher information under that constraint. They take votes for independent and
    a tie for a whole vote, so with many ties they are wide.

    Bradley & Terry 1952, Biometrika 39, 324-345; ties as halves and the prior as in Caron & Doucet
    2012, J. Comp. Graph. Stat. 21, 174-196, theirs a gamma; constraint: Firth & de Menezes 2004,
    Biometrika 91, 65-80.
    """
    wins, ties = tally(items, votes)
    halves = wins + ties / 2
    scores = bradley_terry(halves, prior)
    errors = np.sqrt(np.diag(covariance(halves, scores, prior)))
    reach = float(stats.norm.ppf(0.5 + level / 2)) * errors
    standings = [
        Standing(
            item,
            float(scores[place]),
            float(scores[place] - reach[place]),
            float(scores[place] + reach[place]),
            int(wins[place].sum()),
            int(ties[place].sum()),
            int(wins[:, place].sum()),
        )
        for place, item in enumerate(items)
    ]
    return sorted(standings, key=lambda standing: -standing.score)


def tally(items: Sequence[str], votes: Sequence[Vote]) -> tuple[NDArray, NDArray]:
    """Two matrices [item, item]: how often the first was preferred, and ties (symmetric)."""
    places = {item: place for place, item in enumerate(items)}
    wins, ties = np.zeros((2, len(items), len(items)))
    for vote in votes:
        if vote.left in places and vote.right in places:
            left, right = places[vote.left], places[vote.right]
            if vote.choice == "equal":
                ties[left, right] += 1
                ties[right, left] += 1
            elif vote.choice == "left":
                wins[left, right] += 1
            else:
                wins[right, left] += 1
    return wins, ties


def bradley_terry(wins: NDArray, prior: float) -> NDArray:
    """Scores of most probability for a matrix of (half) wins; they sum to zero."""
    count = len(wins)
    precision = 1 / prior**2

    def loss(scores: NDArray) -> tuple[float, NDArray]:
        gaps = scores[:, None] - scores[None, :]
        missed = wins * special.expit(-gaps)
        value = -(wins * special.log_expit(gaps)).sum() + precision * (scores**2).sum() / 2
        return float(value), missed.sum(0) - missed.sum(1) + precision * scores

    start, close = np.zeros(count), {"gtol": 1e-7}
    found = optimize.minimize(loss, start, jac=True, method="BFGS", options=close)
    return found.x - found.x.mean()


def covariance(wins: NDArray, scores: NDArray, prior: float) -> NDArray:
    """Covariance of the scores that sum to zero, from the Fisher information and the prior's."""
    count = len(scores)
    chance = special.expit(scores[:, None] - scores[None, :])
    information = -(wins + wins.T) * chance * (1 - chance)
    np.fill_diagonal(information, 0)
    np.fill_diagonal(information, -information.sum(1))
    centred = np.eye(count) - 1 / count
    return np.linalg.pinv(information + centred / prior**2, hermitian=True)


def next_pair(
    items: Sequence[str], rows: Sequence[str], votes: Sequence[Vote], random: np.random.Generator
) -> tuple[str, str, str]:
    """Left item, right item and test picture to show next.

    Drawn at random among the pairs with the fewest votes, then among the test pictures this pair
    was seen on least; the item that stood on the left less often goes there.
    """
    pairs = Counter(vote.pair for vote in votes)
    seen = Counter((vote.pair, vote.row) for vote in votes)
    total = Counter(vote.row for vote in votes)
    side = Counter(vote.left for vote in votes)
    side.subtract(vote.right for vote in votes)

    every = list(combinations(items, 2))
    random.shuffle(every)
    first, second = min(every, key=lambda pair: pairs[frozenset(pair)])
    pair = frozenset((first, second))
    row = min(random.permutation(list(rows)), key=lambda row: (seen[pair, row], total[row]))
    if side[first] > side[second] or (side[first] == side[second] and random.random() < 0.5):
        first, second = second, first
    return first, second, str(row)
