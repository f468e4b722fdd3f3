"""The syntax for values to try: `0.5, 0.75`, `500-3000 (+500)`, `0.5-1.0 [6]`."""

import re
import unicodedata
from collections.abc import Sequence

from ...language import say

NUMBER = r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)"
RANGE = re.compile(
    rf"(?P<first>{NUMBER})\s*-\s*(?P<last>{NUMBER})\s*"
    rf"(?:\((?P<by>{NUMBER})\)|\[(?P<count>\d+)\])?"
)
MOST_VALUES = 200
LONGEST_PART = 60  # characters; longer numbers exceed a float's precision


def parse_numbers(text: str, axis: str) -> tuple[float, ...]:
    """The values of an axis in the order written, without repeats.

    A comma list of numbers and ranges as in the WebUI's X/Y/Z script: `1-4` counts by one,
    `1-9 (+2)` by the step given, `0.5-1.0 [6]` in that many even steps. Full-width signs count
    as plain ones. `axis` names the input in the error.
    """
    values: dict[float, None] = {}
    for part in filter(None, (part.strip() for part in _plain(text).split(","))):
        values.update(dict.fromkeys(_expand(part, axis)))
    if not values:
        raise ValueError(
            say("{axis} is empty. Write numbers such as 0.5, 1.0 or a range 1-4.", axis=axis)
        )
    if len(values) > MOST_VALUES:
        raise ValueError(
            say(
                "{axis} '{text}' gives {count} values; at most {most} fit in one comparison. Use "
                "a larger step.",
                axis=axis,
                text=text,
                count=len(values),
                most=MOST_VALUES,
            )
        )
    return tuple(values)


def parse_whole_numbers(text: str, axis: str) -> tuple[int, ...]:
    """As `parse_numbers`, for seeds and steps."""
    values = parse_numbers(text, axis)
    for value in values:
        if value != int(value):
            raise ValueError(
                say(
                    "{axis} takes whole numbers, not {value:g} (in '{text}').",
                    axis=axis,
                    value=value,
                    text=text,
                )
            )
    return tuple(int(value) for value in values)


def choose_steps(text: str, saved: Sequence[int]) -> tuple[int, ...]:
    """The saved checkpoints that `text` names: all if it is empty, else as `parse_numbers`.

    A range without a step (`500-2000`) takes every checkpoint saved in it; `last` is the newest.
    """
    if not text.strip():
        return tuple(saved)
    chosen: dict[int, None] = {}
    for part in filter(None, (part.strip() for part in _plain(text).split(","))):
        bounds = RANGE.fullmatch(part)
        if part.lower() == "last" and saved:
            steps = [saved[-1]]
        elif bounds and not bounds["by"] and not bounds["count"]:
            low, high = sorted((float(bounds["first"]), float(bounds["last"])))
            steps = [step for step in saved if low <= step <= high]
        else:
            steps = list(parse_whole_numbers(part, "checkpoints"))
        missing = [step for step in steps if step not in saved]
        if missing or not steps:
            listed = ", ".join(map(str, saved)) or "none"
            if not missing:
                raise ValueError(
                    say(
                        "checkpoints '{text}': nothing was saved there. Saved steps: {steps}.",
                        text=part,
                        steps=listed,
                    )
                )
            raise ValueError(
                say(
                    "checkpoints '{text}': step {step} was not saved. Saved steps: {steps}.",
                    text=part,
                    step=missing[0],
                    steps=listed,
                )
            )
        chosen.update(dict.fromkeys(steps))
    return tuple(sorted(chosen))


def _plain(text: str) -> str:
    """Full-width digits and signs to ASCII, every dash to '-', every separator to ','."""
    text = unicodedata.normalize("NFKC", text)
    return re.sub(r"[、;\n]", ",", re.sub(r"[‐-―−~]", "-", text))


def _expand(part: str, axis: str) -> list[float]:
    short = part[:LONGEST_PART] == part
    if short and re.fullmatch(NUMBER, part):
        return [float(part)]
    found = RANGE.fullmatch(part) if short else None
    if not found:
        raise ValueError(
            say(
                "{axis}: '{text}' is neither a number nor a range. Write for example 0.5, 1.0 or "
                "500-3000 (+500) or 0.5-1.0 [6].",
                axis=axis,
                text=part[:LONGEST_PART],
            )
        )
    first, last = float(found["first"]), float(found["last"])
    if found["count"]:
        count = int(found["count"])
        if count < 2:
            raise ValueError(
                say(
                    "{axis}: '{text}' needs a count of at least 2 in the brackets.",
                    axis=axis,
                    text=part,
                )
            )
        gap = (last - first) / (count - 1)
    elif found["by"]:
        gap = float(found["by"])
        if gap == 0 or (last - first) * gap < 0:
            raise ValueError(
                say(
                    "{axis}: the step in '{text}' never reaches {last:g} from {first:g}.",
                    axis=axis,
                    text=part,
                    last=last,
                    first=first,
                )
            )
    elif first == int(first) and last == int(last):
        gap = 1.0 if last >= first else -1.0
    else:
        raise ValueError(
            say(
                "{axis}: '{text}' needs a step or a count: {text} (+0.1) or {text} [6].",
                axis=axis,
                text=part,
            )
        )
    if gap == 0:
        return [first]
    # the tolerance keeps 0.5-1.0 (+0.1) from losing 1.0 to rounding
    count = int((last - first) / gap + 1e-6) + 1
    if count > MOST_VALUES:
        raise ValueError(
            say(
                "{axis}: '{text}' gives {count} values, more than {most}.",
                axis=axis,
                text=part,
                count=count,
                most=MOST_VALUES,
            )
        )
    return [round(first + index * gap, 6) for index in range(count)]
