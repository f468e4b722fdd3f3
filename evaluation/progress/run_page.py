"""A run as one page: curves, diagnosis, samples, checkpoints, settings and pairs in `run.html`."""

from __future__ import annotations

import base64
import io
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import jinja2
from PIL import Image, ImageOps

from ...dataset.pair import Pair, PairedDataset
from ...files import write_atomically
from ...trainer.config import TrainConfig
from ...trainer.runs.run import Run
from .curves import Entry, as_csv, held_out, thinned
from .diagnosis import diagnose
from .loss_plot import loss_svg

TEMPLATE = Path(__file__).with_name("run_page.html")
MOST_SAMPLES = 40  # on the page; spread over the run, the last one among them
MOST_PAIRS = 200
THUMBNAIL = 320  # pixels of height
SAMPLE = re.compile(r"step_(\d+)(_\d+)?")


@dataclass(frozen=True)
class Sample:
    """A strip of control, result and target as a small JPEG in a data: URL."""

    name: str
    url: str
    prompt: str


def write_report(run: Run, log: Sequence[Entry], pairs: PairedDataset | None = None) -> None:
    """Write `log.csv` and `run.html` into the run's folder. Raises StorageError."""
    write_atomically(run.folder / "log.csv", as_csv(log).encode("utf-8"))
    write_atomically(run.folder / "run.html", run_page(run, log, pairs).encode("utf-8"))


def run_page(run: Run, log: Sequence[Entry], pairs: PairedDataset | None) -> str:
    """One HTML file that loads nothing. Names and captions are the user's: all text is escaped."""
    config, done = run.config, log[-1]["step"] if log else 0
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    steps = [checkpoint.step for checkpoint in run.checkpoints()]
    return template.render(
        name=run.name,
        done=done,
        steps=config.steps,
        findings=diagnose(log),
        notes=[(entry["step"], entry["note"]) for entry in log if "note" in entry],
        curves=loss_svg(log, steps, f"{run.name}: {config.steps} steps") if log else "",
        samples=samples(run.folder / "samples"),
        checkpoints=checkpoints(run, log),
        settings=settings(config),
        dataset=describe(pairs) if pairs else None,
    )


def samples(folder: Path) -> dict[int, list[Sample]]:
    """The samples of each step, earliest first; of some steps only, where there are many."""
    steps: dict[int, list[Path]] = {}
    for path in folder.glob("step_*.png"):
        if match := SAMPLE.fullmatch(path.stem):
            steps.setdefault(int(match[1]), []).append(path)
    most = max(1, MOST_SAMPLES // max(map(len, steps.values()), default=1))
    chosen = [sorted(steps)[i] for i in thinned(len(steps), most)]
    return {
        step: [
            thumbnail(path, path.stat().st_mtime_ns) for path in sorted(steps[step], key=natural)
        ]
        for step in chosen
    }


def natural(path: Path) -> tuple[int, str]:
    """_10 after _9."""
    return len(path.stem), path.stem


@lru_cache(maxsize=256)
def thumbnail(path: Path, _modified: int) -> Sample:
    """A small copy of the strip; made once, though the page is written often."""
    with Image.open(path) as picture:
        facts = json.loads(picture.info.get("kontext_sample", "{}"))
        # the strip is three pictures wide or more
        small = ImageOps.contain(picture.convert("RGB"), (THUMBNAIL * 6, THUMBNAIL))
    content = io.BytesIO()
    small.save(content, "JPEG", quality=85)
    url = "data:image/jpeg;base64," + base64.b64encode(content.getvalue()).decode("ascii")
    return Sample(path.name, url, facts.get("prompt", ""))


def checkpoints(run: Run, log: Sequence[Entry]) -> list[dict[str, Any]]:
    """The saved LoRAs; `best` marks the lowest held-out loss among them."""
    tested = {each.step: each for each in held_out(log)}
    saved = run.checkpoints()
    measured = [each.step for each in saved if each.step in tested]
    best = min(measured, key=lambda step: tested[step].change.mean, default=None)
    return [
        {
            "step": each.step,
            "held_out": tested[each.step].words if each.step in tested else "",
            "best": each.step == best,
            "megabytes": each.path.stat().st_size / 1e6,
            "name": each.path.name,
        }
        for each in saved
    ]


def settings(config: TrainConfig) -> list[tuple[str, Any, bool]]:
    """Name, value, and whether it differs from the default."""
    usual = asdict(TrainConfig())
    return [(name, value, value != usual[name]) for name, value in asdict(config).items()]


def describe(pairs: PairedDataset) -> dict[str, Any]:
    """What is known of the pairs without looking at their pixels, and the first of them."""
    shown = [*pairs.train, *pairs.holdout][:MOST_PAIRS]
    captions = Counter(pair.caption for pair in pairs)
    sizes = Counter(size_of(pair.target) for pair in shown)
    return {
        "facts": [
            ("pairs to train on", len(pairs.train)),
            ("held out", len(pairs.holdout)),
            ("controls per pair", numbers(len(pair.controls) for pair in pairs)),
            ("repeats", numbers(pair.repeats for pair in pairs)),
            ("different captions", len(captions)),
            ("without a caption", captions[""]),
            (f"sizes of {len(shown)} targets", ", ".join(listed(sizes))),
        ],
        "pairs": [row(pair) for pair in shown],
        "left_out": len(pairs) - len(shown),
    }


def row(pair: Pair) -> dict[str, str]:
    split = "held out" if pair.split == "holdout" else ""
    return {"stem": pair.stem, "split": split, "caption": pair.caption, "target": str(pair.target)}


def size_of(path: Path) -> str:
    """Width × height, from the head of the file."""
    with Image.open(path) as picture:
        return f"{picture.width} × {picture.height}"


def listed(counted: Counter[str], most: int = 8) -> list[str]:
    common = [f"{name} ({count})" for name, count in counted.most_common(most)]
    return common + [f"{len(counted) - most} others"] * (len(counted) > most)


def numbers(values: Any) -> str:
    """The different ones, in order."""
    return ", ".join(map(str, sorted(set(values))))
