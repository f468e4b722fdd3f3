"""What a check found, and how it is told."""

from collections.abc import Sequence
from dataclasses import dataclass

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
        return f"{pairs} pairs checked: nothing found."
    counts = [f"{sum(f.severity == s for f in findings)} {s}s" for s in (ERROR, WARNING, NOTE)]
    lines = [f"{pairs} pairs checked: {', '.join(counts)}."]
    groups: dict[tuple[str, str, str], list[str]] = {}
    for finding in sorted(findings, key=lambda f: (ERROR, WARNING, NOTE).index(f.severity)):
        key = finding.severity, finding.kind, finding.remedy
        groups.setdefault(key, []).append(finding.message)
    for (severity, kind, remedy), messages in groups.items():
        lines += [f"[{severity}] {kind}: {messages[0]}", *(f"    {more}" for more in messages[1:])]
        lines.append(f"    → {remedy}")
    return "\n".join(lines)
