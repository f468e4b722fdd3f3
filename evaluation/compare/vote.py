"""Votes by eye: which of two pictures is better, which two to show next, and the ranking."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from itertools import combinations
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special, stats

from ...files import storing
from ...lines import Lines

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
    def items(self) -> frozenset[str]:
        return frozenset((self.left, self.right))


Votes = Iterable[Vote] | Mapping[Vote, int]  # one by one, or counted


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
    """The votes of one run: an append-only file, one line per vote.

    Counting them again reads only the new lines. Several threads may share a ballot.
    """

    def __init__(self, path: Path) -> None:
        self.lines = Lines(path, cast_vote)
        self._cast: list[Vote] = []
        self._count: Counter[Vote] = Counter()
        self._lock = Lock()

    def add(self, vote: Vote) -> None:
        with storing(self.lines.path):
            self.lines.path.parent.mkdir(parents=True, exist_ok=True)
        self.lines.append({**asdict(vote), "time": time.strftime("%Y-%m-%d %H:%M:%S")})

    def undo(self) -> None:
        """Take back the last vote that still counts, if there is one."""
        self.lines.append({"undo": True})

    def votes(self, items: Collection[str]) -> Counter[Vote]:
        """How often each vote between two of the items was cast, less those taken back."""
        with self._lock:
            self._count_new()
            shown = frozenset(items)
            return Counter({v: n for v, n in self._count.items() if n and v.items <= shown})

    def _count_new(self) -> None:
        anew, votes = self.lines.added()
        if anew:
            self._cast.clear()
            self._count.clear()
        for vote in votes:
            if vote:
                self._cast.append(vote)
                self._count[vote] += 1
            elif self._cast:
                self._count[self._cast.pop()] -= 1


@lru_cache(maxsize=64)
def ballot_of(folder: Path) -> Ballot:
    """The votes of the run in this folder."""
    return Ballot(folder / "votes.jsonl")


@lru_cache(maxsize=10_000)
def same_vote(*values: str) -> Vote:
    """Equal votes are one object, which saves memory."""
    return Vote(*values)


def cast_vote(entry: dict[str, Any]) -> Vote | None:
    """The vote of a line, or None for one that takes the last vote back."""
    if entry.get("undo") is True:
        return None
    values = [entry[each.name] for each in fields(Vote)]
    if not all(isinstance(value, str) for value in values) or entry["choice"] not in CHOICES:
        raise ValueError(f"{values} is no vote")
    return same_vote(*values)


def rank(
    items: Sequence[str], votes: Votes, prior: float = PRIOR, level: float = 0.95
) -> list[Standing]:
    """The items, best first, by the Bradley–Terry model; votes for others are left out.

    P(i is preferred to j) = 1 / (1 + exp(s_j - s_i)), with scores s that sum to zero; *equal* is
    half a vote for each. Scores maximise the likelihood times a normal prior of standard deviation
    `prior`, which keeps an unbeaten item finite (`np.inf`: no prior). Intervals are normal ones
    from the inverse Fisher information under that constraint. They assume independent votes and
    count a tie as a whole vote, so with many ties they are wide.

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


def tally(items: Sequence[str], votes: Votes) -> tuple[NDArray, NDArray]:
    """Two matrices [item, item]: how often the first was preferred, and ties (symmetric)."""
    places = {item: place for place, item in enumerate(items)}
    wins, ties = np.zeros((2, len(items), len(items)))
    for vote, times in Counter(votes).items():
        if vote.left in places and vote.right in places:
            left, right = places[vote.left], places[vote.right]
            if vote.choice == "equal":
                ties[left, right] += times
                ties[right, left] += times
            elif vote.choice == "left":
                wins[left, right] += times
            else:
                wins[right, left] += times
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


def next_vote(
    items: Sequence[str], rows: Sequence[str], votes: Votes, random: np.random.Generator
) -> tuple[str, str, str]:
    """Left item, right item and test picture to show next.

    Drawn at random among the pairs with the fewest votes, then among the test pictures this pair
    was seen on least; the item that stood on the left less often goes there.
    """
    pairs: Counter[frozenset[str]] = Counter()
    seen: Counter[tuple[frozenset[str], str]] = Counter()
    total: Counter[str] = Counter()
    side: Counter[str] = Counter()
    for vote, times in Counter(votes).items():
        pairs[vote.items] += times
        seen[vote.items, vote.row] += times
        total[vote.row] += times
        side[vote.left] += times
        side[vote.right] -= times

    every = list(combinations(items, 2))
    random.shuffle(every)
    first, second = min(every, key=lambda pair: pairs[frozenset(pair)])
    pair = frozenset((first, second))
    row = min(random.permutation(list(rows)), key=lambda row: (seen[pair, row], total[row]))
    if side[first] > side[second] or (side[first] == side[second] and random.random() < 0.5):
        first, second = second, first
    return first, second, str(row)
