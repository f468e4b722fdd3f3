"""Edits captions in bulk: replaces text, removes, sorts and limits tags, changes case."""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from ..dataset.pair import Pair
from ..language import say
from ..patterns import PatternError, SlowPatternError, replaced
from .captioner import CaptionError
from .compose import COMMAS, FULL_WIDTH, compose_caption, is_chinese

MOST_WILD = 500  # entries with `*` in a list of tags, each looked for in each tag


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
    """Applied in this order. Commas and full stops separate the tags of a caption.

    Lists are separated by commas; `*` in a tag stands for any letters. The first `keep_first` tags
    (a trigger, an instruction) stay where they are, whatever the other edits.
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
        return _matches(pair.stem.lower(), *_split(text.strip().lower()))
    found = text.strip().lower() in pair.caption.lower()
    return where is Where.ALL or found is (where is Where.CONTAINS)


def edit_caption(caption: str, stem: str, edits: Edits) -> str:
    """The caption after all edits. `stem` makes each shuffle different, and each run the same."""
    caption = _replaced(caption, edits)
    for phrase in entries(edits.remove_phrases):
        whole = rf"(?<!\w){re.escape(phrase)}(?!\w)" if phrase.isascii() else re.escape(phrase)
        caption = re.sub(whole, "", caption, flags=re.IGNORECASE)
        caption = " ".join(caption.split())
        caption = re.sub(r" (?=[,，、.。；]|$)", "", caption)  # the blank before the phrase
    if edits.remove_phrases or _touches_tags(edits):
        caption = _join(_edited_tags(split_tags(caption), stem, edits))
    if edits.case is not Case.AS_IS:
        caption = _CASES[edits.case](caption)
    if edits.prefix or edits.suffix:
        caption = compose_caption(edits.prefix, caption, "", edits.suffix)
    return caption


def split_tags(caption: str) -> list[str]:
    """The caption's tags, each with its closing punctuation. A full stop separates only before a
    space."""
    pieces = re.split(r"(?<=[,，、。；！？])|(?<=\w[.!?])(?=\s)", caption)
    return [piece.strip() for piece in pieces if piece.strip(" \t\n" + COMMAS)]


def words_of(tag: str) -> str:
    """A tag without the punctuation at its end."""
    return re.sub(r"(?<=\w)[.!?]+$", "", tag.strip(" \t\n" + COMMAS + FULL_WIDTH))


def entries(text: str) -> list[str]:
    """The entries of a list that is separated by commas (either kind) or lines."""
    return [entry.strip() for entry in re.split(r"[,，、\n]", text) if entry.strip()]


def changes(before: dict[str, str], after: dict[str, str]) -> str:
    """The captions that differ, old above new, and how many there are."""
    changed = [stem for stem in before if before[stem] != after[stem]]
    lines = [say("{count} of {all} captions changed", count=len(changed), all=len(before))]
    for stem in changed:
        lines += ["", stem, f"− {before[stem]}", f"+ {after[stem]}"]
    return "\n".join(lines)


def _replaced(caption: str, edits: Edits) -> str:
    if not edits.find:
        return caption
    if not edits.regex:
        return caption.replace(edits.find, edits.replace)
    try:
        return replaced(edits.find, edits.replace, caption)
    except SlowPatternError as error:
        raise CaptionError(str(error)) from error
    except PatternError as error:
        raise CaptionError(
            say(
                "'{find}' → '{replace}' is not a regular expression with its replacement: {error}. "
                "Turn off `regex` to look for exactly this text.",
                find=edits.find,
                replace=edits.replace,
                error=error,
            )
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
    removed = _listing(edits.remove_tags)
    rest = [tag for tag in rest if not removed(tag)]
    if entries(edits.keep_only):
        rest = list(filter(_listing(edits.keep_only), rest))
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


def _listing(text: str) -> Callable[[str], bool]:
    """A function: whether a tag is in the list `text`. CaptionError for too many with `*`."""
    patterns = {entry.lower() for entry in entries(text)}
    wild = [_split(pattern) for pattern in patterns if "*" in pattern]
    if len(wild) > MOST_WILD:
        raise CaptionError(
            say(
                "The list of tags has {count} entries with *; at most {most} are possible. Write "
                "fewer, or whole tags.",
                count=len(wild),
                most=MOST_WILD,
            )
        )

    def listed(tag: str) -> bool:
        words = words_of(tag).lower()
        return words in patterns or any(_matches(words, *each) for each in wild)

    return listed


def _split(pattern: str) -> tuple[list[str], int]:
    """What stands between the `*` of a pattern, and how many letters that is."""
    parts = re.sub(r"\*+", "*", pattern).split("*")
    return parts, sum(map(len, parts))


def _matches(words: str, parts: list[str], letters: int) -> bool:
    """Whether words fit a pattern whose `*` stand for any letters. One pass, no backtracking."""
    if len(parts) == 1:
        return words == parts[0]
    if len(words) < letters:
        return False
    first, *inner, last = parts
    place, end = len(first), len(words) - len(last)
    if not words.startswith(first) or not words.endswith(last):
        return False
    for part in inner:
        place = words.find(part, place, end)
        if place < 0:
            return False
        place += len(part)
    return True


def _join(tags: list[str]) -> str:
    """The tags joined with their own punctuation; a tag without any gets a comma."""
    pieces = tags[:1]
    for before, tag in zip(tags, tags[1:], strict=False):
        if words_of(before) == before:
            pieces.append("，" if is_chinese(before[-1]) and is_chinese(tag[0]) else ",")
        pieces.append(tag if pieces[-1][-1] in FULL_WIDTH else f" {tag}")
    return "".join(pieces).rstrip(COMMAS + " ")


_CASES = {
    Case.LOWER: str.lower,
    Case.UPPER: str.upper,
    Case.SENTENCE: lambda text: text[:1].upper() + text[1:].lower(),
}
