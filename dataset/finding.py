"""What a check found, and the report of it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ..language import say

ERROR, WARNING, NOTE = "error", "warning", "note"
EDGES = {ERROR: "#c62828", WARNING: "#e08600", NOTE: "#5c7fa3"}


@dataclass(frozen=True)
class Finding:
    """One thing to know. `kind` is its short name, `stems` the pairs it is about, if any."""

    kind: str
    severity: str
    message: str
    remedy: str
    stems: tuple[str, ...] = ()


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
            *(f"    {more}" for more in messages[1:]),
        ]
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
        "few pairs": say("few pairs"),
        "uniform": say("uniform"),
    }
    return names.get(kind, kind)
