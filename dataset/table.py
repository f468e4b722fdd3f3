"""Pairs from a table: metadata.csv, .jsonl, .json, as other trainers and data sets write them."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ..language import say
from .access import names_a_file, readable
from .columns import Columns, cell_of, find_columns, pictures_in
from .files import folded, resolve
from .pair import DatasetError, Matching, Pair, named_apart
from .rows import Row, read_rows
from .text import caption_of, listed

SPLITS = {"holdout": "holdout", "validation": "holdout", "val": "holdout", "test": "holdout"}
MOST_REPEATS = 1000


def read_table(path: Path, together: bool = False) -> Matching:
    """Pairs from a table's rows; paths in it are absolute or relative to the table's folder.

    With several controls a row is one pair for each, or with `together` one with all of them.
    Raises DatasetError naming columns, lines and missing files.
    """
    rows = read_rows(path)
    if not rows:
        raise DatasetError(say("{path} has no rows.", path=path))
    columns = find_columns(rows)
    if columns.target and columns.unclear:
        raise DatasetError(
            say(
                "{path}: the columns {columns} name pictures, but not of which side. Call them "
                "control, target or mask (several controls: control_1, control_2), or remove "
                "them.",
                path=path,
                columns=", ".join(map(str, columns.unclear)),
            )
        )
    pairs: list[Pair] = []
    missing: list[str] = []
    for line, row in rows:
        pair = _pair(row, columns, path, line)
        missing += [
            say("{path} (line {line})", path=file, line=line)
            for file in pair.files
            if not is_file(file)
        ]
        pairs += [pair] if together else _apart(pair, row, columns)
    if missing:
        raise DatasetError(
            say(
                "{count} files named in {path} do not exist: {names}. Paths in a table are "
                "relative to the table's folder.",
                count=len(missing),
                path=path,
                names=listed(missing),
            )
        )
    notes = [say("Read from the table {name}", name=path.name)]
    if columns.unread:
        unread = ", ".join(map(str, columns.unread))
        notes.append(say("{name}: columns not read: {columns}", name=path.name, columns=unread))
    return Matching(named_apart(pairs), path.parent, notes=tuple(notes), table=path)


def table_captions(path: Path) -> dict[str, str]:
    """The captions of a table by `caption_key` of their pictures."""
    rows = read_rows(path)
    columns = find_columns(rows)
    captions = {}
    for _, row in rows:
        for name in pictures_in(cell_of(row, columns.target))[:1]:
            if caption := ", ".join(_captions(row, columns)):
                captions[caption_key(_place(name, path.parent))] = caption
    return captions


def caption_key(picture: Path) -> str:
    """Equal for two ways to name one picture."""
    return folded(os.path.abspath(picture))


def is_file(path: Path) -> bool:
    return names_a_file(path) and os.path.isfile(readable(path))


def _place(name: str, folder: Path) -> Path:
    """Where a name in a table leads; what is no name at all leads nowhere."""
    return resolve(name, folder) if names_a_file(folder / name) else folder / name


def _pair(row: Row, columns: Columns, path: Path, line: int) -> Pair:
    controls = [name for column in columns.controls for name in pictures_in(row.get(column))]
    target = _place(_target(row, columns, path, line), path.parent)
    masks = pictures_in(cell_of(row, columns.mask))
    return Pair(
        target.stem,
        tuple(_place(name, path.parent) for name in controls),
        target,
        ", ".join(_captions(row, columns)),
        SPLITS.get(str(cell_of(row, columns.split) or "").strip().lower(), "train"),
        _repeats(row, columns, path, line),
        _place(masks[0], path.parent) if masks else None,
    )


def _apart(pair: Pair, row: Row, columns: Columns) -> Iterator[Pair]:
    """A pair for each control, with its own caption where the row has as many."""
    pairs = pair.one_per_control()
    captions = _captions(row, columns)
    if len(captions) != len(pairs):
        captions = [pair.caption] * len(pairs)
    for each, caption in zip(pairs, captions, strict=True):
        yield replace(each, caption=caption)


def _captions(row: Row, columns: Columns) -> list[str]:
    """What a row says: usually one text; a list of tags, or of captions, is several."""
    cells = [row.get(column) for column in columns.captions if row.get(column)]
    cell = cells[0] if cells else []
    return [caption_of(str(text)) for text in (cell if isinstance(cell, list) else [cell])]


def _target(row: Row, columns: Columns, path: Path, line: int) -> str:
    targets = pictures_in(cell_of(row, columns.target))
    if len(targets) != 1:
        raise DatasetError(
            say(
                "{path}, line {line} names no target. Columns found: {columns}; a target column is "
                "called target, edited_image, output, image, … or file_name.",
                path=path,
                line=line,
                columns=", ".join(map(str, row)),
            )
        )
    return targets[0]


def _repeats(row: Row, columns: Columns, path: Path, line: int) -> int:
    text = str(cell_of(row, columns.repeats) or 1)
    if not text.isdecimal() or not 1 <= int(text) <= MOST_REPEATS:
        raise DatasetError(
            say(
                "{path}, line {line}: repeats is {value}, not a number from 1 to {most}.",
                path=path,
                line=line,
                value=text,
                most=MOST_REPEATS,
            )
        )
    return int(text)
