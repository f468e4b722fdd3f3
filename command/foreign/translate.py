"""Another trainer's settings as ours: each of theirs is translated, ignored for a known reason, or
reported to the user.

The knowledge about a trainer is data: its `Rule`s, and the keys that are idle here, with reasons.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

from ...language import say
from ...trainer.config import SETTINGS
from ...trainer.runs.job import JobError
from ...trainer.setting import real

LONGEST = 80  # letters of a value in a report

# Settings that only have a meaning together with another one, and are not taken over without it
DEPENDS_ON = {
    "learning_rate": "optimizer", "weight_decay": "optimizer", "beta1": "optimizer",
    "beta2": "optimizer", "lora_plus": "optimizer", "alpha": "rank", "restarts": "schedule",
    "huber_delta": "loss", "sigma_shift": "timesteps", "sigma_mean": "timesteps",
    "sigma_spread": "timesteps",
}  # fmt: skip


@dataclass(frozen=True)
class Nearest:
    """Our closest value to theirs; the user is informed."""

    value: Any


@dataclass(frozen=True)
class Rule:
    """A setting of ours and its names elsewhere; the first name that is set counts.

    `to` converts their value to ours, or to None if we have no such value. With `zero_is_off`, 0
    counts as not set.
    """

    ours: str
    theirs: tuple[str, ...]
    to: Callable[[Any], Any] | Mapping[str, Any] | None = None
    zero_is_off: bool = False


def rule(
    ours: str,
    *theirs: str,
    to: Callable[[Any], Any] | Mapping[str, Any] | None = None,
    zero_is_off: bool = False,
) -> Rule:
    return Rule(ours, theirs or (ours,), to, zero_is_off)


class Theirs:
    """Another trainer's settings by dotted names, and what has become of each of them."""

    def __init__(self, content: Mapping[str, Any], where: str = "") -> None:
        self.where = where
        self.left = {name: value for name, value in flat(content) if is_set(value)}
        self.config: dict[str, Any] = {}
        self.origin: dict[str, tuple[str, Any]] = {}  # of each in `config`
        self.remarks: list[str] = []
        self.idle: dict[str, list[str]] = {}
        self.parts = 0  # adopted

    def take(self, *names: str, default: Any = None) -> Any:
        """The first of these that is set; all of them count as used."""
        values = [self.left.pop(name, None) for name in names]
        return next((value for value in values if value is not None), default)

    def number(self, name: str) -> float:
        """A number, 0 if it is not set. JobError names a value that is none."""
        return number(self.take(name, default=0), self.where + name)

    def text(self, *names: str) -> str:
        """A text, "" if it is not set. JobError names a value that is none."""
        value = self.take(*names, default="")
        if isinstance(value, (list, dict)):
            raise JobError(
                say(
                    "{name} is {value}; it must be text.",
                    name=self.where + names[0],
                    value=repr(value),
                )
            )
        return str(value)

    def apply(self, rules: Iterable[Rule]) -> None:
        """Take over what the rules translate."""
        for each in rules:
            on = [
                name
                for name in each.theirs
                if name in self.left and not (each.zero_is_off and is_off(self.left[name]))
            ]
            if not on:
                self.take(*each.theirs)
                continue
            name, value = on[0], self.left[on[0]]
            found = translated(value, each)
            if found is None:
                self.origin[each.ours] = name, value  # named, and not understood
                continue
            if isinstance(found, Nearest):
                found = found.value
                self.remark(name, value, say("taken as {ours}", ours=found))
            self.take(*each.theirs)
            self.set(each.ours, found, name, value)

    def set(self, ours: str, value: Any, name: str, theirs: Any = None) -> None:
        """A setting of ours from theirs of this name; an error speaks of the latter."""
        self.config[ours] = replace(SETTINGS[ours], name=self.where + name).read(value)
        self.origin[ours] = name, value if theirs is None else theirs

    def default(self, ours: str, value: Any) -> None:
        """What their trainer does where the file says nothing."""
        if ours not in self.origin:
            self.config.setdefault(ours, value)

    def remark(self, name: str, value: Any, words: str) -> None:
        self.remarks.append(f"{self.where}{name}: {shortened(value)} ({words})")

    def settle(self) -> None:
        """Drop settings without the one they depend on. JobError for an adapter that this trainer
        lacks: nothing of the file would be left."""
        if "adapter" in self.origin and "adapter" not in self.config:
            name, value = self.origin["adapter"]
            raise JobError(
                say(
                    "{name} is {value}; this trainer has {choices}.",
                    name=self.where + name, value=value,
                    choices="lora, dora, lokr, loha",
                )
            )  # fmt: skip
        for ours, base in DEPENDS_ON.items():
            if base in self.origin and base not in self.config and ours in self.config:
                del self.config[ours]
                name, value = self.origin.pop(ours, ("", None))
                if name:
                    words = say("it depends on {other}", other=self.origin[base][0])
                    self.remark(name, value, words)

    def close(self, idle: Mapping[str, str]) -> None:
        """Sort the settings left: those that mean nothing here by reason, all others one by one.

        `idle` has space-separated patterns of names for each of `reasons`. Settings that are off
        are not reported.
        """
        why = {pattern: reason for reason, names in idle.items() for pattern in names.split()}
        for name, value in self.left.items():
            if is_off(value):
                continue
            reason = next((why[each] for each in why if fnmatchcase(name, each)), "")
            if reason:
                self.idle.setdefault(reason, []).append(self.where + name)
            else:
                self.remarks.append(f"{self.where}{name}: {shortened(value)}")

    def adopt(self, part: Theirs) -> None:
        """Take over the settings and remarks of a closed part. A value that differs from the first
        part's is reported: here, one value holds for all pairs."""
        self.remarks += part.remarks
        if not self.parts:
            self.config |= part.config
            self.origin |= part.origin
        for name, value in part.config.items():
            if self.config.get(name) != value:
                self.remarks.append(f"{part.where}{name}: {value}")
        self.parts += 1
        for reason, names in part.idle.items():
            self.idle.setdefault(reason, []).extend(names)

    def lines(self) -> list[str]:
        """The settings not taken over: first those reported one by one, then by reason."""
        known = reasons()
        grouped = [f"{known[reason]}: {', '.join(names)}" for reason, names in self.idle.items()]
        return self.remarks + grouped


def reasons() -> dict[str, str]:
    """Why a key of another trainer means nothing here."""
    return {
        "always": say("always so here"),
        "buckets": say("shapes are always kept, in steps of 16 pixels"),
        "cache": say("pictures and captions are always cached"),
        "files": say("files go to ComfyUI's output folder"),
        "log": say("log, chart and samples are always written; see `samples` and `tensorboard`"),
        "memory": say("ComfyUI and the memory plan decide this"),
        "metadata": say("LoRA files have metadata of their own"),
        "other": say("for other models or adapters"),
        "rank": say("ai-toolkit trains FLUX with the rank as alpha, whatever the file says"),
        "upload": say("nothing is uploaded"),
    }


def translated(value: Any, rule: Rule) -> Any:
    """Their value as ours, or None."""
    if isinstance(rule.to, Mapping):
        return rule.to.get(str(value).lower())
    return rule.to(value) if rule.to else value


def number(value: Any, name: str) -> float:
    """A finite number, possibly given as text. JobError names any other value."""
    found = real(value)
    if found is None:
        raise JobError(say("{name} is {value}; it must be a number.", name=name, value=repr(value)))
    return found


def is_set(value: Any) -> bool:
    """Whether a value is set: most files write "" for unset ones."""
    return value is not None and value not in ("", "None", [], {})


def is_off(value: Any) -> bool:
    return value is False or is_zero(value)


def is_zero(value: Any) -> bool:
    return str(value) in ("0", "0.0")


def flat(content: Mapping[str, Any], above: str = "") -> list[tuple[str, Any]]:
    """Nested settings as (dotted name, value)."""
    pairs: list[tuple[str, Any]] = []
    for key, value in content.items():
        inside = isinstance(value, Mapping)
        pairs += flat(value, f"{above}{key}.") if inside else [(f"{above}{key}", value)]
    return pairs


def shortened(value: Any) -> str:
    text = str(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} …"


def mappings(value: Any, where: str) -> list[Mapping[str, Any]]:
    """A list of mappings, also from a single one. JobError names anything else."""
    found = value if isinstance(value, list) else [value]
    wrong = next((repr(each) for each in found if not isinstance(each, Mapping)), "")
    if wrong:
        raise JobError(
            say(
                "{where}: {value} stands where `key: value` lines are expected.",
                where=where, value=shortened(wrong),
            )
        )  # fmt: skip
    return found
