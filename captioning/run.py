"""A captioning run over a dataset: describe, compose, save, report."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, field

from PIL.Image import Image

from ..dataset.pair import Pair, PairedDataset
from .captioner import Captioner, CaptionError
from .describe import Answer, Side, describe_pairs
from .journal import Journal
from .recipe import Recipe
from .report import length_report, token_report
from .sidecars import BACKUPS, timestamp, write_caption, write_tables

Source = Captioner | Mapping[str, str] | None
"""Where descriptions come from: a captioner, texts by stem, or nowhere."""

Progress = Callable[[int, str, "Image | None"], None]
"""Called with how many pairs are done, a line of text and the picture just described."""


@dataclass(frozen=True)
class Options:
    """`save` writes a `.txt` beside each target, `tables` metadata.csv and metadata.jsonl."""

    side: Side = Side.TARGET
    skip_failed: bool = False
    save: bool = False
    tables: bool = False


@dataclass
class Outcome:
    """What has been done so far; `captions` and `failed` by stem."""

    captions: dict[str, str] = field(default_factory=dict)
    described: int = 0
    remembered: int = 0
    kept: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    written: int = 0
    backup: str = ""


def caption_pairs(
    pairs: PairedDataset,
    recipe: Recipe,
    source: Source,
    options: Options,
    journal: Journal,
    progress: Progress,
) -> tuple[PairedDataset, str]:
    """The dataset with new captions, and a report.

    Every caption is saved as soon as it is known, so a run that is cancelled loses nothing.
    """
    outcome = Outcome(backup=timestamp())
    asked = [pair for pair in pairs if recipe.wants_description(pair)]
    others = [pair for pair in pairs if not recipe.wants_description(pair)]
    for pair in others:
        if recipe.leaves_alone(pair):
            outcome.kept += 1
        else:
            _take(pair, recipe.caption(pair), options, outcome)
    with closing(_answers(asked, source, options, journal)) as answers:
        for done, answer in enumerate(answers, 1 + len(others)):
            if answer.problem:
                outcome.failed[answer.pair.stem] = answer.problem
            else:
                outcome.described += bool(answer.pictures)
                outcome.remembered += answer.remembered
                _take(answer.pair, recipe.caption(answer.pair, answer.text), options, outcome)
            shown = answer.problem or outcome.captions[answer.pair.stem]
            picture = answer.pictures[-1] if answer.pictures else None
            progress(done, f"{done}/{len(pairs)} {answer.pair.stem}: {shown}", picture)
    if outcome.failed and len(outcome.failed) == len(asked):
        raise CaptionError(
            f"None of the {len(asked)} pictures could be described. The first: "
            f"{next(iter(outcome.failed.values()))}"
        )
    captioned = pairs.with_captions(outcome.captions)
    if options.tables:
        write_tables(captioned)
    return captioned, _report(captioned, outcome, options)


def _answers(
    asked: list[Pair], source: Source, options: Options, journal: Journal
) -> Generator[Answer, None, None]:
    if source is None or isinstance(source, Mapping):
        for pair in asked:
            yield Answer(pair, (source or {}).get(pair.stem, ""))
        return
    try:
        yield from describe_pairs(asked, source, options.side, journal, options.skip_failed)
    finally:
        source.release()


def _take(pair: Pair, caption: str, options: Options, outcome: Outcome) -> None:
    outcome.captions[pair.stem] = caption
    if options.save:
        outcome.written += write_caption(pair.target, caption, outcome.backup)


def _report(pairs: PairedDataset, outcome: Outcome, options: Options) -> str:
    counts = {
        "described": outcome.described,
        "from an earlier run": outcome.remembered,
        "left as they were": outcome.kept,
        "failed": len(outcome.failed),
    }
    told = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    lines = [f"{len(pairs)} pairs" + (f": {told}" if told else "")]
    lines += [f"⚠ {stem}: {problem}" for stem, problem in outcome.failed.items()]
    without = [pair.stem for pair in pairs if not pair.caption]
    if without:
        lines.append(f"⚠ {len(without)} pairs have no caption: {', '.join(without[:5])}")
    if options.save:
        lines.append(
            f"{outcome.written} caption files written; what they replaced is in "
            f"{BACKUPS}/{outcome.backup}"
            if outcome.written
            else "The caption files already say this; nothing written"
        )
    captions = {pair.stem: pair.caption for pair in pairs if pair.caption}
    if captions:
        lines += [*length_report(captions), *token_report(captions)]
    return "\n".join(lines)
