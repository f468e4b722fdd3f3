"""What the captions of a dataset have in common: what will bind to the LoRA, and what is rare."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from PIL import Image, ImageDraw

from ..dataset.pair import PairedDataset
from ..dataset.sheet import FAINT, INK, PAPER, draw_label
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
    """The findings in sentences, then a Markdown table of the commonest entries."""
    lines = [f"{stats.captioned} of {stats.total} pairs have a caption"]
    if stats.missing:
        lines.append(f"⚠ Without: {', '.join(stats.missing)}")
    if stats.without_trigger:
        lines.append(f"⚠ Without the trigger: {', '.join(stats.without_trigger)}")
    if stats.lengths:
        words = stats.lengths.values()
        lines.append(f"Words: {min(words)} to {max(words)}, median {median(words):g}")
    lines.append(f"In every caption (binds to the LoRA): {_listed(stats.in_every(entries))}")
    rare = stats.rare(entries)
    lines.append(f"In one caption only ({len(rare)}): {_listed(rare[:20])}")
    lines += ["", "| | captions | share |", "| --- | ---: | ---: |"]
    lines += [f"| {e.text} | {e.count} | {e.count / stats.captioned:.0%} |" for e in entries[:top]]
    return "\n".join(lines)


def chart(stats: Stats, entries: tuple[Frequency, ...], top: int) -> Image.Image:
    """A bar for each of the commonest entries; its colour says what training makes of it."""
    shown = entries[:top]
    image = Image.new("RGB", (_WIDTH, _ROW * (len(shown) + 3)), PAPER)
    pen = ImageDraw.Draw(image)
    legend = [(_BINDS, "in every caption: binds"), (_SOME, "in some"), (_RARE, "in one only")]
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
    return ", ".join(texts) or "nothing"
