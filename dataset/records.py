"""Pairs as a run records them: every field of every pair, one line per pair."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..language import say
from ..values import read_json
from .access import readable
from .pair import DatasetError, Pair, PairedDataset
from .text import listed, read_utf8


def pair_rows(pairs: PairedDataset) -> tuple[list[dict[str, Any]], str]:
    """The pairs as table rows, their paths relative to the folder that holds them all, and it.

    On Windows pictures may lie on several drives: then paths stay absolute, below no folder.
    """
    files = [str(path) for pair in pairs for path in pair.files]
    try:
        folder = os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in files])
    except ValueError:
        folder = ""

    def named(path: Path) -> str:
        below = os.path.relpath(path, folder) if folder else str(path)
        return below.replace(os.sep, "/")

    rows: list[dict[str, Any]] = []
    for pair in pairs:
        row: dict[str, Any] = {"stem": pair.stem, "target": named(pair.target)}
        row |= {"control": [named(path) for path in pair.controls], "caption": pair.caption}
        row |= {"split": pair.split, "repeats": pair.repeats}
        rows.append(row | ({"mask": named(pair.mask)} if pair.mask else {}))
    return rows, folder


def json_lines(rows: Iterable[dict[str, Any]]) -> bytes:
    """One row a line, in UTF-8."""
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    return lines.encode("utf-8", "surrogatepass")


def read_records(path: Path, folder: Path) -> tuple[Pair, ...]:
    """The pairs of a run's file. DatasetError names a damaged line or pictures that are missing."""
    if not os.path.isfile(readable(path)):
        raise DatasetError(say("There is no {path}, which `pairs` names.", path=path))
    pairs = []
    # Only \n ends a line: a caption may hold what other functions take for a line's end
    for number, line in enumerate(read_utf8(path).split("\n"), 1):
        if not line.strip("\0 \r\t"):
            continue
        try:
            pairs.append(recorded(read_json(line), folder))
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise DatasetError(
                say(
                    "{path}, line {line} is damaged ({error}). Copy the file from a backup, or "
                    "name the folders of the pictures below `pairs`.",
                    path=path,
                    line=number,
                    error=error,
                )
            ) from error
    files = [file for pair in pairs for file in pair.files]
    missing = [str(file) for file in files if not os.path.isfile(readable(file))]
    if missing:
        raise DatasetError(
            say(
                "{count} of {all} pictures are not here: {names}. Set `folder`, below `pairs`, to "
                "where the pictures lie on this machine.",
                count=len(missing),
                all=len(files),
                names=listed(missing, most=3),
            )
        )
    return tuple(pairs)


def recorded(row: dict[str, Any], folder: Path) -> Pair:
    """The pair of a row. Raises TypeError, LookupError or AttributeError for any other row."""
    texts = [row[name] for name in ("stem", "target", "caption", "split")]
    texts += [*row["control"], row.get("mask") or ""]
    number = row["repeats"]
    if isinstance(row["control"], str) or not all(isinstance(text, str) for text in texts):
        raise TypeError(say("a number where text is expected"))
    if type(number) is not int or number < 1:
        raise TypeError(
            say(
                "{name} is {value}; it must be {wanted}.",
                name="repeats", value=repr(number), wanted=say("a whole number"),
            )
        )  # fmt: skip
    mask = folder / row["mask"] if row.get("mask") else None
    controls = tuple(folder / name for name in row["control"])
    target = folder / row["target"]
    return Pair(row["stem"], controls, target, row["caption"], row["split"], number, mask)
