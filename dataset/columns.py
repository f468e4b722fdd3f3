"""Which column of a table holds what: control, target, mask, caption, split, repeats."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ..values import read_json
from .image import PICTURE_SUFFIXES
from .names import CAPTION, CONTROL, MASK, PICTURE, REPEATS, SPLIT, TARGET, caption_rank, role_of
from .rows import Row

Rows = Sequence[tuple[int, Row]]


@dataclass(frozen=True)
class Columns:
    """The columns of a table by what they hold; `unread` are those without a meaning here.

    `unclear` are the unread columns that name pictures, and so must have been meant for something.
    """

    controls: tuple[str, ...]
    target: str | None
    mask: str | None
    captions: tuple[str, ...]
    split: str | None
    repeats: str | None
    unread: tuple[str, ...]
    unclear: tuple[str, ...]


def find_columns(rows: Rows) -> Columns:
    """What each column holds, by its name or, if that is ambiguous, by the other columns."""
    names = list(dict.fromkeys(name for _, row in rows for name, cell in row.items() if cell))
    roles = {name: role_of(name) for name in names}
    pictured = {name for name in names if any(_names_picture(row.get(name)) for _, row in rows)}

    def columns_of(wanted: str) -> list[str]:
        chosen = sorted((n for n in names if roles[n][0] == wanted), key=lambda n: roles[n][1])
        return [name for name in chosen if name in pictured] or chosen

    controls, targets, neutral = map(columns_of, (CONTROL, TARGET, PICTURE))
    if targets and not controls:  # `image, edited_image`: what says nothing is the other side
        controls = neutral
    targets = targets or neutral
    target, mask, split, repeats = (
        next(iter(chosen), None)
        for chosen in (targets, columns_of(MASK), columns_of(SPLIT), columns_of(REPEATS))
    )
    captions = sorted(columns_of(CAPTION), key=caption_rank)
    captions = list(dict.fromkeys(c for _, row in rows for c in _first_filled(row, captions)))
    used = {*controls, target, mask, *captions, split, repeats}
    unread = [name for name in names if name not in used]
    unclear = [n for n in unread if n in pictured and not _names_the_same(rows, n, used)]
    return Columns(
        tuple(controls),
        target,
        mask,
        tuple(captions),
        split,
        repeats,
        tuple(unread),
        tuple(unclear),
    )


def cell_of(row: Row, column: str | None) -> Any:
    """A row's cell; None without such a column."""
    return None if column is None else row.get(column)


def pictures_in(cell: Any) -> list[str]:
    """The files that a cell names: one, a list, or Hugging Face's {"path": …}."""
    if isinstance(cell, str) and cell.lstrip().startswith("["):
        try:
            cell = read_json(cell)
        except ValueError:
            return [cell]
    if isinstance(cell, list):
        return [name for item in cell for name in pictures_in(item)]
    if isinstance(cell, dict):
        return pictures_in(cell.get("path"))
    return [] if cell in (None, "") else [str(cell)]


def _names_picture(cell: Any) -> bool:
    ends = (os.path.splitext(name.strip())[1].lower() for name in pictures_in(cell))
    return any(end in PICTURE_SUFFIXES for end in ends)


def _first_filled(row: Row, columns: Iterable[str]) -> list[str]:
    return [column for column in columns if row.get(column)][:1]


def _names_the_same(rows: Rows, column: str, used: Iterable[str | None]) -> bool:
    """Whether every picture of a column is named by a column that is read, too."""
    return all(
        any(row.get(column) == cell_of(row, other) for other in used)
        for _, row in rows
        if row.get(column)
    )
