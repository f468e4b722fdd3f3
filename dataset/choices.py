"""The user's decisions about the pairs of a data set: `pairs.yaml`, a file beside the targets."""

from __future__ import annotations

import os
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from ..files import write_atomically
from ..language import say
from ..values import read_texts
from .access import readable
from .captions import read_captions
from .pair import DatasetError, Pair
from .table import MOST_REPEATS
from .text import listed, read_utf8

FILE = "pairs.yaml"
HEADING = """\
# Decisions about the pairs of this folder, by name. No picture is changed by them.
# excluded: left out; held_out: for comparing checkpoints; swapped: before and after are exchanged;
# repeats: how often a pair counts; instruction and ending: what all captions share.
"""


@dataclass(frozen=True)
class Choices:
    """Pairs by stem. `instruction` and `ending` stand around the description in each caption."""

    excluded: frozenset[str] = frozenset()
    held_out: frozenset[str] = frozenset()
    swapped: frozenset[str] = frozenset()
    repeats: Mapping[str, int] = field(default_factory=dict)
    instruction: str = ""
    ending: str = ""


def read_choices(folder: Path) -> Choices:
    """The decisions in a folder's `pairs.yaml`; none if there is no such file.

    Raises DatasetError naming the file and what it may hold.
    """
    path = readable(folder / FILE)
    if not os.path.isfile(path):
        return Choices()
    try:
        content: Any = read_texts(read_utf8(path)) or {}
        if not isinstance(content, dict):
            raise ValueError(type(content).__name__)
        if unknown := content.keys() - set(Choices.__dataclass_fields__):
            raise ValueError(", ".join(map(str, unknown)))
        lists = {name: _names(content.get(name)) for name in ("excluded", "held_out", "swapped")}
        return Choices(
            **lists,
            repeats=_repeats(content.get("repeats")),
            instruction=_text(content.get("instruction")),
            ending=_text(content.get("ending")),
        )
    except (ValueError, TypeError) as error:
        if isinstance(error, DatasetError):
            raise
        raise DatasetError(
            say(
                "{path} cannot be understood ({error}). It may hold `excluded`, `held_out` and "
                "`swapped`, each a list of names of pairs, `repeats`, a number from 1 to {most} "
                "for each name, and the texts `instruction` and `ending`. Mend it, or remove it.",
                path=path,
                error=" ".join(str(error).split()),
                most=MOST_REPEATS,
            )
        ) from error


def write_choices(folder: Path, choices: Choices) -> None:
    """Write `pairs.yaml`, without what is empty. Raises StorageError."""
    said = {name: value for name, value in asdict(choices).items() if value}
    content = {n: sorted(v) if isinstance(v, frozenset) else v for n, v in said.items()}
    text = yaml.safe_dump(content, allow_unicode=True, sort_keys=False) if content else ""
    write_atomically(readable(folder / FILE), (HEADING + text).encode("utf-8"))


def decide(pairs: Sequence[Pair], choices: Choices) -> tuple[tuple[Pair, ...], tuple[str, ...]]:
    """The pairs that are not excluded, with the decisions applied, and notes."""
    known = {pair.stem for pair in pairs}
    left = tuple(decided(pair, choices) for pair in pairs if pair.stem not in choices.excluded)
    named = choices.excluded | choices.held_out | choices.swapped | choices.repeats.keys()
    counts = {
        say("{count} left out", count=len(pairs) - len(left)): len(pairs) - len(left),
        say("{count} held out", count=len(choices.held_out)): len(choices.held_out),
        say("{count} swapped", count=len(choices.swapped)): len(choices.swapped),
        say("{count} with repeats", count=len(choices.repeats)): len(choices.repeats),
    }
    parts = [part for part, count in counts.items() if count]
    notes = [say("{name}: {text}", name=FILE, text=say(", ").join(parts))] if parts else []
    if strange := sorted(named - known):
        notes.append(
            say("{name} names no pair of this data set: {names}", name=FILE, names=listed(strange))
        )
    if pairs and not left:
        raise DatasetError(say("{name} leaves out all pairs. Include some again.", name=FILE))
    return left, tuple(notes)


def decided(pair: Pair, choices: Choices) -> Pair:
    """A pair with its hold-out, repeats and sides as decided."""
    if pair.stem in choices.swapped and len(pair.controls) == 1:
        pair = swapped(pair)
    if pair.stem in choices.held_out:
        pair = replace(pair, split="holdout")
    return replace(pair, repeats=choices.repeats.get(pair.stem, pair.repeats))


def swapped(pair: Pair) -> Pair:
    """The pair with its sides exchanged. A text beside the new target is its caption, if any."""
    (control,) = pair.controls
    beside = control.with_suffix(".txt")
    text = read_captions([beside])[0].get(beside, "") if beside.is_file() else ""
    return replace(pair, controls=(pair.target,), target=control, caption=text or pair.caption)


def _names(value: Any) -> frozenset[str]:
    if value in (None, ""):
        return frozenset()
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ValueError(reprlib.repr(value)[:80])
    return frozenset(value)


def _repeats(value: Any) -> dict[str, int]:
    if value in (None, ""):
        return {}
    if not isinstance(value, dict):
        raise ValueError(reprlib.repr(value)[:80])
    for name, number in value.items():
        whole = isinstance(number, str) and number.isdecimal()
        if not isinstance(name, str) or not whole or not 1 <= int(number) <= MOST_REPEATS:
            raise ValueError(reprlib.repr({name: number})[:80])
    return {name: int(number) for name, number in value.items()}


def _text(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(reprlib.repr(value)[:80])
    return value
