"""Counts the tags and words of captions: those in every caption bind to the LoRA."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from PIL import Image, ImageDraw

from ..dataset.pair import PairedDataset
from ..dataset.sheet import FAINT, INK, PAPER, draw_label
from ..dataset.text import listed
from ..language import say
from .compose import word_spans
from .edit import split_tags, words_of

_COMMON_WORDS = frozenset(
    "a an and are as at be by for from has in into is it its of on or that the this to with".split()
)
_BINDS, _SOME, _RARE = "#b5542a", "#3f789e", "#a9a9a4"
_WIDTH, _ROW, _NAME = 900, 26, 330


@dataclass(frozen=True)
class Frequency:
    """A tag or word, and how many of the captions have it."""

    text: str
    count: int


@dataclass(frozen=True)
class Stats:
    """Frequencies, commonest first, over the captions that are not empty."""

    total: int
    tags: tuple[Frequency, ...]
    words: tuple[Frequency, ...]
    missing: tuple[str, ...]
    without_trigger: tuple[str, ...]
    lengths: dict[str, int]

    @property
    def captioned(self) -> int:
        return self.total - len(self.missing)

    def in_every(self, entries: Iterable[Frequency]) -> list[str]:
        return [entry.text for entry in entries if entry.count == self.captioned > 1]

    def rare(self, entries: Iterable[Frequency]) -> list[str]:
        return [entry.text for entry in entries if entry.count == 1 < self.captioned]


def caption_stats(pairs: PairedDataset, trigger: str = "") -> Stats:
    """Case and repetitions within one caption do not count."""
    texts = {pair.stem: pair.caption for pair in pairs if pair.caption.strip()}
    wanted = words_of(trigger).lower()
    return Stats(
        total=len(pairs),
        tags=_frequencies({words_of(tag).lower() for tag in split_tags(t)} for t in texts.values()),
        words=_frequencies(_words(text) for text in texts.values()),
        missing=tuple(pair.stem for pair in pairs if pair.stem not in texts),
        without_trigger=tuple(s for s, t in texts.items() if wanted not in t.lower()),
        lengths={stem: len(word_spans(text)) for stem, text in texts.items()},
    )


def table(stats: Stats, entries: tuple[Frequency, ...], top: int) -> str:
    """A summary in sentences, then a Markdown table of the commonest entries."""
    lines = [say("{count} of {all} pairs have a caption", count=stats.captioned, all=stats.total)]
    if stats.missing:
        lines.append(say("⚠ Without: {names}", names=listed(list(stats.missing))))
    if stats.without_trigger:
        names = listed(list(stats.without_trigger))
        lines.append(say("⚠ Without the trigger: {names}", names=names))
    if stats.lengths:
        words = stats.lengths.values()
        lines.append(
            say(
                "Words: {least} to {most}, median {median:g}",
                least=min(words),
                most=max(words),
                median=median(words),
            )
        )
    shared = _listed(stats.in_every(entries))
    lines.append(say("In every caption (binds to the LoRA): {entries}", entries=shared))
    rare = stats.rare(entries)
    lines.append(
        say("In one caption only ({count}): {entries}", count=len(rare), entries=_listed(rare[:20]))
    )
    lines += ["", f"| | {say('captions')} | {say('share')} |", "| --- | ---: | ---: |"]
    lines += [f"| {e.text} | {e.count} | {e.count / stats.captioned:.0%} |" for e in entries[:top]]
    return "\n".join(lines)


def chart(stats: Stats, entries: tuple[Frequency, ...], top: int) -> Image.Image:
    """A bar for each of the commonest entries; its colour shows whether it binds."""
    shown = entries[:top]
    image = Image.new("RGB", (_WIDTH, _ROW * (len(shown) + 3)), PAPER)
    pen = ImageDraw.Draw(image)
    legend = [
        (_BINDS, say("in every caption: binds")),
        (_SOME, say("in some")),
        (_RARE, say("in one only")),
    ]
    for place, (colour, text) in enumerate(legend):
        left = 16 + place * 280
        pen.rectangle((left, 16, left + 14, 30), fill=colour)
        draw_label(pen, (left + 22, 13), text, 16, 250)
    for row, entry in enumerate(shown, 2):
        top_edge = row * _ROW
        length = round((_WIDTH - _NAME - 90) * entry.count / max(stats.captioned, 1))
        colour = _BINDS if entry.count == stats.captioned else _SOME if entry.count > 1 else _RARE
        draw_label(pen, (16, top_edge + 2), entry.text, 16, _NAME - 30, INK)
        pen.rectangle((_NAME, top_edge + 4, _NAME + length, top_edge + _ROW - 5), fill=colour)
        count = f"{entry.count}"
        draw_label(pen, (_NAME + length + 8, top_edge + 2), count, 16, 80, FAINT)
    return image


def _frequencies(sets: Iterable[set[str]]) -> tuple[Frequency, ...]:
    counts = Counter(entry for entries in sets for entry in entries)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return tuple(Frequency(text, count) for text, count in ordered)


def _words(text: str) -> set[str]:
    """Words in small letters without the commonest; a run of Chinese letters is one word."""
    found = re.findall(r"[\u3040-\u9fff]+|[^\W\d_\u3040-\u9fff][\w'-]*", text.lower())
    return set(found) - _COMMON_WORDS


def _listed(texts: list[str]) -> str:
    return ", ".join(texts) or say("nothing")
