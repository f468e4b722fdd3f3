"""Run names that are valid on every system."""

from __future__ import annotations

import re

from ...language import say
from .identity import RunError

LONGEST_NAME = 80  # it occurs twice in a path, and Windows stops at 260 characters
MOST_BYTES = 200  # of the 255 that Linux allows, less the step and the suffix
RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
UNFIT = re.compile('[<>:"/\\\\|?*\x00-\x1f\ud800-\udfff]')


def checked_name(name: str) -> str:
    """The name, stripped. Raises RunError unless it can name a folder on every system."""
    name = name.strip()
    if not name:
        raise RunError(say("Give the run a name."))
    if UNFIT.search(name) or name.endswith(".") or RESERVED.fullmatch(name):
        raise RunError(
            say(
                "'{name}' cannot be a run's name, because it cannot be a folder's name on "
                'Windows. Leave out / \\ : * ? " < > |, a final dot, and names of devices (con, '
                "nul, com1).",
                name=name.encode("utf-8", "replace").decode(),
            )
        )
    if len(name) > LONGEST_NAME or len(name.encode("utf-8")) > MOST_BYTES:
        raise RunError(
            say(
                "The run's name has {count} characters, too many for a file name: {name}… Use at "
                "most {latin} Latin or {chinese} Chinese ones.",
                count=len(name),
                name=name[:40],
                latin=LONGEST_NAME,
                chinese=MOST_BYTES // 3,
            )
        )
    return name


def is_name(folder: str) -> bool:
    """Whether a folder's name can be a run's: somebody may have put another folder there."""
    try:
        return checked_name(folder) == folder
    except RunError:
        return False
