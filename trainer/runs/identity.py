"""What a run is made from, and in words what another would be made from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from ...dataset.pair import Pair, PairedDataset
from ...files import content_hash
from ..config import TrainConfig

MOST_NAMED = 5
# What of a pair has changed, in words; other fields by their own names
PARTS = {"target": "other target pictures", "controls": "other control pictures"}
PARTS |= {"caption": "other captions", "split": "another split", "mask": "other masks"}


class RunError(ValueError):
    """A run's name is unfit, taken or unknown, or its files do not allow what was asked."""


@dataclass(frozen=True)
class Identity:
    """What a run was made from; a run can only be continued with the same.

    `pairs` has the words and the hashes of each pair's pictures, by stem; their names and places on
    disk don't matter. The hashes of the encoders are empty in runs that did not keep them.
    """

    config: TrainConfig
    base_hash: str
    dataset_hash: str
    start_hash: str = ""
    text_hash: str = ""
    vae_hash: str = ""
    pairs: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def differences(self, other: Identity) -> dict[str, str]:
        """What `other` would change: the name of each setting, and the change in words."""
        ours, theirs = asdict(self.config), asdict(other.config)
        changed = {
            name: f"{name} was {shown(ours[name])}, now {shown(theirs[name])}"
            for name in ours
            if ours[name] != theirs[name]
        }
        if self.base_hash != other.base_hash:
            changed["base"] = "another base model, or other LoRAs on it"
        if self.dataset_hash != other.dataset_hash:
            changed["pairs"] = pair_differences(self.pairs, other.pairs)
        if self.start_hash != other.start_hash:
            changed["start"] = "another LoRA to start from"
        if self.text_hash and self.text_hash != other.text_hash:
            changed["text"] = "other text encoders"
        if self.vae_hash and self.vae_hash != other.vae_hash:
            changed["vae"] = "another VAE"
        return changed


def identity_of(
    config: TrainConfig,
    pairs: PairedDataset,
    base_hash: str,
    text_hash: str,
    vae_hash: str,
    start_hash: str,
) -> Identity:
    """The identity of a run that trains on these. Reads every picture once."""
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
    """In words: pairs that have come, gone or changed, by name."""
    changes = {
        "pairs added": [stem for stem in theirs if stem not in ours],
        "pairs removed": [stem for stem in ours if stem not in theirs],
    }
    for stem in (stem for stem in ours if stem in theirs):
        for part in sorted(ours[stem].keys() | theirs[stem].keys()):
            if ours[stem].get(part) != theirs[stem].get(part):
                changes.setdefault(PARTS.get(part, f"another {part}"), []).append(stem)
    if not ours or not any(changes.values()):
        return "other pairs or captions, or another order of them"
    return ", ".join(f"{what}: {listed(stems)}" for what, stems in changes.items() if stems)


def listed(stems: Sequence[str]) -> str:
    more = len(stems) - MOST_NAMED
    return " ".join(sorted(stems)[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def shown(value: object) -> object:
    return "empty" if value == "" else value
