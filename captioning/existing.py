"""What happens to captions that are already there."""

from collections.abc import Sequence
from enum import Enum

from ..dataset.pair import DatasetError, PairedDataset
from .compose import compose_caption, strip_parts


class Existing(str, Enum):
    """`KEEP` makes the old caption the description, `MISSING` leaves a captioned pair alone."""

    KEEP = "keep"
    REPLACE = "replace"
    MISSING = "only missing"


def to_describe(pairs: PairedDataset, existing: Existing) -> list[str]:
    """Stems of the pairs that need a new description."""
    return [pair.stem for pair in pairs if existing is Existing.REPLACE or not pair.caption.strip()]


def match_descriptions(pairs: PairedDataset, texts: Sequence[str]) -> dict[str, str]:
    """Texts of another node by stem: one for every pair, in the pairs' order, or one for all."""
    if len(texts) == 1:
        texts = list(texts) * len(pairs)
    if len(texts) != len(pairs):
        raise DatasetError(
            f"{len(texts)} descriptions for {len(pairs)} pairs. Connect one text, or a list with "
            f"one text per pair in the order {', '.join(pair.stem for pair in pairs.pairs[:3])} …"
        )
    return {pair.stem: text for pair, text in zip(pairs, texts, strict=True)}


def compose_captions(
    pairs: PairedDataset,
    descriptions: dict[str, str],
    existing: Existing,
    trigger: str,
    instruction: str,
    suffix: str,
    template: str = "",
) -> dict[str, str]:
    """The caption of every pair that changes, by stem.

    A pair without an entry in `descriptions` keeps its text as the description when `existing`
    is KEEP, and otherwise gets none.
    """
    captions = {}
    for pair in pairs:
        if existing is Existing.MISSING and pair.caption.strip():
            continue
        description = descriptions.get(pair.stem, "")
        if existing is Existing.KEEP and pair.caption.strip():
            description = strip_parts(pair.caption, trigger, instruction, suffix)
        captions[pair.stem] = compose_caption(
            trigger, instruction, description, suffix, template, pair.stem
        )
    return captions
