"""Corrects captions in bulk: find and replace, tags removed, sorted, counted, and so on."""

import random
import re
from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatch

from ..dataset.pair import Pair
from .captioner import CaptionError
from .compose import COMMAS, FULL_WIDTH, compose_caption, is_chinese


class Where(str, Enum):
    """Which captions are edited."""

    ALL = "all"
    CONTAINS = "caption contains"
    LACKS = "caption lacks"
    NAME = "file name matches"


class Order(str, Enum):
    AS_IS = "as is"
    SORTED = "alphabetical"
    SHUFFLED = "shuffled"


class Case(str, Enum):
    AS_IS = "as is"
    LOWER = "lower"
    UPPER = "upper"
    SENTENCE = "Sentence"


@dataclass(frozen=True)
class Edits:
    """Applied in this order. Tags are what stands between commas or full stops.

    Lists are divided by commas; `*` in a tag stands for any letters. `keep_first` tags (a trigger,
    an instruction) are not removed, moved or counted away.
    """

    find: str = ""
    replace: str = ""
    regex: bool = False
    remove_phrases: str = ""
    remove_tags: str = ""
    keep_only: str = ""
    deduplicate: bool = False
    order: Order = Order.AS_IS
    max_tags: int = 0
    keep_first: int = 0
    case: Case = Case.AS_IS
    prefix: str = ""
    suffix: str = ""
    seed: int = 0


def applies(pair: Pair, where: Where, text: str) -> bool:
    """Whether a filter selects a pair; `text` is a phrase, or a file name with `*`."""
    if where is Where.NAME:
        return fnmatch(pair.stem.lower(), text.strip().lower())
    found = text.strip().lower() in pair.caption.lower()
    return where is Where.ALL or found is (where is Where.CONTAINS)


def edit_caption(caption: str, stem: str, edits: Edits) -> str:
    """The caption after all edits. `stem` makes each shuffle different, and each run the same."""
    caption = _replaced(caption, edits)
    for phrase in entries(edits.remove_phrases):
        whole = rf"(?<!\w){re.escape(phrase)}(?!\w)" if phrase.isascii() else re.escape(phrase)
        caption = re.sub(whole, "", caption, flags=re.IGNORECASE)
        caption = re.sub(r"\s+(?=[,，、.。；]|$)", "", caption)  # what stood before the phrase
        caption = re.sub(r"(?<=\S)\s+", " ", caption)
    if edits.remove_phrases or _touches_tags(edits):
        caption = _join(_edited_tags(split_tags(caption), stem, edits))
    if edits.case is not Case.AS_IS:
        caption = _CASES[edits.case](caption)
    if edits.prefix or edits.suffix:
        caption = compose_caption(edits.prefix, caption, "", edits.suffix)
    return caption


def split_tags(caption: str) -> list[str]:
    """The caption's tags, each with the mark that ends it. A stop divides only before a space."""
    pieces = re.split(r"(?<=[,，、。；！？])|(?<=\w[.!?])(?=\s)", caption)
    return [piece.strip() for piece in pieces if piece.strip(" \t\n" + COMMAS)]


def words_of(tag: str) -> str:
    """A tag without the mark that ends it."""
    return re.sub(r"(?<=\w)[.!?]+$", "", tag.strip(" \t\n" + COMMAS + FULL_WIDTH))


def entries(text: str) -> list[str]:
    """What a user listed with commas (either kind) or on lines."""
    return [entry.strip() for entry in re.split(r"[,，、\n]", text) if entry.strip()]


def changes(before: dict[str, str], after: dict[str, str]) -> str:
    """The captions that differ, old above new, and how many there are."""
    changed = [stem for stem in before if before[stem] != after[stem]]
    lines = [f"{len(changed)} of {len(before)} captions changed"]
    for stem in changed:
        lines += ["", stem, f"− {before[stem]}", f"+ {after[stem]}"]
    return "\n".join(lines)


def _replaced(caption: str, edits: Edits) -> str:
    if not edits.find:
        return caption
    if not edits.regex:
        return caption.replace(edits.find, edits.replace)
    try:
        return re.sub(edits.find, edits.replace, caption)
    except (re.error, IndexError) as error:
        raise CaptionError(
            f"{edits.find!r} → {edits.replace!r} is not a regular expression with its replacement: "
            f"{error}. Switch regex off to look for exactly these letters."
        ) from error


def _touches_tags(edits: Edits) -> bool:
    return bool(
        edits.remove_tags
        or edits.keep_only
        or edits.deduplicate
        or edits.max_tags
        or edits.order is not Order.AS_IS
    )


def _edited_tags(tags: list[str], stem: str, edits: Edits) -> list[str]:
    first, rest = tags[: edits.keep_first], tags[edits.keep_first :]
    removed, kept = entries(edits.remove_tags), entries(edits.keep_only)
    rest = [tag for tag in rest if not _listed(tag, removed)]
    if kept:
        rest = [tag for tag in rest if _listed(tag, kept)]
    if edits.deduplicate:
        seen = {words_of(tag).lower() for tag in first}
        unique = {words_of(tag).lower(): tag for tag in reversed(rest)}
        rest = [t for t in rest if t is unique[words_of(t).lower()]]
        rest = [tag for tag in rest if words_of(tag).lower() not in seen]
    if edits.order is Order.SORTED:
        rest.sort(key=lambda tag: words_of(tag).lower())
    elif edits.order is Order.SHUFFLED:
        random.Random(f"{edits.seed} {stem}").shuffle(rest)
    if edits.max_tags:
        rest = rest[: max(0, edits.max_tags - len(first))]
    return first + rest


def _listed(tag: str, patterns: list[str]) -> bool:
    words = words_of(tag).lower()
    return any(_matches(words, pattern.lower()) for pattern in patterns)


def _matches(words: str, pattern: str) -> bool:
    parts = [re.escape(part) for part in pattern.split("*")]
    return re.fullmatch(".*".join(parts), words, re.DOTALL) is not None


def _join(tags: list[str]) -> str:
    """Tags with the marks they had; one that had none, because it was the last, gets a comma."""
    text = ""
    for tag in tags:
        if text and words_of(text) == text:
            text += "，" if is_chinese(text[-1]) and is_chinese(tag[0]) else ","
        text += tag if not text or text[-1] in FULL_WIDTH else f" {tag}"
    return text.rstrip(COMMAS + " ")


_CASES = {
    Case.LOWER: str.lower,
    Case.UPPER: str.upper,
    Case.SENTENCE: lambda text: text[:1].upper() + text[1:].lower(),
}
