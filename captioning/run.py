"""A captioning run over a dataset: describe, compose, save, report."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, field

from PIL.Image import Image

from ..dataset.pair import Pair, PairedDataset
from ..dataset.text import listed
from ..files import moment
from ..language import say
from .captioner import Captioner, CaptionError
from .describe import Answer, Side, describe_pairs
from .journal import Journal
from .recipe import Recipe
from .report import MOST_NAMED, length_report, token_report
from .sidecars import BACKUPS, write_caption, write_tables

Source = Captioner | Mapping[str, str] | None
"""Where descriptions come from: a captioner, texts by stem, or nowhere."""

OnAnswer = Callable[[int, str, "Image | None"], None]
"""Called with the number of pairs done, a line of text and the picture just described."""


@dataclass(frozen=True)
class Options:
    """`save` writes a `.txt` beside each target, `tables` metadata.csv and metadata.jsonl."""

    side: Side = Side.TARGET
    skip_failed: bool = False
    save: bool = False
    tables: bool = False


@dataclass
class Results:
    """Counts and results so far; `captions` and `failed` (reasons) by stem."""

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
    progress: OnAnswer,
) -> tuple[PairedDataset, str]:
    """The dataset with new captions, and a report.

    Every caption is saved as soon as it is known, so a run that is cancelled loses nothing.
    """
    outcome = Results(backup=moment())
    undescribed = [pair for pair in pairs if recipe.wants_description(pair)]
    others = [pair for pair in pairs if not recipe.wants_description(pair)]
    for pair in others:
        if recipe.leaves_alone(pair):
            outcome.kept += 1
        else:
            _take(pair, recipe.caption(pair), options, outcome)
    with closing(_answers(undescribed, source, options, journal)) as answers:
        for done, answer in enumerate(answers, 1 + len(others)):
            if answer.problem:
                outcome.failed[answer.pair.stem] = answer.problem
            else:
                outcome.described += bool(answer.pictures)
                outcome.remembered += answer.remembered
                _take(answer.pair, recipe.caption(answer.pair, answer.text), options, outcome)
            caption = answer.problem or outcome.captions[answer.pair.stem]
            picture = answer.pictures[-1] if answer.pictures else None
            progress(done, f"{done}/{len(pairs)} {answer.pair.stem}: {caption}", picture)
    if outcome.failed and len(outcome.failed) == len(undescribed):
        raise CaptionError(
            say(
                "None of the {count} pictures could be described. The first: {problem}",
                count=len(undescribed),
                problem=next(iter(outcome.failed.values())),
            )
        )
    captioned = pairs.with_captions(outcome.captions)
    if options.tables:
        write_tables(captioned)
    return captioned, _report(captioned, outcome, options)


def _answers(
    pairs: list[Pair], source: Source, options: Options, journal: Journal
) -> Generator[Answer, None, None]:
    if source is None or isinstance(source, Mapping):
        for pair in pairs:
            yield Answer(pair, (source or {}).get(pair.stem, ""))
        return
    try:
        yield from describe_pairs(pairs, source, options.side, journal, options.skip_failed)
    finally:
        source.release()


def _take(pair: Pair, caption: str, options: Options, outcome: Results) -> None:
    outcome.captions[pair.stem] = caption
    if options.save:
        outcome.written += write_caption(pair.target, caption, outcome.backup)


def _report(pairs: PairedDataset, outcome: Results, options: Options) -> str:
    failed = len(outcome.failed)
    counts = {
        say("{count} described", count=outcome.described): outcome.described,
        say("{count} from an earlier run", count=outcome.remembered): outcome.remembered,
        say("{count} left as they were", count=outcome.kept): outcome.kept,
        say("{count} failed", count=failed): failed,
    }
    parts = say(", ").join(part for part, count in counts.items() if count)
    total = say("{count} pairs", count=len(pairs))
    lines = [say("{name}: {text}", name=total, text=parts) if parts else total]
    lines += [
        f"⚠ {say('{name}: {text}', name=stem, text=problem)}"
        for stem, problem in outcome.failed.items()
    ]
    without = [pair.stem for pair in pairs if not pair.caption]
    if without:
        warning = say(
            "{count} of {all} pairs have no caption: {names}.",
            count=len(without),
            all=len(pairs),
            names=listed(without, MOST_NAMED),
        )
        lines.append(f"⚠ {warning}")
    if options.save:
        lines.append(
            say(
                "{count} caption files written; the previous ones are in {folder}",
                count=outcome.written,
                folder=f"{BACKUPS}/{outcome.backup}",
            )
            if outcome.written
            else say("The caption files already say this; nothing written")
        )
    captions = {pair.stem: pair.caption for pair in pairs if pair.caption}
    if captions:
        lines += [*length_report(captions), *token_report(captions)]
    return "\n".join(lines)
