"""Recall and precision of the dataset checks; prints the tables of docs/checks.md.

    python scripts/measure_checks.py

The planted sets are those of the tests; the real pairs lie in ComfyUI's template packages.
"""

import sys
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "dataset")]

import conftest  # noqa: E402, F401  imports the pack as `kontext`
from check_score import score, template_alarms  # noqa: E402


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = score(Path(folder))
    print("| check | planted | found | false | recall | precision |")
    print("| --- | --- | --- | --- | --- | --- |")
    for kind, tally in found.items():
        print(
            f"| {kind} | {tally.planted} | {tally.found} | {tally.false} "
            f"| {tally.recall:.3f} | {tally.precision:.3f} |"
        )
    pairs, alarms = template_alarms()
    print(f"\n{pairs} real pairs, {len({stem for _, stem in alarms})} with a false alarm")
    for kind, count in Counter(kind for kind, _ in alarms).most_common():
        print(f"  {kind} {count}: {', '.join(stem for k, stem in alarms if k == kind)}")


main()
