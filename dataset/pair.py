"""The types that every stage passes on: pairs of pictures on disk, never their pixels."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

from ..files import file_mark
from ..language import say


class DatasetError(ValueError):
    """Something about the user's pictures or captions that only the user can mend."""


@dataclass(frozen=True)
class Pair:
    """One edit: the pictures before it, the picture after it, and its caption.

    `controls` has one entry usually, several where an edit has several references, none for a
    plain LoRA. `split` is "train" or "holdout". A pair counts `repeats` times in an epoch.
    `mask` is a grey picture of the target's frame: white is what the loss looks at.
    """

    stem: str
    controls: tuple[Path, ...]
    target: Path
    caption: str
    split: str = "train"
    repeats: int = 1
    mask: Path | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """Every picture of the pair: controls, target, mask."""
        return (*self.controls, self.target, *((self.mask,) if self.mask else ()))

    def one_per_control(self) -> list["Pair"]:
        """A pair `ring_1`, `ring_2`, … for each of several controls, else the pair itself."""
        if len(self.controls) <= 1:
            return [self]
        return [
            replace(self, stem=f"{self.stem}_{number}", controls=(control,))
            for number, control in enumerate(self.controls, 1)
        ]


@dataclass(frozen=True)
class Matching:
    """Which pictures form pairs, which are left over, and notes for the user.

    `folder` is that of the targets, or of the `table` that names the pairs. `left_over` pictures
    are in no pair.
    """

    pairs: tuple[Pair, ...]
    folder: Path
    leftovers: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    table: Path | None = None
    left_over: int = 0


@dataclass(frozen=True)
class PairedDataset:
    """An immutable list of pairs; stems are unique within it.

    `doubts` are sentences on how it was made, for what the pairs themselves do not show.
    """

    pairs: tuple[Pair, ...]
    doubts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        twice = _repeated(pair.stem for pair in self.pairs)
        if twice:
            raise DatasetError(
                say(
                    "{count} names occur more than once: {names}. Give every pair its own name.",
                    count=len(twice),
                    names=", ".join(twice),
                )
            )

    def __iter__(self) -> Iterator[Pair]:
        return iter(self.pairs)

    def __len__(self) -> int:
        return len(self.pairs)

    @property
    def train(self) -> tuple[Pair, ...]:
        return tuple(pair for pair in self.pairs if pair.split == "train")

    @property
    def holdout(self) -> tuple[Pair, ...]:
        return tuple(pair for pair in self.pairs if pair.split == "holdout")

    def with_captions(self, captions: Mapping[str, str]) -> "PairedDataset":
        """The same pairs; those whose stem is in `captions` get the new text."""
        unknown = captions.keys() - {pair.stem for pair in self.pairs}
        if unknown:
            raise DatasetError(
                say("Captions for unknown pairs: {names}.", names=", ".join(sorted(unknown)))
            )
        pairs = [replace(pair, caption=captions.get(pair.stem, pair.caption)) for pair in self]
        return replace(self, pairs=tuple(pairs))

    def digest(self) -> str:
        """Hash of paths, file sizes, modification times, captions and split; reads no pixels."""
        total = hashlib.sha256()
        for pair in self.pairs:
            words = [pair.stem, pair.caption, pair.split, str(pair.repeats)]
            words += [file_mark(path) for path in (*pair.controls, pair.target)]
            words += [f"mask {file_mark(pair.mask)}"] if pair.mask else []
            total.update("\0".join(words).encode("utf-8", "surrogatepass") + b"\0\0")
        return total.hexdigest()


def named_apart(pairs: Sequence[Pair]) -> tuple[Pair, ...]:
    """The same pairs; those that share a stem get the word that tells them apart, or a number."""
    groups: dict[str, list[Pair]] = {}
    for pair in pairs:
        groups.setdefault(pair.stem, []).append(pair)
    stems = {
        id(pair): stem
        for group in groups.values()
        for pair, stem in zip(group, _apart(group), strict=True)
    }
    taken: set[str] = set()
    apart = []
    for pair in pairs:
        stem = first = stems[id(pair)]
        numbers = count(2)
        while stem in taken:
            stem = f"{first}_{next(numbers)}"
        taken.add(stem)
        apart.append(replace(pair, stem=stem))
    return tuple(apart)


def _apart(group: Sequence[Pair]) -> list[str]:
    """Names for pairs of one stem: by the target's folder, the control's folder or its name."""
    if len(group) == 1:
        return [group[0].stem]
    controls = [(*pair.controls, pair.target)[0] for pair in group]
    choices = (
        [f"{pair.target.parent.name}_{pair.stem}" for pair in group],
        [f"{pair.stem}_{c.parent.name}" for pair, c in zip(group, controls, strict=True)],
        [f"{pair.stem}_{c.stem}" for pair, c in zip(group, controls, strict=True)],
    )
    different = (names for names in choices if len(set(names)) == len(group))
    return next(different, [f"{pair.stem}_{number}" for number, pair in enumerate(group, 1)])


def _repeated(names: Iterator[str]) -> list[str]:
    return sorted(name for name, uses in Counter(names).items() if uses > 1)
