"""Scores as text, CSV, JSON and a chart."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ...files import write_atomically, write_picture
from ...language import say
from ..charts import aligned, drawn, lettering
from .score import BANDS, Scores, bands
from .verdict import BASE, Label

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = {
    Label.NO_EFFECT: "#9aa0a6",
    Label.UNDER_FITTED: "#5b8def",
    Label.GOOD: "#2e9e5b",
    Label.OVER_FITTED: "#e2711d",
    Label.DIVERGED: "#c62839",
    Label.STILL_IMPROVING: "#17a2a2",
    Label.UNDECIDED: "#9aa0a6",
}


def rows(scores: Scores) -> list[dict[str, Any]]:
    """One flat record per checkpoint; gains are shares of the base model's loss."""
    records = []
    for place, (lora, verdict) in enumerate(
        zip(scores.loras, scores.judgement.verdicts, strict=True)
    ):
        records.append(
            {
                "checkpoint": lora.label,
                "file": lora.path.name,
                "step": lora.step,
                "verdict": verdict.label.value,
                "recommended": place == scores.judgement.recommended,
                "as_good": place in scores.judgement.good,
                "gain": verdict.gain.mean,
                "gain_low": verdict.gain.low,
                "gain_high": verdict.gain.high,
                "training_gain": verdict.training_gain,
                **{
                    f"gain_{band.replace(' ', '_')}": value
                    for band, value in zip(BANDS, bands(scores.series, place), strict=True)
                },
                **_pictures(scores, place),
                "reason": " ".join([verdict.reason, *_remarks(scores, place)]),
            }
        )
    return records


def _pictures(scores: Scores, place: int) -> dict[str, float | None]:
    """The measures of a finalist's pictures; None for checkpoints without pictures."""
    if not scores.pictures:
        return {}
    summary = scores.pictures.get(place)
    names = next(iter(scores.pictures.values())).numbers()
    numbers = summary.numbers() if summary else dict.fromkeys(names)
    return {f"picture_{name}": number for name, number in numbers.items()}


def _remarks(scores: Scores, place: int | None) -> list[str]:
    summary = None if place is None else scores.pictures.get(place)
    return summary.remarks(scores.pictures.get(BASE, summary)) if summary else []


def as_csv(scores: Scores) -> str:
    records, text = rows(scores), io.StringIO()
    writer = csv.DictWriter(text, records[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


def as_json(scores: Scores) -> str:
    """Everything, for other programs; infinities and not-a-numbers become null."""
    best = scores.best
    content = {
        "best": best.path.name if best else None,
        "best_step": best.step if best else None,
        "best_strength": scores.best_strength,
        "note": scores.judgement.note,
        "holdout_pairs": len(scores.series.base.holdout),
        "training_pairs": len(scores.series.base.training),
        "checkpoints": [
            {name: _number(value) for name, value in record.items()} for record in rows(scores)
        ],
        "strengths": [
            {"strength": each.strength, "gain": each.gain.mean, "error": each.gain.error}
            for each in scores.strengths
        ],
    }
    return json.dumps(content, ensure_ascii=False, indent=2)


def write_scores(scores: Scores, folder: Path) -> Image.Image:
    """Save the scores as CSV, JSON and chart; returns the chart. Raises StorageError."""
    write_atomically(folder / "scores.csv", as_csv(scores).encode("utf-8-sig"))
    write_atomically(folder / "scores.json", as_json(scores).encode("utf-8"))
    chart = draw_chart(scores)
    write_picture(folder / "scores.png", chart)
    return chart


def as_table(scores: Scores) -> str:
    """A table in aligned columns; `>` marks the checkpoint to keep, `=` those just as good."""
    head = (
        "",
        say("checkpoint"),
        say("held-out gain"),
        say("95% between"),
        say("training gain"),
        say("verdict"),
    )
    pictures = (say("edit done"), say("preserved"), say("shift"), say("zoom"), say("border"))
    seen = ("PSNR", *pictures) if scores.pictures else ()
    table: list[tuple[str, ...]] = [(*head, *seen)]
    for place, record in enumerate(rows(scores)):
        mark = ">" if record["recommended"] else "=" if record["as_good"] else ""
        interval = between(record["gain_low"], record["gain_high"])
        table.append(
            (
                mark,
                record["checkpoint"],
                f"{record['gain']:.1%}",
                interval,
                f"{record['training_gain']:.1%}",
                Label(record["verdict"]).shown,
                *_seen(scores, place),
            )
        )
    if scores.pictures:
        table.append(("", say("base model"), "", "", "", "", *_seen(scores, BASE)))
    if scores.best:
        table.append(("",) * len(table[0]))
        for each in scores.strengths:
            mark = ">" if each.strength == scores.best_strength else ""
            interval = between(each.gain.low, each.gain.high)
            label = say(
                "{lora} at strength {strength:g}", lora=scores.best.label, strength=each.strength
            )
            gain = f"{each.gain.mean:.1%}"
            table.append((mark, label, gain, interval, "", "", *("" for _ in seen)))
    return aligned(table)


def between(low: float, high: float) -> str:
    return say("{low:.1%} and {high:.1%}", low=low, high=high) if np.isfinite(low) else "-"


def _seen(scores: Scores, place: int) -> tuple[str, ...]:
    summary = scores.pictures.get(place)
    if not summary:
        return ("",) * 6 if scores.pictures else ()
    moved = summary.displacement
    shown = (
        (f"{summary.psnr:.1f} dB", summary.psnr),
        (f"{summary.done:.0%}", summary.done),
        (f"{summary.preserved:.1f} dB", summary.preserved),
        (f"{moved.shift:.1f} px", moved.shift),
        (f"{moved.zoom - 1:+.1%}", moved.zoom),
        (f"{moved.border:.0f} px", moved.border),
    )
    return tuple(text if np.isfinite(value) else "-" for text, value in shown)


def as_verdicts(scores: Scores) -> str:
    """The advice, then every checkpoint's verdict and its reason."""
    lines = [
        say(
            "{checkpoint}: {verdict}. {reason}",
            checkpoint=each["checkpoint"],
            verdict=Label(each["verdict"]).shown,
            reason=each["reason"],
        )
        for each in rows(scores)
    ]
    return "\n".join([advice(scores), "", *lines])


def advice(scores: Scores) -> str:
    """The answer in a sentence or two."""
    judgement, best = scores.judgement, scores.best
    if best is None:
        return judgement.note
    good = [scores.loras[place].label for place in judgement.good]
    parts = [
        say("Keep {lora} at strength {strength:g}.", lora=best.label, strength=scores.best_strength)
    ]
    if len(good) > 1:
        parts.append(say("Just as good: {first} to {last}.", first=good[0], last=good[-1]))
    parts += [judgement.note, *_remarks(scores, judgement.recommended)]
    return " ".join(filter(None, parts))


def draw_chart(scores: Scores) -> Image.Image:
    """Held-out and training gain of every checkpoint with intervals, coloured by verdict."""
    with lettering():
        return drawn(score_figure(scores))


def score_figure(scores: Scores) -> Figure:
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch
    from matplotlib.ticker import PercentFormatter

    verdicts = scores.judgement.verdicts
    steps = np.array([lora.step for lora in scores.loras])
    by_step = len(set(steps)) == len(steps)
    x = steps if by_step else np.arange(len(steps))
    edges = _edges(x)
    gain = np.array([verdict.gain.mean for verdict in verdicts])
    reach = np.array([verdict.gain.high - verdict.gain.mean for verdict in verdicts])

    figure = Figure(figsize=(10, 5.6), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    for verdict, left, right in zip(verdicts, edges, edges[1:], strict=False):
        axes.axvspan(left, right, color=COLOURS[verdict.label], alpha=0.16, lw=0)
    axes.axhline(0, color="#444444", lw=1)
    axes.plot(
        x, [v.training_gain for v in verdicts], "--", color="#777777", label=say("training pairs")
    )
    bars = np.where(np.isfinite(reach), reach, 0)
    axes.errorbar(x, gain, bars, fmt="o-", color="#222222", capsize=4, label=say("held-out pairs"))
    seen = [place for place in sorted(scores.pictures) if place != BASE]
    if seen:
        dots = axes.twinx()
        nearer = [scores.pictures[p].psnr - scores.pictures[BASE].psnr for p in seen]
        dots.plot(x[seen], nearer, "s:", color="#7b3fa0")
        axes.plot([], [], "s:", color="#7b3fa0", label=say("pictures (right)"))
        dots.set_ylim(bottom=min(0.0, 1.1 * min(nearer)))
        dots.set_ylabel(say("PSNR of pictures above the base model's, dB"))
    recommended = scores.judgement.recommended
    if recommended is not None:
        axes.plot(x[recommended], gain[recommended], "*", ms=22, color="#2e9e5b", zorder=5)
    axes.set_xlim(edges[0], edges[-1])
    if np.nanmax(gain) > 0 and np.nanmin(gain) < -np.nanmax(gain):
        axes.set_ylim(bottom=-np.nanmax(gain))  # a diverged checkpoint must not flatten the rest
    labels, turned = [lora.label for lora in scores.loras], 30 if len(x) > 8 else 0
    axes.set_xticks(x, labels, rotation=turned, parse_math=False)  # file names: no formulas
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_ylabel(say("loss below the base model (higher is better)"))
    axes.set_title("\n".join(wrap(advice(scores), 95)), fontsize=13, loc="left", parse_math=False)
    present = dict.fromkeys(verdict.label for verdict in verdicts)
    handles, _ = axes.get_legend_handles_labels()
    handles += [Patch(color=COLOURS[label], alpha=0.4, label=label.shown) for label in present]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    return figure


def _edges(x: np.ndarray) -> np.ndarray:
    """Borders half-way between the places on the axis."""
    if len(x) == 1:
        return np.array([x[0] - 1, x[0] + 1])
    middle = (x[1:] + x[:-1]) / 2
    return np.concatenate([[2 * x[0] - middle[0]], middle, [2 * x[-1] - middle[-1]]])


def _number(value: Any) -> Any:
    return None if isinstance(value, float) and not np.isfinite(value) else value
