"""The values of a job's file, checked and converted. Errors name the key and its value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...dataset.load import SEVERAL_CONTROLS, UNMATCHED
from ...language import say
from ..setting import real

SAMPLE_NUMBERS = ("every", "seed", "steps", "most")
SAMPLE_KEYS = {"prompts", "controls", *SAMPLE_NUMBERS}
CHOICES = {"several_controls": SEVERAL_CONTROLS, "unmatched": UNMATCHED}
SOURCE_TEXTS = {
    "control_folder", "target_folder", "pictures_folder", "mask_folder", "default_caption",
    "pattern", "file", "folder", "trigger",
}  # fmt: skip
SOURCE_KEYS = {*SOURCE_TEXTS, *CHOICES, "holdout", "repeats"}


class JobError(ValueError):
    """A job's file cannot be read, or lacks something."""


def read_source(where: str, given: Any) -> dict[str, Any]:
    """An entry of `pairs`, its values converted. JobError names a wrong one."""
    require_known(where, given, SOURCE_KEYS)
    source: dict[str, Any] = {}
    for key, value in given.items():
        name = f"{where}: {key}"
        if key == "holdout":
            source[key] = read_number(name, value)
        elif key == "repeats":
            source[key] = read_whole(name, value, least=1)
        elif key in CHOICES and value not in CHOICES[key]:
            raise JobError(
                say(
                    "{name} is {value}; choose one of {choices}.",
                    name=name, value=repr(value), choices=", ".join(CHOICES[key]),
                )
            )  # fmt: skip
        elif isinstance(value, list) and key == "control_folder":
            source[key] = "|".join(map(str, value))
        elif isinstance(value, (list, dict, bool)):
            raise JobError(say("{name} is {value}; it must be text.", name=name, value=repr(value)))
        else:
            source[key] = "" if value is None else str(value)
    return source


def read_start(given: Any) -> dict[str, Any]:
    """`start`: a LoRA's file, alone or with `resize`. JobError names a wrong value."""
    start = {"file": given} if isinstance(given, str) else given
    require_known("start", start, {"file", "resize"})
    for key, kind in (("file", str), ("resize", bool)):
        if not isinstance(start.get(key, kind()), kind):
            wanted = say("text") if kind is str else say("true or false")
            raise JobError(
                say(
                    "{name} is {value}; it must be {wanted}.",
                    name=f"start: {key}", value=repr(start[key]), wanted=wanted,
                )
            )  # fmt: skip
    return dict(start)


def read_number(name: str, value: Any) -> float:
    """A finite number of at least 0. JobError names any other value."""
    number = real(value)
    if number is None or number < 0:
        raise JobError(
            say("{name} is {value}; it must be a number from 0 on.", name=name, value=repr(value))
        )
    return number


def read_whole(name: str, value: Any, least: int = 0) -> int:
    """A whole number of at least `least`. JobError names any other value."""
    number = read_number(name, value)
    if number != int(number) or number < least:
        raise JobError(
            say(
                "{name} is {value}; it must be a whole number from {least} on.",
                name=name, value=repr(value), least=least,
            )
        )  # fmt: skip
    return int(number)


def read_samples(given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a SamplePlan, converted; controls stay file names."""
    require_known("samples", given, SAMPLE_KEYS)
    samples: dict[str, Any] = {}
    for name, value in given.items():
        if name in SAMPLE_NUMBERS:
            least = int(name == "most")
            samples[name] = read_whole(f"samples: {name}", value, least)
        elif isinstance(value, (str, list)):
            samples[name] = (value,) if isinstance(value, str) else tuple(map(str, value))
        else:
            raise JobError(
                say(
                    "{name} is {value}; it must be text, or a list of texts.",
                    name=f"samples: {name}",
                    value=repr(value),
                )
            )
    return samples


def require_known(where: str, given: Any, known: set[str]) -> None:
    """Raise JobError for unknown keys: most often they are misspelt."""
    if not isinstance(given, Mapping):
        raise JobError(
            say(
                "{name} is {value}; it must hold `key: value` lines.",
                name=where,
                value=repr(given),
            )
        )
    unknown = [str(key) for key in given if key not in known]
    if unknown:
        raise JobError(
            say(
                "{where}: unknown {names}. Known: {known}.",
                where=where,
                names=", ".join(unknown),
                known=", ".join(sorted(known)),
            )
        )
