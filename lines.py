"""Files of one JSON object a line that only grow: logs, votes, scores, costs, descriptions."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar

from .files import parsed, storing, understanding, write_atomically
from .language import say

T = TypeVar("T")
BLOCK = 1 << 16  # bytes that `tail` reads at a time


class Lines(Generic[T]):
    """The entries of one file.

    A line that holds no entry is skipped and named in the log, wherever it stands: torn by a kill,
    full of NULs after a power cut, or spoilt by an editor. No other line is lost by it.

    `entry_of` makes an entry of a line's JSON object, and raises KeyError, TypeError or ValueError
    if it is none. Lines without the bytes `only` are passed over, unread.
    """

    def __init__(
        self, path: Path, entry_of: Callable[[dict[str, Any]], T], only: bytes = b""
    ) -> None:
        self.path, self.entry_of, self.only = path, entry_of, only
        self._place, self._number, self._last = 0, 0, b""  # where `added` stopped reading

    def append(self, entry: Mapping[str, Any], durable: bool = True) -> None:
        """Add a line, in one piece. `durable` ones are on the disk when this returns.

        What a killed process left of a line stays a line. Raises StorageError.
        """
        line = encoded(entry)
        with storing(self.path), self.path.open("a+b") as file:
            if file.seek(0, os.SEEK_END):
                file.seek(-1, os.SEEK_END)
                line = line if file.read(1) == b"\n" else b"\n" + line
            file.write(line)
            file.flush()
            if durable:
                os.fsync(file.fileno())

    def rewrite(self, entries: Iterable[Mapping[str, Any]]) -> None:
        """Replace all lines in one step. Raises StorageError."""
        write_atomically(self.path, b"".join(map(encoded, entries)))

    def __iter__(self) -> Iterator[T]:
        """Every entry, without holding them all; none where there is no file."""
        if self.path.exists():
            with self._opened() as file:
                yield from self._entries(enumerate(file, start=1))

    def read(self) -> list[T]:
        return list(self)

    def added(self) -> tuple[bool, Iterable[T]]:
        """What was added since the last call, and whether it replaces all that came before: the
        file was written anew or cut. Reads no more than that, while the entries are taken. A line
        being written waits."""
        if not self.path.exists():
            anew, self._place, self._number, self._last = self._place > 0, 0, 0, b""
            return anew, []
        with self._opened() as file:
            file.seek(self._place - len(self._last))
            anew = file.read(len(self._last)) != self._last
        if anew:
            self._place, self._number, self._last = 0, 0, b""
        return anew, self._new()

    def tail(self, count: int) -> list[T]:
        """The last `count` entries, found from the end: what that takes does not grow with the
        file."""
        if not self.path.exists():
            return []
        with self._opened() as file:
            lines = enumerate(backwards(file))
            found = list(islice(self._entries((-place, line) for place, line in lines), count))
        return found[::-1]

    def _opened(self) -> BinaryIO:
        """Raises DamagedFileError for a folder in its place, or one that may not be read."""
        with understanding(self.path, say("Move it away, or make it readable.")):
            return self.path.open("rb")

    def _new(self) -> Iterator[T]:
        with self._opened() as file:
            file.seek(self._place)
            yield from self._entries(self._whole(file))

    def _whole(self, file: BinaryIO) -> Iterator[tuple[int, bytes]]:
        for line in file:
            if not line.endswith(b"\n"):
                return
            self._place += len(line)
            self._number, self._last = self._number + 1, line
            yield self._number, line

    def _entries(self, lines: Iterable[tuple[int, bytes]]) -> Iterator[T]:
        for number, line in lines:
            if self.only not in line:
                continue
            try:
                content = parsed(line) if line.strip() else None
                if content is None:
                    continue
                if not isinstance(content, dict):
                    raise TypeError(f"{type(content).__name__} instead of an object")
                entry = self.entry_of(content)
            except (ValueError, TypeError, KeyError) as error:
                warn(self.path, number, f"{type(error).__name__}: {error}")
            else:
                yield entry


def encoded(entry: Mapping[str, Any]) -> bytes:
    text = json.dumps(entry, ensure_ascii=False) + "\n"
    return text.encode("utf-8", "surrogatepass")  # file names need not be Unicode


def backwards(file: BinaryIO) -> Iterator[bytes]:
    """The lines of a file, the last one first."""
    place, rest = file.seek(0, os.SEEK_END), b""
    while place:
        size = min(max(BLOCK, len(rest)), place)
        place -= size
        file.seek(place)
        first, *lines = (file.read(size) + rest).split(b"\n")
        yield from reversed(lines)
        rest = first
    yield rest


@cache
def warn(path: Path, number: int, reason: str) -> None:
    """Once for every line, however often it is read."""
    place = f"line {number}" if number > 0 else f"line {1 - number} from the end"
    logging.warning("%s: %s is damaged and left out (%s).", path, place, reason)
