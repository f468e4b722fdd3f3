"""Pairs from a table: metadata.csv, metadata.jsonl, musubi's jsonl, Hugging Face imagefolder."""

import csv
import io
import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from .access import names_a_file, readable
from .files import folded
from .match import Matching
from .pair import DatasetError, Pair
from .text import read_text

TABLE_NAMES = ("metadata.jsonl", "metadata.csv", "metadata.tsv")
TABLE_SUFFIXES = (".jsonl", ".csv", ".tsv")

CONTROL_COLUMNS = tuple(
    "control control_path control_image control_file_name conditioning_image conditioning source "
    "source_image input input_image original original_image before start".split()
)
TARGET_COLUMNS = tuple(
    "target target_path target_image target_file_name edited edited_image output output_image "
    "after end image image_path file_name".split()
)
MASK_COLUMNS = ("mask", "mask_path", "mask_image", "mask_file_name")
CAPTION_COLUMNS = tuple("caption text prompt edit_prompt instruction edit".split())
SPLITS = {"holdout": "holdout", "validation": "holdout", "val": "holdout", "test": "holdout"}

Row = Mapping[str, Any]


def read_table(path: Path, together: bool = False) -> Matching:
    """Pairs from a table's rows; paths in it are absolute or relative to the table's folder.

    Columns: control (several allowed: `control_1`, `control_2`, or a list), target, caption, and
    if present mask, repeats and split. Raises DatasetError naming lines and missing files.
    """
    pairs: list[Pair] = []
    missing: list[str] = []
    for line, row in _rows(path):
        controls = [path.parent / name for name in _controls(row)]
        target = path.parent / _target(row, path, line)
        masked = _first(row, MASK_COLUMNS)
        mask = path.parent / str(masked) if masked else None
        files = [*controls, target, *([mask] if mask else [])]
        missing += [f"{p} (line {line})" for p in files if not is_file(p)]
        caption = str(_first(row, CAPTION_COLUMNS) or "").strip()
        split = SPLITS.get(str(row.get("split") or "").lower(), "train")
        repeats = _repeats(row, path, line)
        if together or len(controls) <= 1:
            pairs.append(Pair(target.stem, tuple(controls), target, caption, split, repeats, mask))
        else:
            pairs += [
                Pair(f"{target.stem}_{i}", (control,), target, caption, split, repeats, mask)
                for i, control in enumerate(controls, 1)
            ]
    if missing:
        raise DatasetError(
            f"{len(missing)} files named in {path} do not exist: {', '.join(missing)}. "
            "Paths in a table are relative to the table's folder."
        )
    if not pairs:
        raise DatasetError(f"{path} has no rows.")
    return Matching(_named_apart(pairs), notes=(f"Read from the table {path.name}",))


def _rows(path: Path) -> Iterator[tuple[int, Row]]:
    try:
        text = read_text(path)
    except UnicodeDecodeError:
        raise DatasetError(
            f"{path} is not in UTF-8. In a spreadsheet, save it as “CSV UTF-8”."
        ) from None
    rows = _json_rows(text, path) if path.suffix.lower() == ".jsonl" else _csv_rows(text, path)
    for line, row in rows:
        yield line, {folded(str(name)).strip(): value for name, value in row.items()}


def _json_rows(text: str, path: Path) -> Iterator[tuple[int, Row]]:
    for line, content in enumerate(text.split("\n"), 1):
        if not content.strip():
            continue
        try:
            row = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise DatasetError(f"{path}, line {line} is not JSON: {error}.") from None
        if not isinstance(row, dict):
            raise DatasetError(f'{path}, line {line} is not an object {{"control": …}}.')
        yield line, row


def _csv_rows(text: str, path: Path) -> Iterator[tuple[int, Row]]:
    header = text.lstrip("\r\n").partition("\n")[0]
    delimiter = max(",;\t", key=header.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        for row in reader:
            if None in row:
                raise DatasetError(
                    f"{path}, line {reader.line_num} has more fields than the header. "
                    "Put captions that contain a comma in quotation marks."
                )
            if any(row.values()):
                yield reader.line_num, row
    except csv.Error as error:
        raise DatasetError(f"{path}, line {reader.line_num} is not CSV: {error}.") from None


def is_file(path: Path) -> bool:
    return names_a_file(path) and os.path.isfile(readable(path))


def _controls(row: Row) -> list[str]:
    """Every control a row names: one column, numbered columns in their order, or a list."""
    named: list[tuple[int, str]] = []
    for column, value in row.items():
        match = re.fullmatch(r"(.*?)_?([0-9]{0,3})", column, re.DOTALL)
        if match and match[1] in CONTROL_COLUMNS and value:
            values = value if isinstance(value, list) else [value]
            named += [(int(match[2] or 0), str(item)) for item in values]
    return [name for _, name in sorted(named, key=lambda entry: entry[0])]


def _target(row: Row, path: Path, line: int) -> str:
    target = _first(row, TARGET_COLUMNS)
    if not isinstance(target, str) or not target:
        raise DatasetError(
            f"{path}, line {line} names no target. Columns found: {', '.join(row)}; "
            f"a target column is called {', '.join(TARGET_COLUMNS[:3])}, … or file_name."
        )
    return target


def _repeats(row: Row, path: Path, line: int) -> int:
    text = str(row.get("repeats") or 1)
    if not text.isdecimal() or not 1 <= int(text) <= 1000:
        raise DatasetError(f"{path}, line {line}: repeats is {text}, not a number from 1 to 1000.")
    return int(text)


def _first(row: Row, columns: tuple[str, ...]) -> Any:
    return next((row[column] for column in columns if row.get(column)), None)


def _named_apart(pairs: list[Pair]) -> tuple[Pair, ...]:
    """Pairs whose targets share a file name are told apart by the folder it lies in."""
    uses = Counter(pair.stem for pair in pairs)
    return tuple(
        pair
        if uses[pair.stem] == 1
        else replace(pair, stem=f"{pair.target.parent.name}_{pair.stem}")
        for pair in pairs
    )
