"""The rows of a table file, uninterpreted: CSV, TSV, JSON Lines, JSON."""

import csv
import io
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..language import say
from ..values import read_json
from .pair import DatasetError
from .text import read_utf8

TABLE_NAMES = ("metadata.jsonl", "metadata.csv", "metadata.tsv")
TABLE_SUFFIXES = (".jsonl", ".json", ".csv", ".tsv")

Row = Mapping[str, Any]


def read_rows(path: Path) -> list[tuple[int, Row]]:
    """Every row that is not empty, with its line. Raises DatasetError naming line and remedy."""
    text = read_utf8(path)
    if path.suffix.lower() in (".jsonl", ".json"):
        return list(_json_rows(text, path))
    return list(_csv_rows(text, path))


def delimiter_of(text: str) -> tuple[str, str]:
    """The delimiter of a CSV text, and the text without Excel's first line `sep=;`."""
    declared = re.match(r"\s*sep=(.)\r?\n", text, re.I)
    if declared:
        return declared[1], text[declared.end() :]
    header = text.lstrip("\r\n").partition("\n")[0]
    return max(",;\t", key=header.count), text


def _json_rows(text: str, path: Path) -> Iterator[tuple[int, Row]]:
    """One object a line; or the whole file is one list of objects, or objects by file name."""
    try:
        content = read_json(text)
    except ValueError:
        yield from _json_lines(text, path)
        return
    if isinstance(content, dict):
        files = all(isinstance(row, dict) and re.search(r"[./\\]", n) for n, row in content.items())
        named = [{"file_name": name, **row} for name, row in content.items()] if files else []
        content = named or [content]
    if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
        raise DatasetError(
            say(
                "{path}, line {line} is not an object {{“control”: …}}. "
                "Correct the line, or remove it.",
                path=path,
                line=1,
            )
        )
    yield from enumerate(content, 1)


def _json_lines(text: str, path: Path) -> Iterator[tuple[int, Row]]:
    for line, content in enumerate(text.split("\n"), 1):
        if not content.strip():
            continue
        try:
            row = read_json(content)
        except ValueError as error:
            raise DatasetError(
                say(
                    "{path}, line {line} is not JSON: {error}. Correct the line, or remove it.",
                    path=path,
                    line=line,
                    error=error,
                )
            ) from None
        if not isinstance(row, dict):
            raise DatasetError(
                say(
                    "{path}, line {line} is not an object {{“control”: …}}. "
                    "Correct the line, or remove it.",
                    path=path,
                    line=line,
                )
            )
        yield line, row


def _csv_rows(text: str, path: Path) -> Iterator[tuple[int, Row]]:
    delimiter, table = delimiter_of(text)
    skipped = text[: len(text) - len(table)].count("\n")
    reader = csv.DictReader(io.StringIO(table, newline=""), delimiter=delimiter)
    try:
        for row in reader:
            line = reader.line_num + skipped
            if None in row:
                raise DatasetError(
                    say(
                        "{path}, line {line} has more fields than the header. Put text that "
                        "contains the delimiter in quotation marks.",
                        path=path,
                        line=line,
                    )
                )
            if any(row.values()):
                yield line, row
    except csv.Error as error:
        raise DatasetError(
            say(
                "{path}, line {line} is not CSV: {error}. "
                "Correct the line, or save the table again.",
                path=path,
                line=reader.line_num + skipped,
                error=error,
            )
        ) from None
