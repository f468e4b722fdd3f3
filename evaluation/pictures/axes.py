"""The short texts that say which values to try: `0.5, 0.75`, `500-3000 (+500)`, `0.5-1.0 [6]`."""

import re
import unicodedata
from collections.abc import Sequence

NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)"
RANGE = re.compile(
    rf"(?P<first>{NUMBER})\s*-\s*(?P<last>{NUMBER})\s*"
    rf"(?:\((?P<by>{NUMBER})\)|\[(?P<count>\d+)\])?"
)
MOST_VALUES = 200


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
        raise ValueError(f"{axis} is empty. Write numbers such as 0.5, 1.0 or a range 1-4.")
    if len(values) > MOST_VALUES:
        raise ValueError(
            f"{axis} '{text}' gives {len(values)} values; {MOST_VALUES} are the most that fit "
            "in one comparison. Use a larger step."
        )
    return tuple(values)


def parse_whole_numbers(text: str, axis: str) -> tuple[int, ...]:
    """As `parse_numbers`, for seeds and steps."""
    values = parse_numbers(text, axis)
    for value in values:
        if value != int(value):
            raise ValueError(f"{axis} takes whole numbers, not {value:g} (in '{text}').")
    return tuple(int(value) for value in values)


def choose_steps(text: str, saved: Sequence[int]) -> tuple[int, ...]:
    """The saved checkpoints that `text` names: all when it is empty, else as `parse_numbers`.

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
            raise ValueError(
                f"checkpoints '{part}': {'step ' + str(missing[0]) if missing else 'nothing'} "
                f"was saved there. Saved steps: {listed}."
            )
        chosen.update(dict.fromkeys(steps))
    return tuple(sorted(chosen))


def _plain(text: str) -> str:
    """Full-width digits and signs to ASCII, every dash to '-', every separator to ','."""
    text = unicodedata.normalize("NFKC", text)
    return re.sub(r"[、;\n]", ",", re.sub(r"[‐-―−~]", "-", text))


def _expand(part: str, axis: str) -> list[float]:
    if re.fullmatch(NUMBER, part):
        return [float(part)]
    found = RANGE.fullmatch(part)
    if not found:
        raise ValueError(
            f"{axis}: '{part}' is neither a number nor a range. "
            "Write for example 0.5, 1.0 or 500-3000 (+500) or 0.5-1.0 [6]."
        )
    first, last = float(found["first"]), float(found["last"])
    if found["count"]:
        count = int(found["count"])
        if count < 2:
            raise ValueError(f"{axis}: '{part}' needs a count of at least 2 in the brackets.")
        gap = (last - first) / (count - 1)
    elif found["by"]:
        gap = float(found["by"])
        if gap == 0 or (last - first) * gap < 0:
            raise ValueError(f"{axis}: the step in '{part}' never reaches {last:g} from {first:g}.")
    elif first == int(first) and last == int(last):
        gap = 1.0 if last >= first else -1.0
    else:
        raise ValueError(f"{axis}: '{part}' needs a step or a count: {part} (+0.1) or {part} [6].")
    if gap == 0:
        return [first]
    # the tolerance keeps 0.5-1.0 (+0.1) from losing 1.0 to rounding
    count = int((last - first) / gap + 1e-6) + 1
    if count > MOST_VALUES:
        raise ValueError(f"{axis}: '{part}' gives {count} values, more than {MOST_VALUES}.")
    return [round(first + index * gap, 6) for index in range(count)]
