"""Regular expressions that users write: bounded in length, in memory and in time."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterable

import regex

from .language import say

LONGEST = 2000  # letters
MOST_COPIES = 10_000  # of a kilobyte: `regex` writes out what is repeated a fixed number of times
SECONDS = 1.0  # for one text, or for all names
REPEATED = re.compile(r"\{\s*(\d+)")


class PatternError(ValueError):
    """A text is no regular expression, or one without bounds."""


class SlowPatternError(PatternError):
    """A regular expression takes too long."""


def compiled(text: str) -> regex.Pattern[str]:
    """The regular expression of a text. Raises PatternError with the reason if it is none."""
    copies = math.prod(max(1, int(number)) for number in REPEATED.findall(text[:LONGEST]))
    if len(text) > LONGEST or copies > MOST_COPIES:
        raise PatternError(
            say(
                "it is longer than {letters} letters, or its {{…}} repeat more than {copies} times",
                letters=LONGEST,
                copies=MOST_COPIES,
            )
        )
    try:
        return regex.compile(text)
    except (regex.error, RecursionError, OverflowError) as error:
        raise PatternError(str(error)) from error


def replaced(pattern: str, replacement: str, text: str) -> str:
    """The text with `replacement` for what fits the pattern. Raises PatternError."""
    try:
        return compiled(pattern).sub(replacement, text, timeout=SECONDS, concurrent=True)
    except TimeoutError as error:
        raise too_slow(pattern) from error
    except (regex.error, IndexError) as error:
        raise PatternError(str(error)) from error


def matching(pattern: str, names: Iterable[str]) -> list[str]:
    """The names in which something fits the pattern. Raises PatternError."""
    search, end, found = compiled(pattern).search, time.monotonic() + SECONDS, []
    for name in names:
        try:
            # the remaining time, not less than the finest that is measured
            left = max(0.001, end - time.monotonic())
            found += [name] if search(name, timeout=left, concurrent=True) else []
        except TimeoutError as error:
            raise too_slow(pattern) from error
    return found


def too_slow(pattern: str) -> SlowPatternError:
    return SlowPatternError(
        say(
            "{find} takes more than {seconds} s. Rewrite repeated groups that can match the same "
            "text in many ways, for example (a+)+.",
            find=pattern,
            seconds=SECONDS,
        )
    )
