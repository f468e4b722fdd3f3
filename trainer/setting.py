"""The definition of one setting: its default, range or choices, and help.

A setting is a field of `TrainConfig`. Validation, the nodes' inputs, the conversion of YAML and the
tables in the docs are all derived from that field.
"""

from __future__ import annotations

import dataclasses
import math
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..language import say


class ConfigError(ValueError):
    """A training setting is unknown, of the wrong kind or out of its range."""


@dataclass(frozen=True)
class Setting:
    """A setting's name, default, help and limits.

    `zero` is the special meaning of 0, if it has one. With `several`, a list such as "512, 768" is
    accepted; `lines` marks a text of several lines. A setting that is not `on_node` can be set
    in files and in a node's `more`. `change` says when a run may be continued with another value:
    "never", "unfinished" (while steps are left) or "always".
    """

    name: str
    default: Any
    topic: str
    help: str
    low: float = -math.inf
    high: float = math.inf
    step: float = 1
    zero: str = ""
    choices: Mapping[str, str] = field(default_factory=dict)
    several: bool = False
    lines: bool = False
    on_node: bool = True
    change: str = "never"

    @property
    def kind(self) -> type:
        return type(self.default)

    def explain(self, zero: str = "") -> str:
        """The tooltip: help, choices and the meaning of 0, or `zero` in its place."""
        zero = zero or self.zero
        meanings = (f"{name}: {meaning}" for name, meaning in self.choices.items() if meaning)
        return " ".join((self.help, *meanings, *([f"0 = {zero}."] if zero else [])))

    def read(self, value: Any) -> Any:
        """The value from a file, a text or a node, converted and checked. Raises ConfigError.

        YAML reads 1e-4, which has no decimal point, as a string, and `off` as a boolean.
        """
        if self.several:
            return self._several(value)
        if self.kind is str:
            return self._text(value)
        if self.kind is bool:
            flag = {"true": True, "false": False}.get(str(value).lower())
            if flag is None:
                raise self._wrong(value, say("true or false"))
            return flag
        number = whole(value) if self.kind is int else real(value)
        if number is None:
            raise self._wrong(value, say("a whole number") if self.kind is int else say("a number"))
        if not self.low <= number <= self.high:
            raise ConfigError(
                say(
                    "{name} is {value}; it goes from {low} to {high}.",
                    name=self.name, value=value, low=self.low, high=self.high,
                )
            )  # fmt: skip
        return number

    def _text(self, value: Any) -> str:
        if isinstance(value, bool) and ("on" if value else "off") in self.choices:
            value = "on" if value else "off"
        if isinstance(value, (list, tuple)):
            value = ("\n" if self.lines else ", ").join(map(str, value))
        if value is None or isinstance(value, (bool, Mapping)):
            raise self._wrong(value, say("text"))
        text = str(value)
        if self.choices and text not in self.choices:
            raise ConfigError(
                say(
                    "{name} is {value}; choose one of {choices}.",
                    name=self.name, value=repr(text), choices=", ".join(self.choices),
                )
            )  # fmt: skip
        return text

    def _several(self, value: Any) -> int | str:
        parts = value if isinstance(value, (list, tuple)) else parts_of(value)
        numbers = dict.fromkeys(n for n in map(whole, parts) if n and self.low <= n <= self.high)
        if not numbers or any(whole(part) not in numbers for part in parts):
            raise ConfigError(
                say(
                    "{name} is {value}; write a whole number from {low} to {high}, or several with "
                    "commas between them: 512, 768.",
                    name=self.name, value=repr(value), low=self.low, high=self.high,
                )
            )  # fmt: skip
        first, *more = numbers
        return ", ".join(map(str, numbers)) if more else first

    def _wrong(self, value: Any, wanted: str) -> ConfigError:
        return ConfigError(
            say(
                "{name} is {value}; it must be {wanted}.",
                name=self.name, value=repr(value), wanted=wanted,
            )
        )  # fmt: skip


def setting(default: Any, low: float = -math.inf, high: float = math.inf, **details: Any) -> Any:
    """A field of TrainConfig; `details` are those of a Setting."""
    return field(default=default, metadata={"low": low, "high": high, **details})


def choice(choices: Mapping[str, str], **details: Any) -> Any:
    """A field for one of these names, each with its meaning; the first is the default."""
    return setting(next(iter(choices)), choices=choices, **details)


def settings_of(config: type) -> dict[str, Setting]:
    """The settings of a dataclass whose fields were made by `setting` and `choice`."""
    return {
        each.name: Setting(each.name, each.default, **each.metadata)
        for each in dataclasses.fields(config)
    }


def real(value: Any) -> float | None:
    """A finite number, possibly given as text, full-width too; None for anything else."""
    if isinstance(value, str):
        value = unicodedata.normalize("NFKC", value)
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def whole(value: Any) -> int | None:
    """A whole number, possibly given as text or as 2e3; None for anything else."""
    if isinstance(value, (int, str)) and not isinstance(value, bool):
        try:
            return int(value)  # exact: a float would round a large seed
        except ValueError:
            pass
    number = real(value)
    return int(number) if number is not None and number == int(number) else None


def parts_of(value: Any) -> list[str]:
    """The words of a list separated by commas (Chinese ones too), semicolons or spaces."""
    return re.findall(r"[^\s,;，、；]+", str(value))


def read_lines(text: str) -> dict[str, str]:
    """`name: value` settings, one per line. Raises ConfigError for any other line, and for a name
    that comes twice."""
    values: dict[str, str] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        name, *rest = map(str.strip, re.split("[:：]", line, maxsplit=1))
        if not rest:
            raise ConfigError(
                say("{line}: write one setting per line, as name: value.", line=repr(line))
            )
        if name in values:
            raise ConfigError(
                say("{name} is there twice. Write one line of it, with all its values.", name=name)
            )
        values[name] = rest[0]
    return values
