"""One process per run: a lock file names the process that holds it, and shows that it is alive."""

from __future__ import annotations

import getpass
import json
import os
import platform
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil

from ...files import parsed, storing
from ...language import say
from .identity import RunError

NAME = "lock.json"
BEAT = 10.0  # seconds between two signs of life
CLOCK_CHANGES = 60.0  # seconds by which the system may correct a process's time of birth
WRITING = 2.0  # seconds within which a lock file is written
SILENCE = 120.0  # seconds after which a process of another machine counts as dead


HELD: set[str] = set()  # tokens of the locks of this process


class LockedError(RunError):
    """Another process works on this run."""


@dataclass(frozen=True)
class Owner:
    """The process that holds a run. `born` distinguishes it from a later one of the same number."""

    token: str
    user: str
    host: str
    process: int
    born: float
    since: str

    def lives_here(self) -> bool:
        """Whether it is alive on this machine."""
        try:
            return abs(psutil.Process(self.process).create_time() - self.born) < CLOCK_CHANGES
        except psutil.Error:
            return False


class Lock:
    """A held run. `mine` becomes false when another process has taken it over."""

    def __init__(self, folder: Path, owner: Owner) -> None:
        HELD.add(owner.token)
        self.file, self.owner, self.ended = folder / NAME, owner, threading.Event()
        self.thread = threading.Thread(target=self.beat, name="kontext lock", daemon=True)
        self.thread.start()

    @property
    def mine(self) -> bool:
        """False once another process holds the run, because this one was asleep or cut off."""
        found = owner_of(self.file)
        return found is None or found.token == self.owner.token

    def beat(self) -> None:
        while not self.ended.wait(BEAT):
            with suppress(OSError):  # the drive may be away for a moment
                if self.mine:
                    os.utime(self.file)

    def release(self) -> None:
        self.ended.set()
        self.thread.join()
        HELD.discard(self.owner.token)
        with suppress(OSError):
            if self.mine:
                self.file.unlink(missing_ok=True)
            self.file.parent.rmdir()  # removes only an empty folder, of a run that never began


@contextmanager
def holding(folder: Path, name: str) -> Iterator[Lock]:
    """Inside, this process alone holds the run in `folder`. LockedError says who else does."""
    with storing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    lock = Lock(folder, taken(folder / NAME, name))
    try:
        yield lock
    finally:
        lock.release()


def taken(file: Path, name: str) -> Owner:
    """Make the lock file, replacing one whose owner is dead. Raises LockedError."""
    born = psutil.Process().create_time()
    owner = Owner(uuid4().hex, user(), machine(), os.getpid(), born, time.strftime("%H:%M"))
    while True:
        if made(file, asdict(owner)):
            return owner
        holder, silence = owner_of(file), silence_of(file)
        if silence is None:
            continue  # given back just now
        if holder is None and silence < WRITING:
            time.sleep(0.05)
            continue
        if holder is None and silence < SILENCE or holder and alive(holder, silence):
            raise held_by(name, holder, silence)
        # of several processes that find a dead one's lock, only the maker of this file removes it
        breaking = file.with_name(f"lock.{holder.token if holder else 'damaged'}.broken")
        if not made(breaking, asdict(owner)):
            breaker, silent = owner_of(breaking), silence_of(breaking) or 0
            if alive(breaker, silent) if breaker else silent < SILENCE:
                raise held_by(name, holder, silence)
            breaking.unlink(missing_ok=True)
            continue
        found = owner_of(file)
        if (found and found.token) == (holder and holder.token):
            file.unlink(missing_ok=True)
        breaking.unlink(missing_ok=True)


def alive(owner: Owner, silence: float) -> bool:
    """Whether the owner is alive: on this machine by its process, elsewhere by its sign of life."""
    if owner.host == machine() and owner.process == os.getpid():
        return owner.token in HELD  # else given back while the drive was away
    return owner.lives_here() if owner.host == machine() else silence < SILENCE


def made(file: Path, content: dict[str, Any]) -> bool:
    """Make a file unless it exists; of several processes, on a network drive too, one succeeds.

    A process that is killed leaves the whole file or none.
    """
    text, partial = json.dumps(content), file.with_name(f"lock.{uuid4().hex[:8]}.tmp")
    with storing(file):
        try:
            partial.write_text(text, encoding="utf-8")
            os.link(partial, file)
        except FileExistsError:
            return False
        except OSError:  # a drive without links, exFAT for example, or one that is full
            return made_in_place(file, text)
        finally:
            partial.unlink(missing_ok=True)
    return True


def made_in_place(file: Path, text: str) -> bool:
    try:
        with file.open("x", encoding="utf-8") as opened:
            opened.write(text)
    except FileExistsError:
        return False
    except OSError:
        file.unlink(missing_ok=True)
        raise
    return True


def owner_of(file: Path) -> Owner | None:
    """Who holds the lock; None if it is being written, or was damaged."""
    try:
        return Owner(**parsed(file.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def silence_of(file: Path) -> float | None:
    """Seconds since the last sign of life, by the clock of the drive; None if there is no lock."""
    probe = file.with_name(f"lock.{uuid4().hex[:8]}.tmp")
    try:
        probe.touch()
        return max(0.0, probe.stat().st_mtime - file.stat().st_mtime)
    except FileNotFoundError:
        return None
    finally:
        probe.unlink(missing_ok=True)


def held_by(name: str, owner: Owner | None, silence: float) -> LockedError:
    return LockedError(
        say(
            "Run “{name}” is being trained by another process: number {process} on {host}, started "
            "by {user} at {since}, last sign of life {seconds} s ago. Wait until it has ended, "
            "cancel it there, or choose another name.",
            name=name,
            process=owner.process if owner else "?",
            host=owner.host.split(" ")[0] if owner else "?",
            user=owner.user if owner else "?",
            since=owner.since if owner else "?",
            seconds=round(silence),
        )
    )


def machine() -> str:
    """Names this machine; two containers of one name are told apart by their process numbers."""
    try:
        numbers = os.readlink("/proc/self/ns/pid")
    except OSError:  # no containers, or not Linux
        numbers = ""
    return f"{platform.node()} {numbers}".strip()


def user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a process without a user's entry
        return "?"
