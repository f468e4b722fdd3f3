"""Writing pairs into the tables of their folder, which keep all their other content."""

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .access import readable
from .columns import Columns, Rows, cell_of, find_columns, pictures_in
from .files import resolve
from .pair import Pair
from .records import json_lines
from .rows import delimiter_of, read_rows
from .table import caption_key
from .text import caption_of, read_utf8

Written = dict[str, Any]


def table_content(path: Path, pairs: Sequence[Pair]) -> bytes:
    """The new content of `metadata.csv` or `.jsonl`, with these pairs added or updated.

    Rows of other pictures and columns of a meaning of their own stay as they are. Raises
    DatasetError if the table that is there cannot be read.
    """
    there = os.path.isfile(readable(path))
    rows = merged(read_rows(path) if there else [], pairs, path.parent)
    if path.suffix == ".jsonl":
        return json_lines(rows)
    text = read_utf8(path) if there else ","
    mark = b"\xef\xbb\xbf" if there and path.read_bytes().startswith(b"\xef\xbb\xbf") else b""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, columns, delimiter=delimiter_of(text)[0])
    writer.writeheader()
    writer.writerows(rows)
    return mark + table.getvalue().encode("utf-8", "surrogatepass")


def merged(rows: Rows, pairs: Sequence[Pair], folder: Path) -> list[Written]:
    """The rows, with those of `pairs` brought up to date or added."""
    columns = find_columns(rows)
    result: list[Written] = [dict(row) for _, row in rows]
    by_target: dict[str, list[int]] = {}
    for place, row in enumerate(result):
        for name in pictures_in(cell_of(row, columns.target))[:1]:
            by_target.setdefault(caption_key(resolve(name, folder)), []).append(place)
    for pair in pairs:
        places = by_target.get(caption_key(pair.target), [])
        same = [place for place in places if _names_controls(result[place], columns, pair, folder)]
        if same:
            places.remove(same[0])
            result[same[0]] |= _cells(pair, columns, folder, result[same[0]])
        else:
            result.append(_cells(pair, columns, folder, {}))
    return result


def _names_controls(row: Written, columns: Columns, pair: Pair, folder: Path) -> bool:
    """Whether a row of the pair's target names its controls, or none."""
    names = [name for column in columns.controls for name in pictures_in(row.get(column))]
    keys = {caption_key(resolve(name, folder)) for name in names}
    return not keys or keys >= {caption_key(control) for control in pair.controls}


def _cells(pair: Pair, columns: Columns, folder: Path, row: Mapping[str, Any]) -> Written:
    """A pair's cells, under the table's existing column names."""
    cells: Written = {
        columns.target or "file_name": _relative(pair.target, folder),
        (*columns.captions, "text")[0]: caption_of(pair.caption),
        columns.split or "split": pair.split,
    }
    count = len(pair.controls)
    names = ["control"] if count == 1 else [f"control_{i + 1}" for i in range(count)]
    names = list(columns.controls[:count]) if len(columns.controls) >= count else names
    if not any(row.get(column) for column in columns.controls):
        paths = (_relative(control, folder) for control in pair.controls)
        cells |= dict(zip(names, paths, strict=True))
    if pair.mask and not cell_of(row, columns.mask):
        cells[columns.mask or "mask"] = _relative(pair.mask, folder)
    cells[columns.repeats or "repeats"] = str(pair.repeats)
    if columns.target and row.get(columns.target):
        cells[columns.target] = row[columns.target]
    return cells


def _relative(path: Path, folder: Path) -> str:
    try:
        return os.path.relpath(path, folder).replace(os.sep, "/")
    except ValueError:  # another drive on Windows
        return path.as_posix()
