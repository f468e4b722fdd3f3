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
    """Errors first, then warnings, then notes, each with its file and its remedy."""
    if not findings:
        return f"{pairs} pairs checked: nothing found."
    counts = [f"{sum(f.severity == s for f in findings)} {s}s" for s in (ERROR, WARNING, NOTE)]
    lines = [f"{pairs} pairs checked: {', '.join(counts)}."]
    for severity in (ERROR, WARNING, NOTE):
        for finding in findings:
            if finding.severity == severity:
                lines.append(f"[{severity}] {finding.kind}: {finding.message}")
                lines.append(f"    {finding.remedy}")
    return "\n".join(lines)
