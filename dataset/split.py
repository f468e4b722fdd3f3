"""Which pairs are held out: by source picture, the same ones when pairs are added."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

from .pair import DatasetError, Pair

FEWEST = 4
"""Held-out pairs below which a comparison of checkpoints says nothing (docs/guide/checks.md)."""


def hold_out(
    pairs: Sequence[Pair], holdout: float, groups: Mapping[str, str]
) -> tuple[tuple[Pair, ...], tuple[str, ...]]:
    """Mark a fraction (below 1) or a number of pairs as held out; returns pairs and warnings.

    `groups` gives each stem the name of its source picture; a group is never divided. Groups are
    taken in the order of a hash of their names, so that adding k pairs changes at most k places.
    A fraction of at least 12 pairs holds out 4 or more.
    """
    total = len(pairs)
    if holdout < 1:
        wanted = max(round(holdout * total), FEWEST if total >= 3 * FEWEST else 1)
    else:
        wanted = round(holdout)
    if wanted >= total:
        raise DatasetError(
            f"Holding out {wanted} of {total} pairs leaves none to train on. "
            "Lower holdout, or add pairs."
        )
    members: dict[str, list[str]] = {}
    for pair in pairs:
        members.setdefault(groups[pair.stem], []).append(pair.stem)
    chosen: set[str] = set()
    for group in sorted(members.values(), key=lambda stems: min(map(_rank, stems))):
        if len(chosen) + len(group) <= wanted:
            chosen.update(group)
    warnings = []
    if len(chosen) < wanted:
        warnings.append(
            f"{len(chosen)} pairs held out, not {wanted}: near-duplicates stay together. "
            "Add pairs of other pictures."
        )
    if len(chosen) < FEWEST:
        warnings.append(
            f"Only {len(chosen)} pairs are held out. Below {FEWEST} no checkpoint can be called "
            f"better than another; set holdout to {FEWEST} or more."
        )
    marked = (replace(pair, split="holdout" if pair.stem in chosen else "train") for pair in pairs)
    return tuple(marked), tuple(warnings)


def _rank(stem: str) -> str:
    return hashlib.sha256(stem.encode("utf-8", "surrogatepass")).hexdigest()
