"""Recall and precision of the dataset checks; prints the tables of docs/guide/checks.md.

    python scripts/proofs/checks.py

The planted sets are those of the tests; the real pairs lie in ComfyUI's template packages.
"""

import sys
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "dataset")]

import conftest  # noqa: E402, F401  imports the pack as `kontext`
import numpy as np  # noqa: E402
from check_score import score, template_alarms  # noqa: E402
from kontext.dataset.check_pair import quality  # noqa: E402
from PIL import Image, ImageFilter  # noqa: E402
from planted import middle, packed, photographs  # noqa: E402


def levels() -> None:
    """Lowest, middle and highest measure of the photographs, clean and flawed."""
    rng = np.random.default_rng(0)
    photos = [middle(photo) for photo in photographs()]
    noisy = [
        Image.fromarray(
            np.clip(np.asarray(p, float) + rng.normal(0, 10, (*p.size, 3)), 0, 255).astype(np.uint8)
        )
        for p in photos
    ]
    blurred = [photo.filter(ImageFilter.GaussianBlur(2)) for photo in photos]
    blocks = [packed(photo, rng, 20) for photo in photos]
    print("| measure | clean | flawed |")
    print("| --- | --- | --- |")
    for name, flawed in (("sharpness", blurred), ("noise", noisy), ("blockiness", blocks)):
        rows = [[getattr(quality(image), name) for image in group] for group in (photos, flawed)]
        spans = [" / ".join(f"{v:.3g}" for v in np.percentile(r, (0, 50, 100))) for r in rows]
        print(f"| {name} | {spans[0]} | {spans[1]} |")


def main() -> None:
    levels()
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
