"""Findings of the checks, and the report on them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..files import file_mark
from ..language import say
from .pair import Pair

ERROR, WARNING, NOTE = "error", "warning", "note"
MOST_LISTED = 200  # findings of one kind in a report
EDGES = {ERROR: "#c62828", WARNING: "#e08600", NOTE: "#5c7fa3"}


@dataclass(frozen=True)
class Finding:
    """One thing to know. `kind` is its short name, `stems` the pairs it is about, if any."""

    kind: str
    severity: str
    message: str
    remedy: str
    stems: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        return f"{self.message} {self.remedy}"


def report(findings: Sequence[Finding], pairs: int) -> str:
    """Errors first, then warnings, then notes; findings of one kind share their remedy's line."""
    if not findings:
        return say("{count} pairs checked: nothing found.", count=pairs)
    counts = Counter(finding.severity for finding in findings)
    lines = [
        say(
            "{count} pairs checked: {errors} errors, {warnings} warnings, {notes} notes.",
            count=pairs,
            errors=counts[ERROR],
            warnings=counts[WARNING],
            notes=counts[NOTE],
        )
    ]
    groups: dict[tuple[str, str, str], list[str]] = {}
    for finding in sorted(findings, key=lambda f: (ERROR, WARNING, NOTE).index(f.severity)):
        key = finding.severity, finding.kind, finding.remedy
        groups.setdefault(key, []).append(finding.message)
    for (severity, kind, remedy), messages in groups.items():
        title = f"[{severity_name(severity)}] {kind_name(kind)}"
        lines += [
            say("{name}: {text}", name=title, text=messages[0]),
            *(f"    {more}" for more in messages[1:MOST_LISTED]),
        ]
        if len(messages) > MOST_LISTED:
            rest = say("and {count} more", count=len(messages) - MOST_LISTED)
            lines.append(f"    {rest}")
        lines.append(f"    → {remedy}")
    return "\n".join(lines)


def severity_name(severity: str) -> str:
    """A severity in the user's language."""
    return {ERROR: say("error"), WARNING: say("warning"), NOTE: say("note")}[severity]


def kind_name(kind: str) -> str:
    """A kind of finding in the user's language."""
    names = {
        "swapped": say("swapped"),
        "identical": say("identical"),
        "hold-out": say("hold-out"),
        "leak": say("leak"),
        "no caption": say("no caption"),
        "letters": say("letters"),
        "unreadable": say("unreadable"),
        "aspect": say("aspect"),
        "size": say("size"),
        "low resolution": say("low resolution"),
        "format": say("format"),
        "blurred": say("blurred"),
        "noisy": say("noisy"),
        "JPEG blocks": say("JPEG blocks"),
        "everything changed": say("everything changed"),
        "zoomed": say("zoomed"),
        "shifted": say("shifted"),
        "duplicate": say("duplicate"),
        "orphan": say("orphan"),
        "double name": say("double name"),
        "mask": say("mask"),
        "garbled caption": say("garbled caption"),
        "long caption": say("long caption"),
        "instruction missing": say("instruction missing"),
        "one target": say("one target"),
        "few pairs": say("few pairs"),
        "uniform": say("uniform"),
    }
    return names.get(kind, kind)


# ---- what was found, for the page of the pairs -----------------------------------------------

ABOUT_CAPTION = frozenset(
    ("no caption", "letters", "garbled caption", "long caption", "instruction missing")
)

_found: dict[tuple[Path, ...], tuple[str, str, tuple[Finding, ...]]] = {}


def remember(pairs: Sequence[Pair], findings: Sequence[Finding]) -> None:
    """Keep what a check found on each pair, as long as this process lives."""
    about: dict[str, list[Finding]] = {}
    for finding in findings:
        for stem in finding.stems:
            about.setdefault(stem, []).append(finding)
    for pair in pairs:
        _found[pair.files] = _marks(pair), pair.caption, tuple(about.get(pair.stem, ()))


def remembered(pair: Pair) -> tuple[Finding, ...] | None:
    """What the last check found on these pictures; None if it has not seen them as they are.
    What it found on a caption does not count for another one.
    """
    marks, caption, findings = _found.get(pair.files, ("", "", ()))
    if not marks or marks != _marks(pair):
        return None
    same = caption == pair.caption
    return findings if same else tuple(f for f in findings if f.kind not in ABOUT_CAPTION)


def _marks(pair: Pair) -> str:
    try:
        return "\0".join(map(file_mark, pair.files))
    except OSError:  # gone by now
        return ""
