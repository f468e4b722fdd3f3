"""Labelled grids of pictures: a page is one image, large grids are divided into several pages."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from PIL import Image, ImageDraw, ImageOps

from ...dataset.sheet import draw_label, label_font, wrapped
from ...files import storing, write_picture
from ...language import say

PAPER, INK, FAINT, GAP_FILL = "#ffffff", "#1c1e22", "#6b7178", "#eceef0"
LONGEST_CELL, USUAL_CELL, SHORTEST_CELL = 512, 320, 192
NARROWEST_LABELS = 240
PAGE_WIDTH, PAGE_HEIGHT = 4096, 4096
MARGIN, SPACING = 24, 8


@dataclass(frozen=True)
class Column:
    """A column's two label lines; columns with the same `group` share one heading."""

    group: str
    label: str = ""
    pinned: bool = False  # repeated on every page: control, base model


@dataclass(frozen=True)
class Row:
    """A row's name and, smaller beneath it, its details such as seed and prompt."""

    label: str
    details: tuple[str, ...] = ()


@dataclass(frozen=True)
class Grid:
    """`cells[row][column]` are pictures, or None where there is nothing to show."""

    title: str
    legend: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    cells: tuple[tuple[Image.Image | None, ...], ...]

    def pages(self) -> list[Image.Image]:
        """The grid as pictures of one size, none larger than PAGE_WIDTH × PAGE_HEIGHT."""
        sheet = _Sheet(self)
        sheets = [
            sheet.draw(rows, columns, page)
            for page, (rows, columns) in enumerate(sheet.breaks(), start=1)
        ]
        width = max(page.width for page in sheets)
        height = max(page.height for page in sheets)
        padded = []
        for page in sheets:
            canvas = Image.new("RGB", (width, height), PAPER)
            canvas.paste(page)
            padded.append(canvas)
        return padded


def save_pages(pages: Sequence[Image.Image], path: Path) -> list[Path]:
    """Write the pages as `path`'s suffix says; a PDF holds all, other formats number the files."""
    with storing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".pdf":
        more = {"save_all": True, "append_images": list(pages[1:])}
        write_picture(path, pages[0], **more, resolution=150)
        return [path]
    paths = []
    for number, page in enumerate(pages, start=1):
        numbered = path if len(pages) == 1 else path.with_stem(f"{path.stem}-{number}")
        write_picture(numbered, page, quality=92)
        paths.append(numbered)
    return paths


class _Sheet:
    """The dimensions that all pages of one grid share."""

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.cell = self._cell_size()
        across = (self.cell[0] + SPACING) * len(grid.columns)
        # larger on a wide page, which is looked at from further away
        self.heading = max(18, min(max(self.cell) // 7, min(across, PAGE_WIDTH) // 90))
        self.text = max(14, round(self.heading * 0.75))
        self.row_labels = max(NARROWEST_LABELS, self.cell[0] * 3 // 4)
        self.head = MARGIN + round(self.heading * 1.6) + round(self.text * 1.9)
        self.column_labels = round(self.heading * 1.5) + round(self.text * 1.6)

    def _cell_size(self) -> tuple[int, int]:
        pictures = [cell for row in self.grid.cells for cell in row if cell is not None]
        width = max(picture.width for picture in pictures)
        height = max(picture.height for picture in pictures)
        count = len(self.grid.columns)
        room = PAGE_WIDTH - 2 * MARGIN
        widest = min((room - NARROWEST_LABELS) / count, room / (count + 0.75)) - SPACING
        longest = min(LONGEST_CELL, max(USUAL_CELL, width, height), widest * max(1, height / width))
        scale = max(SHORTEST_CELL, longest) / max(width, height)
        return int(width * scale), int(height * scale)

    def breaks(self) -> list[tuple[list[int], list[int]]]:
        """Which rows and columns each page shows; pinned columns come on every page."""
        width, height = self.cell
        pinned = [index for index, column in enumerate(self.grid.columns) if column.pinned]
        fitting = (PAGE_WIDTH - 2 * MARGIN - self.row_labels) // (width + SPACING)
        across = max(1, fitting - len(pinned))
        down = (PAGE_HEIGHT - self.head - self.column_labels - MARGIN) // (height + SPACING)
        row_pages = _chunks(list(range(len(self.grid.rows))), max(1, down))
        column_pages = self._column_pages(across)
        return [(rows, sorted(pinned + some)) for rows in row_pages for some in column_pages]

    def _column_pages(self, across: int) -> list[list[int]]:
        """Columns in pieces of at most `across`; only a group wider than that is divided."""
        loose = [
            (index, column) for index, column in enumerate(self.grid.columns) if not column.pinned
        ]
        groups = [
            [index for index, _ in group] for _, group in groupby(loose, key=lambda c: c[1].group)
        ]
        pages: list[list[int]] = [[]]
        for piece in (piece for group in groups for piece in _chunks(group, across)):
            if len(pages[-1]) + len(piece) > across:
                pages.append([])
            pages[-1] += piece
        return pages

    def draw(self, rows: list[int], columns: list[int], page: int) -> Image.Image:
        width, height = self.cell
        left = MARGIN + self.row_labels
        size = (
            left + len(columns) * (width + SPACING) - SPACING + MARGIN,
            self.head + self.column_labels + len(rows) * (height + SPACING) - SPACING + MARGIN,
        )
        sheet = Image.new("RGB", size, PAPER)
        pen = ImageDraw.Draw(sheet)
        total = len(self.breaks())
        title = self.grid.title
        if total > 1:
            title = say("{title}, page {page} of {pages}", title=title, page=page, pages=total)
        draw_label(pen, (MARGIN, MARGIN), title, self.heading, size[0] - 2 * MARGIN, INK)
        under = MARGIN + round(self.heading * 1.6)
        draw_label(pen, (MARGIN, under), self.grid.legend, self.text, size[0] - 2 * MARGIN, FAINT)
        self._draw_column_labels(pen, columns, left)
        for place, row in enumerate(rows):
            top = self.head + self.column_labels + place * (height + SPACING)
            self._draw_row_label(pen, self.grid.rows[row], top)
            for across, column in enumerate(columns):
                cell = self.grid.cells[row][column]
                self._draw_cell(sheet, cell, left + across * (width + SPACING), top)
        return sheet

    def _draw_column_labels(self, pen: ImageDraw.ImageDraw, columns: list[int], left: int) -> None:
        width = self.cell[0]
        top = self.head
        start = 0
        while start < len(columns):
            column = self.grid.columns[columns[start]]
            end = start + 1
            while end < len(columns) and self.grid.columns[columns[end]].group == column.group:
                end += 1
            x = left + start * (width + SPACING)
            span = (end - start) * (width + SPACING) - SPACING
            draw_label(pen, (x, top), column.group, self.heading, span, INK)
            if end - start > 1:
                rule = top + round(self.heading * 1.38)
                pen.line((x, rule, x + span, rule), fill=FAINT)
            for place in range(start, end):
                label = self.grid.columns[columns[place]].label
                at = (left + place * (width + SPACING), top + round(self.heading * 1.5))
                draw_label(pen, at, label, self.text, width, FAINT)
            start = end

    def _draw_row_label(self, pen: ImageDraw.ImageDraw, row: Row, top: int) -> None:
        room, bottom = self.row_labels - 2 * SPACING, top + self.cell[1]
        small = max(13, round(self.text * 0.85))
        texts = [(row.label, self.text, INK), *((text, small, FAINT) for text in row.details)]
        for text, size, ink in texts:
            font, pitch = label_font(text, size), round(size * 1.35)
            for line in wrapped(text, font, room, max(0, (bottom - top) // pitch)):
                pen.text((MARGIN, top), line, ink, font)
                top += pitch

    def _draw_cell(self, sheet: Image.Image, cell: Image.Image | None, left: int, top: int) -> None:
        if cell is None:
            sheet.paste(GAP_FILL, (left, top, left + self.cell[0], top + self.cell[1]))
            return
        # small pictures keep their pixels visible, large ones are resampled
        growing = cell.width < self.cell[0] and max(cell.size) <= 96
        method = Image.Resampling.BICUBIC if growing else Image.Resampling.LANCZOS
        shown = ImageOps.contain(cell, self.cell, method)
        at = (left + (self.cell[0] - shown.width) // 2, top + (self.cell[1] - shown.height) // 2)
        sheet.paste(shown, at)


def _chunks(values: list[int], size: int) -> list[list[int]]:
    """Even pieces of at most `size`: 9 rows on pages of 8 become 5 and 4."""
    pages = -(-len(values) // size)
    even = -(-len(values) // pages)
    return [values[start : start + even] for start in range(0, len(values), even)]
