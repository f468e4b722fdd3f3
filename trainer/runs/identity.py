"""The identity of a run: its settings, pairs and models, and how two identities differ."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from ...dataset.pair import Pair, PairedDataset
from ...files import content_hash
from ...language import say
from ..config import TrainConfig
from ..setting_words import setting_and_id, value_and_id

MOST_NAMED = 5


class RunError(ValueError):
    """A run's name is invalid, taken or unknown, or its files lack what was requested."""


@dataclass(frozen=True)
class Identity:
    """The settings, pairs and models of a run, which can only be continued with the same ones.

    `pairs` has the texts and picture hashes of each pair, by stem; names and folders of the files
    do not matter. The encoders' hashes are empty in runs of versions that did not record them.
    """

    config: TrainConfig
    base_hash: str
    dataset_hash: str
    start_hash: str = ""
    text_hash: str = ""
    vae_hash: str = ""
    pairs: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def differences(self, other: Identity) -> dict[str, str]:
        """How `other` differs: each change in words, by the name of the setting."""
        ours, theirs = asdict(self.config), asdict(other.config)
        changed = {
            name: say(
                "{name} was {before}, now {after}",
                name=setting_and_id(name),
                before=shown(name, ours[name]),
                after=shown(name, theirs[name]),
            )
            for name in ours
            if ours[name] != theirs[name]
        }
        if self.base_hash != other.base_hash:
            changed["base"] = say("another base model, or other LoRAs on it")
        if self.dataset_hash != other.dataset_hash:
            changed["pairs"] = pair_differences(self.pairs, other.pairs)
        if self.start_hash != other.start_hash:
            changed["start"] = say("another LoRA to start from")
        if self.text_hash and self.text_hash != other.text_hash:
            changed["text"] = say("other text encoders")
        if self.vae_hash and self.vae_hash != other.vae_hash:
            changed["vae"] = say("another VAE")
        return changed


def identity_of(
    config: TrainConfig,
    pairs: PairedDataset,
    base_hash: str,
    text_hash: str,
    vae_hash: str,
    start_hash: str,
) -> Identity:
    """The identity of a run on these pairs and models. Reads every picture once."""
    marks = {pair.stem: pair_marks(pair) for pair in pairs}
    text = json.dumps(list(marks.items()), ensure_ascii=False)
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return Identity(config, base_hash, digest, start_hash, text_hash, vae_hash, marks)


def pair_marks(pair: Pair) -> dict[str, str]:
    """Each part of a pair as text: hashes for pictures, the rest as it is."""
    parts = {each.name: getattr(pair, each.name) for each in fields(pair) if each.name != "stem"}
    return {name: mark(value) for name, value in parts.items() if value is not None}


def mark(value: object) -> str:
    if isinstance(value, Path):
        return content_hash(value)
    return " ".join(map(mark, value)) if isinstance(value, tuple) else str(value)


def pair_differences(
    ours: Mapping[str, Mapping[str, str]], theirs: Mapping[str, Mapping[str, str]]
) -> str:
    """The pairs that were added, removed or changed, by name, in words."""
    changes = {
        say("pairs added"): [stem for stem in theirs if stem not in ours],
        say("pairs removed"): [stem for stem in ours if stem not in theirs],
    }
    for stem in (stem for stem in ours if stem in theirs):
        for part in sorted(ours[stem].keys() | theirs[stem].keys()):
            if ours[stem].get(part) != theirs[stem].get(part):
                changes.setdefault(part_changed(part), []).append(stem)
    if not ours or not any(changes.values()):
        return say("other pairs or captions, or another order of them")
    return say(", ").join(
        say("{name}: {text}", name=change, text=listed(stems))
        for change, stems in changes.items()
        if stems
    )


def part_changed(part: str) -> str:
    """That this field of a pair has changed, in words."""
    changes = {
        "target": say("other target pictures"),
        "controls": say("other control pictures"),
        "caption": say("other captions"),
        "split": say("another split"),
        "mask": say("other masks"),
    }
    return changes.get(part) or say("another {part}", part=part)


def listed(stems: Sequence[str]) -> str:
    names, more = " ".join(sorted(stems)[:MOST_NAMED]), len(stems) - MOST_NAMED
    return say("{names} and {count} more", names=names, count=more) if more > 0 else names


def shown(name: str, value: object) -> object:
    return say("empty") if value == "" else value_and_id(name, value)
