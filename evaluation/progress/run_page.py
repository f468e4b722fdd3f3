"""A run as one page: curves, diagnosis, samples, checkpoints, settings and pairs in `run.html`."""

from __future__ import annotations

import base64
import io
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import jinja2
from PIL import ImageOps

from ...dataset.image import open_rgb, picture_size
from ...dataset.pair import DatasetError, Pair, PairedDataset
from ...files import write_atomically
from ...language import language, say
from ...trainer.config import TrainConfig
from ...trainer.runs.ending import ending_of
from ...trainer.runs.run import Run
from ...trainer.setting_words import setting_shown, value_shown
from ..pictures.samples import noted_in
from ..score.outcome import outcome_of
from ..score.verdict import Label
from .curves import Course, thinned
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


def write_page(run: Run, course: Course, pairs: PairedDataset | None = None) -> None:
    """Write `run.html` into the run's folder. Raises StorageError."""
    page = run_page(run, course, pairs)
    write_atomically(run.folder / "run.html", page.encode("utf-8", "replace"))


def run_page(run: Run, course: Course, pairs: PairedDataset | None) -> str:
    """One self-contained HTML file. Names and captions are the user's, so all text is escaped.

    A file name that is not Unicode is shown with question marks.
    """
    config, last_step, early = run.config, run.last_step(), ending_of(run.folder)
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    steps = [checkpoint.step for checkpoint in run.checkpoints()]
    return template.render(
        language=language(),
        text=headings(),
        name=run.name,
        state=state(course.step, last_step),
        symptoms=diagnose(course),
        ending=early.text if early else "",
        notes=[(at_step(step), note) for step, note in course.notes],
        curves=loss_svg(course, steps, run_title(run.name, last_step)) if len(course) else "",
        samples={at_step(step): some for step, some in samples(run.folder / "samples").items()},
        checkpoints=checkpoints(run, course),
        settings=settings(config),
        dataset=describe(pairs) if pairs else None,
    )


def headings() -> dict[str, str]:
    """The fixed texts of the page, by their names in the template."""
    return {
        "samples": say("Samples"),
        "same_noise": say("Control, result and target, always from the same noise."),
        "checkpoints": say("Checkpoints"),
        "step": say("step"),
        "held_out": say("held-out loss against the base"),
        "lowest": say("lowest"),
        "verdict": say("verdict"),
        "keep": say("keep this one"),
        "file": say("file"),
        "settings": say("Settings"),
        "bold": say("Bold: not the default."),
        "pairs": say("Pairs"),
        "name": say("name"),
        "caption": say("caption"),
        "target": say("target"),
    }


def state(done: int, steps: int) -> str:
    if done < steps:
        return say("{done} of {steps} steps done", done=done, steps=steps)
    return say("finished: {steps} steps", steps=steps)


def run_title(name: str, steps: int) -> str:
    return say("{run}: {steps} steps", run=name, steps=steps)


def at_step(step: int) -> str:
    return say("step {step}", step=step)


def samples(folder: Path) -> dict[int, list[Sample]]:
    """The samples of each step, earliest first; if there are many, of evenly spread steps only."""
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
    prompt = str(noted_in(path, "kontext_sample").get("prompt", ""))
    try:
        # the strip is three pictures wide or more
        small = ImageOps.contain(open_rgb(path), (THUMBNAIL * 6, THUMBNAIL))
    except DatasetError as error:  # a display error must not stop training
        return Sample(path.name, "", str(error))
    content = io.BytesIO()
    small.save(content, "JPEG", quality=85)
    url = "data:image/jpeg;base64," + base64.b64encode(content.getvalue()).decode("ascii")
    return Sample(path.name, url, prompt)


def checkpoints(run: Run, course: Course) -> list[dict[str, Any]]:
    """The saved LoRAs. `best` marks the lowest held-out loss among them, if it is evidence; `keep`
    and `verdict` are from scoring."""
    scored = outcome_of(run.folder)
    verdicts = scored.checkpoints if scored else {}
    tested = {each.step: each for each in course.tested}
    saved = run.checkpoints()
    measured = [e.step for e in saved if e.step in tested and tested[e.step].is_evidence]
    best = min(measured, key=lambda step: tested[step].change.mean, default=None)
    return [
        {
            "step": each.step,
            "held_out": tested[each.step].summary if each.step in tested else "",
            "best": each.step == best,
            "keep": scored is not None and scored.best == each.path.name,
            "verdict": shown_verdict(verdicts.get(each.path.name)),
            "megabytes": each.path.stat().st_size / 1e6,
            "name": each.path.name,
        }
        for each in saved
    ]


def shown_verdict(scored: Mapping[str, Any] | None) -> str:
    """In the user's language, "" before there is any."""
    return Label(scored["verdict"]).shown if scored else ""


def settings(config: TrainConfig) -> list[tuple[str, Any, bool, str]]:
    """Name and value in the interface, whether it differs from the default, and topic; in the
    order of the topics."""
    usual, given = asdict(TrainConfig()), asdict(config)
    topic = {each.name: each.metadata.get("topic", "") for each in fields(TrainConfig)}
    order = list(dict.fromkeys(topic.values()))
    return [
        (
            setting_shown(name),
            value_shown(name, given[name]),
            given[name] != usual[name],
            topic[name],
        )
        for name in sorted(given, key=lambda name: order.index(topic[name]))
    ]


def describe(pairs: PairedDataset) -> dict[str, Any]:
    """Facts about the pairs that need no pixels, and the first pairs."""
    shown = [*pairs.train, *pairs.holdout][:MOST_PAIRS]
    captions = Counter(pair.caption for pair in pairs)
    sizes = Counter(size_of(pair.target) for pair in shown)
    return {
        "facts": [
            (say("pairs to train on"), len(pairs.train)),
            (say("held out"), len(pairs.holdout)),
            (say("controls per pair"), numbers(len(pair.controls) for pair in pairs)),
            (say("repeats"), numbers(pair.repeats for pair in pairs)),
            (say("different captions"), len(captions)),
            (say("without a caption"), captions[""]),
            (say("sizes of {count} targets", count=len(shown)), ", ".join(listed(sizes))),
        ],
        "pairs": [row(pair) for pair in shown],
        "all": say("All pairs")
        if len(shown) == len(pairs)
        else say("All but {count} pairs", count=len(pairs) - len(shown)),
    }


def row(pair: Pair) -> dict[str, str]:
    split = say("held out") if pair.split == "holdout" else ""
    return {"stem": pair.stem, "split": split, "caption": pair.caption, "target": str(pair.target)}


def size_of(path: Path) -> str:
    """Width × height as shown upright, from the file's header; "unreadable" if it is damaged."""
    try:
        width, height = picture_size(path)
    except DatasetError:  # a display error must not stop training
        return say("unreadable")
    return f"{width} × {height}"


def listed(counted: Counter[str], most: int = 8) -> list[str]:
    common = [f"{name} ({count})" for name, count in counted.most_common(most)]
    return common + [say("{count} others", count=len(counted) - most)] * (len(counted) > most)


def numbers(values: Any) -> str:
    """The different ones, in order."""
    return ", ".join(map(str, sorted(set(values))))
