"""One change to the descriptions of many pairs: replace, add or remove text."""

from __future__ import annotations

import time
from dataclasses import dataclass

from ..language import say
from .captioner import CaptionError
from .edit import Edits, edit_caption, split_tags, words_of

KINDS = ("replace", "add", "remove", "untag")
LONGEST_TEXT = 20_000  # letters of a caption
LONGEST_WORK = 30.0  # seconds for all captions together


@dataclass(frozen=True)
class Bulk:
    """`replace` replaces `text` by `by`, `add` puts `text` at the beginning or the end, `remove`
    removes it wherever it is a whole word, `untag` only where it is a whole tag.
    """

    kind: str
    text: str
    by: str = ""
    regex: bool = False
    at_end: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS or not self.text.strip():
            raise CaptionError(say("Write the words to look for."))

    def edits(self) -> Edits:
        if self.kind == "replace":
            return Edits(find=self.text, replace=self.by, regex=self.regex)
        if self.kind == "add":
            return Edits(suffix=self.text) if self.at_end else Edits(prefix=self.text)
        if self.kind == "remove":
            return Edits(remove_phrases=self.text)
        return Edits(remove_tags=self.text)


def changed_all(descriptions: dict[int, str], bulk: Bulk) -> dict[int, str]:
    """The descriptions that change, by number.

    CaptionError for an invalid expression, or one that takes too long.
    """
    edits, changed = bulk.edits(), {}
    end = time.monotonic() + LONGEST_WORK
    for number, text in descriptions.items():
        if bulk.kind == "add" and has_tag(text, bulk.text):
            continue
        new = " ".join(edit_caption(text, str(number), edits).split())
        if len(new) > LONGEST_TEXT:
            raise CaptionError(
                say("A caption would have more than {most} letters.", most=LONGEST_TEXT)
            )
        if new != text:
            changed[number] = new
        if time.monotonic() > end:
            raise CaptionError(
                say("This search takes too long. Write it more simply, or choose fewer pairs.")
            )
    return changed


def has_tag(text: str, tag: str) -> bool:
    wanted = words_of(tag).lower()
    return any(words_of(each).lower() == wanted for each in split_tags(text))
