"""A data set as its page shows it: all pairs by number, including those left out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from ..language import say
from .choices import Choices, decided, read_choices, write_choices
from .load import PairSource, match_source
from .names import side_of
from .pair import DatasetError, Matching, Pair
from .table import MOST_REPEATS


class ChangedError(DatasetError):
    """A data set has changed since the page read it."""


@dataclass(frozen=True)
class Opened:
    """The pairs at one moment. A number is valid only together with its pair's key."""

    pairs: tuple[Pair, ...]
    choices: Choices
    folder: Path
    table: Path | None = None
    leftovers: tuple[str, ...] = ()

    @cached_property
    def keys(self) -> tuple[str, ...]:
        return tuple(map(key_of, self.pairs))

    @cached_property
    def listing(self) -> str:
        """Digest of which pairs there are, in which order."""
        return hashlib.sha256("".join(self.keys).encode()).hexdigest()[:12]

    @cached_property
    def name(self) -> str:
        """The folder's name; its parent's where it only says which side it is."""
        own = self.folder.name
        return self.folder.parent.name or own if side_of(own) else own

    def pair(self, number: int, key: str) -> Pair:
        """A pair with its decisions. ChangedError if the number now belongs to another pair."""
        if not 0 <= number < len(self.pairs) or self.keys[number] != key:
            raise changed()
        return decided(self.pairs[number], self.choices)

    def checked(self, listing: str, numbers: Iterable[int]) -> list[int]:
        """The numbers, sorted and unique. ChangedError if they are of another listing."""
        found = sorted(set(numbers))
        if listing != self.listing or (found and not 0 <= found[0] <= found[-1] < len(self.pairs)):
            raise changed()
        return found


def open_pairs(source: PairSource, matching: Matching | None = None) -> Opened:
    """A source's pairs, listed anew unless `matching` is given. Raises DatasetError."""
    matching = matching or match_source(source)
    if not matching.pairs:
        raise DatasetError("\n".join((say("No name occurs on both sides."), *matching.leftovers)))
    choices = read_choices(matching.folder)
    return Opened(matching.pairs, choices, matching.folder, matching.table, matching.leftovers)


def key_of(pair: Pair) -> str:
    words = "\0".join((pair.stem, *map(str, pair.files)))
    return hashlib.sha256(words.encode("utf-8", "surrogatepass")).hexdigest()[:12]


def changed() -> ChangedError:
    return ChangedError(say("The pictures of this data set have changed. Reload the page."))


def choose(opened: Opened, numbers: Iterable[int], what: str, value: bool | int) -> Opened:
    """Write a decision on some pairs into `pairs.yaml`: excluded, held_out, swapped or repeats.

    What the file says of other pairs by now is kept. A pair cannot be swapped unless it has
    exactly one control. Raises DatasetError.
    """
    choices = read_choices(opened.folder)
    pairs = [opened.pairs[number] for number in numbers]
    stems = {pair.stem for pair in pairs}
    if what == "repeats":
        if type(value) is not int or not 0 <= value <= MOST_REPEATS:
            raise DatasetError(say("Repeats are a number from 1 to {most}.", most=MOST_REPEATS))
        repeats = {stem: n for stem, n in choices.repeats.items() if stem not in stems}
        repeats |= {pair.stem: value for pair in pairs if value not in (0, pair.repeats)}
        choices = replace(choices, repeats=repeats)
    else:
        if what == "swapped" and any(len(pair.controls) != 1 for pair in pairs):
            raise DatasetError(say("Only a pair of two pictures can be swapped."))
        now = getattr(choices, what)
        choices = replace(choices, **{what: now | stems if value else now - stems})
    write_choices(opened.folder, choices)
    return replace(opened, choices=choices)
