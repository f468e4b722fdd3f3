"""How a caption is made: its parts, the use of the old text, the length limit."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from ..dataset.pair import DatasetError, Pair, PairedDataset
from ..language import say
from .compose import compose_caption, limit_length, strip_parts
from .tokens import limit_tokens


class Existing(str, Enum):
    """`KEEP` makes the old caption the description, `MISSING` leaves a captioned pair alone."""

    KEEP = "keep"
    REPLACE = "replace"
    MISSING = "only missing"


class Unit(str, Enum):
    WORDS = "words"
    TOKENS = "tokens"


@dataclass(frozen=True)
class Recipe:
    """`limit` is the most words or T5 tokens of a description; 0 means any length."""

    trigger: str = ""
    instruction: str = ""
    suffix: str = ""
    existing: Existing = Existing.KEEP
    template: str = ""
    limit: int = 0
    unit: Unit = Unit.WORDS

    def leaves_alone(self, pair: Pair) -> bool:
        return self.existing is Existing.MISSING and bool(pair.caption.strip())

    def wants_description(self, pair: Pair) -> bool:
        return self.existing is Existing.REPLACE or not pair.caption.strip()

    def caption(self, pair: Pair, description: str = "") -> str:
        """The pair's new caption; its old text becomes the description if it is to be kept."""
        if not self.wants_description(pair):
            parts = self.trigger, self.instruction, self.suffix
            description = strip_parts(pair.caption, *parts, self.template, pair.stem)
        shorten = limit_length if self.unit is Unit.WORDS else limit_tokens
        return compose_caption(
            self.trigger,
            self.instruction,
            shorten(description, self.limit),
            self.suffix,
            self.template,
            pair.stem,
        )


def match_descriptions(pairs: PairedDataset, texts: Sequence[str]) -> dict[str, str]:
    """The texts of another node by stem: one per pair, in the pairs' order, or one for all."""
    if len(texts) == 1:
        texts = list(texts) * len(pairs)
    if len(texts) != len(pairs):
        raise DatasetError(
            say(
                "{count} descriptions for {pairs} pairs. Connect one text, or a list with one text "
                "per pair in the order {names} …",
                count=len(texts),
                pairs=len(pairs),
                names=say(", ").join(pair.stem for pair in pairs.pairs[:3]),
            )
        )
    return {pair.stem: text for pair, text in zip(pairs, texts, strict=True)}
