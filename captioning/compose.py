"""Joins trigger, instruction, description and suffix into a caption, and takes one apart."""

import re

from ..language import say

FIELDS = ("trigger", "instruction", "description", "suffix", "stem")
DEFAULT_TEMPLATE = "{trigger} {instruction} {description} {suffix}"

COMMAS = ",，、"
STOPS = ".!?;:…。！？；："
FULL_WIDTH = "，、。！？；：…"
_MARKS_AND_SPACE = COMMAS + STOPS + " \t\r\n\u3000"
_MARK = "\ue000"  # placeholder for the description: a private Unicode letter, so in no caption
_CJK = re.compile(r"[\u2e80-\u2fdf\u3040-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]")


class TemplateError(ValueError):
    """A caption template names a field that does not exist."""


def compose_caption(
    trigger: str,
    instruction: str,
    description: str,
    suffix: str,
    template: str | None = None,
    stem: str = "",
) -> str:
    """One line of text with exactly one separator between the parts that are not empty.

    A part that ends in a mark of its own (full stop, colon, Chinese or not) keeps it as the
    separator; otherwise a comma is set, a Chinese one between two Chinese parts. In `template`,
    words are kept as written, and marks between two fields replace the comma.
    """
    if (template or "").count("{description}") > 1:
        raise TemplateError(
            say("The caption template {template} names the description twice.", template=template)
        )
    values = dict(zip(FIELDS, (trigger, instruction, description, suffix, stem), strict=True))
    text, gap, after_field = "", "", True
    for index, piece in enumerate(re.split(r"\{([^{}]*)\}", template or DEFAULT_TEMPLATE)):
        is_field = index % 2 == 1
        if is_field:
            piece = _clean(values, piece, template or DEFAULT_TEMPLATE)
        elif piece.strip(_MARKS_AND_SPACE):
            words = piece.lstrip(_MARKS_AND_SPACE)
            gap += piece[: len(piece) - len(words)]
            piece = words
        else:
            gap += piece
            continue
        if not piece:
            continue
        text = _join(text, gap, piece, between_fields=is_field and after_field) if text else piece
        gap, after_field = "", is_field
    return " ".join(text.split()).rstrip(COMMAS + " ")


def strip_parts(
    caption: str,
    trigger: str,
    instruction: str,
    suffix: str,
    template: str | None = None,
    stem: str = "",
) -> str:
    """The description inside a caption that `compose_caption` made; other text is returned as is.

    Makes composing idempotent: a caption read back from disk does not get its instruction twice.
    """
    text = " ".join(caption.split())
    parts = trigger, instruction
    before, mark, after = compose_caption(*parts, _MARK, suffix, template, stem).partition(_MARK)
    before, after = before.rstrip(_MARKS_AND_SPACE), after.strip(_MARKS_AND_SPACE)
    inner = text.removeprefix(before) if mark and text.startswith(before) else ""
    ended = inner.rstrip(_MARKS_AND_SPACE)
    if inner and ended.endswith(after):
        inner = ended.removesuffix(after) if after else inner
        inner = inner.lstrip(_MARKS_AND_SPACE).rstrip()
        for found in (
            inner.rstrip(COMMAS + " "),
            inner,
        ):  # the comma may be the joint's, or its own
            if compose_caption(*parts, found, suffix, template, stem) == text:
                return found
    if compose_caption(*parts, "", suffix, template, stem) == text:
        return ""
    return _without_parts(text, trigger, instruction, suffix)


def _without_parts(text: str, trigger: str, instruction: str, suffix: str) -> str:
    """The text without the parts at its beginning and end."""
    for part in (trigger, instruction):
        words = " ".join(part.split()).strip(_MARKS_AND_SPACE)
        if words and text.startswith(words) and _ends_a_word(words, text[len(words) :]):
            text = text[len(words) :].lstrip(_MARKS_AND_SPACE)
    words = " ".join(suffix.split()).strip(_MARKS_AND_SPACE)
    if words and text.rstrip(_MARKS_AND_SPACE).endswith(words):
        rest = text.rstrip(_MARKS_AND_SPACE)[: -len(words)]
        if not rest or rest[-1] in _MARKS_AND_SPACE:
            text = rest.rstrip(COMMAS + " ")
    return text


def limit_length(text: str, words: int) -> str:
    """At most `words` words (a Chinese character counts as one), cut after a clause if possible.

    0 means no limit. The cut falls on the last comma or stop in the second half of what is
    allowed, otherwise after the last whole word.
    """
    found = list(word_spans(text))
    if not words or len(found) <= words:
        return text
    cut = text[: found[words - 1][1]]
    half = found[(words - 1) // 2][1]
    clause = max(cut.rfind(mark) for mark in COMMAS + STOPS)
    return (cut[:clause] if clause >= half else cut).rstrip(COMMAS + " ")


def is_chinese(letter: str) -> bool:
    """Chinese, Japanese or Korean: written without spaces."""
    return _CJK.match(letter) is not None


def word_spans(text: str) -> list[tuple[int, int]]:
    """Start and end of every word; each Chinese, Japanese or Korean character is one word."""
    pattern = rf"{_CJK.pattern}|(?:(?!{_CJK.pattern})[^\s{re.escape(COMMAS + STOPS)}])+"
    return [match.span() for match in re.finditer(pattern, text)]


def _clean(values: dict[str, str], field: str, template: str) -> str:
    if field not in values:
        raise TemplateError(
            say(
                "The caption template {template} has the unknown field {field}. Use {known}.",
                template=template,
                field="{" + field + "}",
                known=say(", ").join("{" + name + "}" for name in FIELDS),
            )
        )
    return " ".join(values[field].split()).lstrip(_MARKS_AND_SPACE)


def _join(left: str, gap: str, right: str, between_fields: bool) -> str:
    """`left` and `right` with one separator: left's own mark, else the template's, else a comma."""
    words = left.rstrip(_MARKS_AND_SPACE)
    mark = _strongest(left[len(words) :]) or _strongest(gap)
    if not mark and between_fields:
        mark = "，" if is_chinese(words[-1]) and is_chinese(right[0]) else ","
    if not mark:
        return left.rstrip() + (" " if gap or left[-1:].isspace() else "") + right
    return words + mark + ("" if mark in FULL_WIDTH else " ") + right


def _strongest(marks: str) -> str:
    stops = [mark for mark in marks if mark in STOPS]
    return (stops or [mark for mark in marks if mark in COMMAS] or [""])[0]


def _ends_a_word(words: str, rest: str) -> bool:
    return not rest or rest[0] in _MARKS_AND_SPACE or is_chinese(words[-1])
