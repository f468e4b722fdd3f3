"""Which pairs are held out: by source picture, and stable when pairs are added."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..language import say
from .pair import DatasetError, Pair

HOLDOUT = 0.15
"""The share of pairs held out unless the user says otherwise."""

FEWEST_FOR_VERDICT = 4
"""With fewer held-out pairs, checkpoints cannot be compared (docs/guide/checks.md)."""

Shares = Sequence[tuple[Sequence[Pair], float | None]]
"""Pairs, and the fraction (below 1) or number of them to hold out; None leaves them as they are."""


def hold_out(
    pairs: Sequence[Pair], holdout: float, groups: Mapping[str, str]
) -> tuple[tuple[Pair, ...], tuple[str, ...]]:
    """Mark a fraction (below 1) or a number of pairs as held out; returns pairs and warnings.

    `groups` gives each stem the name of its source picture; a group is never divided. Groups are
    taken in the order of a hash of their names, so that adding k pairs changes at most k places.
    A fraction of at least 12 pairs holds out 4 or more.
    """
    return hold_out_shares([(pairs, holdout)], groups)


def hold_out_shares(
    shares: Shares, groups: Mapping[str, str]
) -> tuple[tuple[Pair, ...], tuple[str, ...]]:
    """As `hold_out`, for several sources; the first that has a part of a group decides on it."""
    chosen: set[str] = set()
    decided: set[str] = set()
    warnings: list[str] = []
    for pairs, holdout in shares:
        members: dict[str, list[str]] = {}
        for pair in pairs:
            members.setdefault(groups[pair.stem], []).append(pair.stem)
        if holdout is None:
            chosen |= {groups[pair.stem] for pair in pairs if pair.split == "holdout"}
        else:
            wanted = _wanted(holdout, len(pairs))
            held = sum(len(stems) for group, stems in members.items() if group in chosen)
            free = [group for group in members if group not in decided]
            for group in sorted(free, key=lambda group: min(map(_rank, members[group]))):
                if held + len(members[group]) <= wanted:
                    chosen.add(group)
                    held += len(members[group])
            if held < wanted:
                warnings.append(
                    say(
                        "{count} pairs held out, not {wanted}: near-duplicates stay together. Add "
                        "pairs of other pictures.",
                        count=held,
                        wanted=wanted,
                    )
                )
        decided |= members.keys()
    marked = tuple(
        pair
        if holdout is None
        else replace(pair, split="holdout" if groups[pair.stem] in chosen else "train")
        for pairs, holdout in shares
        for pair in pairs
    )
    count = sum(pair.split == "holdout" for pair in marked)
    if count < FEWEST_FOR_VERDICT:
        warnings.append(
            say(
                "Only {count} pairs are held out. Below {fewest} no checkpoint can be called "
                "better than another; set holdout to {fewest} or more.",
                count=count,
                fewest=FEWEST_FOR_VERDICT,
            )
        )
    return marked, tuple(warnings)


def _wanted(holdout: float, total: int) -> int:
    if holdout <= 0:
        return 0
    if holdout >= 1:
        wanted = round(holdout)
    else:
        least = FEWEST_FOR_VERDICT if total >= 3 * FEWEST_FOR_VERDICT else 1
        wanted = max(round(holdout * total), least)
    if wanted >= total:
        raise DatasetError(
            say(
                "Holding out {wanted} of {total} pairs leaves none to train on. Lower holdout, or "
                "add pairs.",
                wanted=wanted,
                total=total,
            )
        )
    return wanted


def _rank(stem: str) -> str:
    return hashlib.sha256(stem.encode("utf-8", "surrogatepass")).hexdigest()
