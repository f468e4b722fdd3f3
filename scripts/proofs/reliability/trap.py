"""Something happens to a file at a chosen moment: the disk refuses it, or the process dies."""

from __future__ import annotations

import builtins
import errno
import io
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PATCHED = ("replace", "rename", "unlink", "remove", "mkdir", "rmdir", "fsync", "utime")
FAULTS = {
    "disk full": errno.ENOSPC,
    "input/output error": errno.EIO,
    "permission denied": errno.EACCES,
}
_open = io.open


class Trap:
    """Counts what is done to files below `root`; at number `at` calls `act(kind, path, do)`.

    With `lasting`, at every later one too. `kinds` are the operations counted: those of PATCHED,
    `open` for writing, and `write`.
    """

    def __init__(
        self, root: Path, at: int, act: Callable[..., Any], lasting: bool = False, but: str = "\0"
    ) -> None:
        self.root, self.at, self.act, self.lasting, self.but = str(root), at, act, lasting, but
        self.count, self.sprung = 0, ""

    def step(self, kind: str, path: Any, do: Callable[[], Any]) -> Any:
        name = path_of(path)
        if not name.startswith(self.root) or self.but in name:
            return do()
        self.count += 1
        if self.count < self.at or (self.count > self.at and not self.lasting):
            return do()
        self.sprung = self.sprung or f"{kind} {os.path.basename(name)}"
        return self.act(kind, name, do)


def path_of(path: Any) -> str:
    if isinstance(path, int):
        try:
            return os.readlink(f"/proc/self/fd/{path}")
        except OSError:
            return ""
    return os.path.abspath(os.fsdecode(path))


class Watched(io.FileIO):
    """A file whose writes are counted."""

    trap: Trap

    def write(self, content: Any) -> int:
        def do(share: float = 1.0) -> int:
            view = memoryview(content).cast("B")
            return super(Watched, self).write(view[: max(1, int(len(view) * share))]) or 0

        return self.trap.step("write", str(self.name), do)


@contextmanager
def trapped(trap: Trap) -> Iterator[Trap]:
    """The trap in force for everything that this process does to files."""

    def opened(file: Any, mode: str = "r", buffering: int = -1, *rest: Any, **named: Any) -> Any:
        if isinstance(file, int) or not set(mode) & set("wax+"):
            return _open(file, mode, buffering, *rest, **named)

        def do() -> Any:
            raw = Watched(file, mode.replace("b", "").replace("t", ""))
            raw.trap = trap
            buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
            if "b" in mode:
                return buffered
            encoding = named.get("encoding") or (rest[0] if rest else None)
            return io.TextIOWrapper(buffered, encoding, named.get("errors"), named.get("newline"))

        return trap.step("open", file, do)

    real = {name: getattr(os, name) for name in PATCHED}

    def patched(name: str) -> Callable[..., Any]:
        def call(path: Any, *rest: Any, **named: Any) -> Any:
            return trap.step(name, path, lambda: real[name](path, *rest, **named))

        return call

    for name in PATCHED:
        setattr(os, name, patched(name))
    io.open = builtins.open = opened  # type: ignore[assignment]
    try:
        yield trap
    finally:
        io.open = builtins.open = _open
        for name in PATCHED:
            setattr(os, name, real[name])


# ---- what happens ----------------------------------------------------------------------------


def kill(kind: str, path: str, do: Callable[..., Any]) -> None:
    """SIGKILL before it; of a write, after half of it."""
    if kind == "write":
        do(0.5)
    os.kill(os.getpid(), signal.SIGKILL)


def kill_after(kind: str, path: str, do: Callable[..., Any]) -> None:
    do()
    os.kill(os.getpid(), signal.SIGKILL)


def refuse(fault: str) -> Callable[..., Any]:
    """The system's error; of a write, after half of it is on the disk."""

    def act(kind: str, path: str, do: Callable[..., Any]) -> None:
        if kind == "write":
            do(0.5)
        number = FAULTS[fault]
        raise OSError(number, os.strerror(number), path)

    return act


def refuse_late(kind: str, path: str, do: Callable[..., Any]) -> None:
    """It is done, and reported as failed: a network drive whose answer was lost."""
    do()
    raise OSError(errno.EIO, os.strerror(errno.EIO), path)


def write_less(kind: str, path: str, do: Callable[..., Any]) -> Any:
    """A write takes only half, without an error, as the system may; all else fails."""
    if kind == "write":
        return do(0.5)
    raise OSError(errno.EIO, os.strerror(errno.EIO), path)
