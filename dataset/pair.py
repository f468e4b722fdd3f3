"""What every stage passes on: pairs of pictures on disk, never their pixels."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ..files import file_mark


class DatasetError(ValueError):
    """Something about the user's pictures or captions that only the user can mend."""


@dataclass(frozen=True)
class Pair:
    """One edit: the pictures before it, the picture after it, and the words for it.

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


@dataclass(frozen=True)
class PairedDataset:
    """An immutable list of pairs; stems are unique within it."""

    pairs: tuple[Pair, ...]

    def __post_init__(self) -> None:
        twice = _repeated(pair.stem for pair in self.pairs)
        if twice:
            raise DatasetError(
                f"{len(twice)} names occur more than once: {', '.join(twice)}. "
                "Give every pair its own name."
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
            raise DatasetError(f"Captions for unknown pairs: {', '.join(sorted(unknown))}.")
        return PairedDataset(
            tuple(
                replace(pair, caption=captions.get(pair.stem, pair.caption)) for pair in self.pairs
            )
        )

    def digest(self) -> str:
        """Hash of paths, file sizes, modification times, captions and split; reads no pixels."""
        total = hashlib.sha256()
        for pair in self.pairs:
            words = [pair.stem, pair.caption, pair.split, str(pair.repeats)]
            words += [file_mark(path) for path in (*pair.controls, pair.target)]
            words += [f"mask {file_mark(pair.mask)}"] if pair.mask else []
            total.update("\0".join(words).encode("utf-8", "surrogatepass") + b"\0\0")
        return total.hexdigest()


def _repeated(names: Iterator[str]) -> list[str]:
    return sorted(name for name, count in Counter(names).items() if count > 1)
