"""Which files may be read and written for the client that sends a graph.

In a terminal: any. In ComfyUI's server: those that `trainer.host.sharing` allows, by `follow`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PureWindowsPath

from ..language import say
from .pair import DatasetError

LONGEST, LONGEST_PART = 4096, 255  # limits of a path: characters on Windows, else bytes
DEVICES = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[\d¹²³])( *\..*)?", re.I)


class AccessError(DatasetError):
    """A path leads to where this server does not read or write."""


@dataclass(frozen=True)
class Access:
    """`own` folders may be read and written, `lent` ones read; with `trusted`, any folder.

    `owners_list` is the name, in messages, of the file in which the server's owner lists `lent`.
    """

    own: tuple[Path, ...] = ()
    lent: tuple[Path, ...] = ()
    trusted: bool = True
    owners_list: str = ""


_source: Callable[[], Access] = Access


def follow(source: Callable[[], Access]) -> None:
    """From now on, ask `source` before every file what is allowed."""
    global _source
    _source = source


def readable(path: Path) -> Path:
    """The same path; AccessError unless it may be read. Does not reveal whether it exists."""
    require_name(path)
    if not may_read(path):
        raise AccessError(
            say(
                "{path} may not be read: others can reach this server, so it reads only ComfyUI's "
                "input, output and temp folders. Put the pictures into the input folder, or ask "
                "the server's owner to list their folder in {file}.",
                path=path,
                file=_source().owners_list,
            )
        )
    return path


def writable(path: Path) -> Path:
    """The same path; AccessError unless files may be made there."""
    require_name(path)
    access = _source()
    if not allowed(path, access.own, access):
        raise AccessError(
            say(
                "{path} may not be written: others can reach this server, so it writes only into "
                "ComfyUI's input, output and temp folders. Name a folder inside of them.",
                path=path,
            )
        )
    return path


def may_read(path: Path) -> bool:
    access = _source()
    return allowed(path, (*access.own, *access.lent), access)


def allowed(path: Path, folders: tuple[Path, ...], access: Access) -> bool:
    """Whether a path can name a file and, unless everything is trusted, lies in `folders`.

    Checked as it is written, before the disk is accessed (which would announce the user to a
    network share), and again with its links followed.
    """
    if not names_a_file(path):
        return False
    if access.trusted:
        return True
    roots = tuple(root for folder in folders for root in places(folder))
    try:
        return inside(Path(os.path.abspath(path)), roots) and inside(path.resolve(), roots)
    except (OSError, RuntimeError, ValueError):  # links in a circle
        return False


def require_name(path: Path) -> None:
    """Raise AccessError for a text that cannot be a path."""
    if not names_a_file(path):
        raise AccessError(
            say(
                "“{path}” cannot be the path of a file: it is too long, or a device's name.",
                path=str(path).encode("utf-8", "replace").decode()[-200:].replace("\0", "?"),
            )
        )


def names_a_file(path: Path, windows: bool = os.name == "nt") -> bool:
    """False for names that the system gives another meaning: devices, streams within a file."""
    try:
        lengths = [len(part if windows else os.fsencode(part)) for part in path.parts]
    except UnicodeEncodeError:  # half a character, which JSON can hold
        return False
    if "\0" in str(path) or sum(lengths) > LONGEST or max(lengths, default=0) > LONGEST_PART:
        return False
    if not windows:
        return True
    whole = PureWindowsPath(path)
    parts = whole.relative_to(whole.anchor).parts
    return not any(DEVICES.fullmatch(part.rstrip(" .")) or ":" in part for part in parts)


def inside(path: Path, folders: tuple[Path, ...]) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)


@lru_cache(maxsize=64)
def places(folder: Path) -> tuple[Path, ...]:
    """A folder's absolute path as written, and with its links followed."""
    return Path(os.path.abspath(folder)), folder.resolve()
