"""Contact sheets: pictures in cards, with text in English and Chinese."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

CJK_FONTS = (
    "msyh.ttc",
    "simhei.ttf",
    "simsun.ttc",
    "PingFang.ttc",
    "Hiragino Sans GB.ttc",
    "STHeiti Medium.ttc",
    "Arial Unicode.ttf",
    "NotoSansCJK-Regular.ttc",
    "NotoSansSC-Regular.otf",
    "SourceHanSansCN-Regular.otf",
    "wqy-microhei.ttc",
    "wqy-zenhei.ttc",
    "DroidSansFallbackFull.ttf",
)
"""Fonts with Chinese letters that Windows, macOS and Linux come with; Pillow finds them by name."""

PAPER, INK, FAINT = "#f4f4f2", "#1c1c1c", "#6b6b6b"

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True)
class Card:
    """One entry of a sheet: pictures side by side, a title, words, and a coloured edge."""

    title: str
    pictures: tuple[Image.Image, ...]
    text: str = ""
    edge: str = ""


def label_font(text: str, size: int) -> Font:
    """A font of `size` pixels for `text`: DejaVu, or for Chinese one that the system has."""
    return _font(any(letter >= "⺀" for letter in text), size)


def draw_label(
    pen: ImageDraw.ImageDraw,
    at: tuple[int, int],
    text: str,
    size: int,
    room: int,
    ink: str = INK,
    lines: int = 1,
) -> None:
    """Text in up to `lines` lines of `room` pixels, the last one ended by … where it is cut."""
    font = label_font(text, size)
    pen.multiline_text(at, "\n".join(wrapped(text, font, room, lines)), ink, font, spacing=4)


def wrapped(text: str, font: Font, room: int, lines: int) -> list[str]:
    """`text` broken into at most `lines` lines: at spaces, or anywhere if a word is too long."""
    broken: list[str] = []
    rest = " ".join(text.split())
    while rest and len(broken) < lines:
        fits = _fitting(rest, font, room)
        if fits < len(rest) and len(broken) == lines - 1:
            cut = _fitting(rest[:fits], font, room, "…")
            return [*broken, rest[:cut].rstrip() + "…"]
        space = rest.rfind(" ", 0, fits + 1)
        cut = fits if fits == len(rest) or space <= 0 else space
        broken.append(rest[:cut].rstrip())
        rest = rest[cut:].lstrip()
    return broken


def contact_sheet(cards: Sequence[Card], side: int = 224, columns: int = 2) -> list[Image.Image]:
    """Pages of equal size, `columns` cards wide and at most 4 high; pictures fit into `side`²."""
    most = max(len(card.pictures) for card in cards)
    rows = min(4, -(-len(cards) // columns))
    gap, words = 16, 84
    width, height = most * (side + 4) - 4, side + words
    pages = []
    for start in range(0, len(cards), columns * rows):
        page = Image.new("RGB", (columns * (width + gap) + gap, rows * (height + gap) + gap), PAPER)
        pen = ImageDraw.Draw(page)
        for place, card in enumerate(cards[start : start + columns * rows]):
            left = gap + place % columns * (width + gap)
            top = gap + place // columns * (height + gap)
            if card.edge:
                frame = (left - 7, top - 7, left + width + 6, top + height + 6)
                pen.rectangle(frame, outline=card.edge, width=3)
            for i, picture in enumerate(card.pictures):
                shown = ImageOps.contain(picture, (side, side), Image.Resampling.LANCZOS)
                x = left + i * (side + 4) + (side - shown.width) // 2
                page.paste(shown, (x, top + (side - shown.height) // 2))
            draw_label(pen, (left, top + side + 4), card.title, 15, width, card.edge or INK)
            draw_label(pen, (left, top + side + 25), card.text, 13, width, FAINT, lines=3)
        pages.append(page)
    return pages


def _fitting(text: str, font: Font, room: int, end: str = "") -> int:
    """How many letters of `text`, and `end`, fit into `room` pixels; at least one."""

    def fits(letters: int) -> bool:
        return font.getlength(text[:letters] + end) <= room

    low, high = 1, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


@lru_cache(maxsize=64)
def _font(chinese: bool, size: int) -> Font:
    for name in CJK_FONTS if chinese else ():
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    matplotlib = find_spec("matplotlib")
    assert matplotlib and matplotlib.origin
    fonts = Path(matplotlib.origin).parent / "mpl-data" / "fonts" / "ttf"
    return ImageFont.truetype(str(fonts / "DejaVuSans.ttf"), size)
