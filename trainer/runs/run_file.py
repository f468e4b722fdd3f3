"""run.yaml and pairs.json: the settings, pairs and models that a run was made from."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from ...dataset.text import read_text
from ...files import DamagedFileError, read_json, write_atomically
from ...language import say
from ...values import read_yaml
from ..config import KNOWN, ConfigError, TrainConfig
from .identity import Identity, RunError


class RunFile:
    """`run.yaml` in a run's folder, and `pairs.json` beside it."""

    def __init__(self, folder: Path, name: str) -> None:
        self.path, self.pairs, self.name = folder / "run.yaml", folder / "pairs.json", name

    def exists(self) -> bool:
        return self.path.is_file()

    def write_identity(self, identity: Identity) -> None:
        """Record what the run is made from, and keep the rest of run.yaml."""
        try:
            content = self.read() if self.exists() else {}
        except DamagedFileError:  # written anew
            content = {}
        content |= {
            "name": self.name,
            "begun": content.get("begun", time.strftime("%Y-%m-%d")),
            "changed": time.strftime("%Y-%m-%d %H:%M:%S"),
            "base_hash": identity.base_hash,
            "dataset_hash": identity.dataset_hash,
            "start_hash": identity.start_hash,
            "text_hash": identity.text_hash,
            "vae_hash": identity.vae_hash,
            "config": asdict(identity.config),
        }
        pairs = json.dumps(dict(identity.pairs), ensure_ascii=False, indent=0)
        write_atomically(self.pairs, pairs.encode("utf-8", "surrogatepass"))
        self.write(content)

    def write_plan(self, words: str) -> None:
        """Record the memory plan in run.yaml."""
        self.write(self.read() | {"memory_plan": words})

    def write(self, content: Mapping[str, Any]) -> None:
        """Replace run.yaml. Raises StorageError."""
        text = yaml.safe_dump(dict(content), allow_unicode=True, sort_keys=False)
        write_atomically(self.path, text.encode("utf-8"))

    def read(self) -> dict[str, Any]:
        """The content of run.yaml. Raises DamagedFileError if it is not a run's."""
        try:
            return deepcopy(settings_in(read_text(self.path).strip("\0")))
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
            raise DamagedFileError(
                say(
                    "{path} is damaged ({reason}). {remedy}",
                    path=self.path,
                    reason=reason,
                    remedy=say(
                        "Train under this name again: its content is then restored from the last "
                        "LoRA. Or move the folder away."
                    ),
                )
            ) from error

    def identity(self, noted: Callable[[], dict[str, Any]]) -> Identity:
        """What the run was made from; from `noted` if run.yaml is damaged.

        Raises RunError if neither can say, or for settings of a newer version.
        """
        try:
            content = self.read()
        except DamagedFileError as error:
            content = noted()
            if not content:
                raise RunError(str(error)) from error
            logging.warning("%s", error)
        unknown = content["config"].keys() - KNOWN
        if unknown:
            raise RunError(
                say(
                    "Run '{name}' has settings that this version of the trainer does not know: "
                    "{settings}. Update the trainer, or choose another name.",
                    name=self.name,
                    settings=say(", ").join(sorted(unknown)),
                )
            )
        names = [f"{of}_hash" for of in ("base", "dataset", "start", "text", "vae")]
        hashes: dict[str, str] = {name: content.get(name, "") for name in names}
        try:
            config = TrainConfig.parse(content["config"])
        except ConfigError as error:
            raise RunError(
                say(
                    "{path}: {error} Correct it there, or choose another name for the run.",
                    path=self.path,
                    error=error,
                )
            ) from error
        return Identity(config, **hashes, pairs=self.pair_marks())

    def pair_marks(self) -> Mapping[str, Mapping[str, str]]:
        """The hashes of each pair in pairs.json, which only name differences: empty if damaged."""
        try:
            marks = read_json(self.pairs, {}, "")
        except DamagedFileError as error:
            logging.warning("%s", error)
            return {}
        return {stem: parts for stem, parts in marks.items() if isinstance(parts, dict)}


@lru_cache(maxsize=1000)
def settings_in(text: str) -> dict[str, Any]:
    """The content of a run.yaml, parsed once: lists of all runs ask often. Raises ValueError."""
    content = read_yaml(text)
    if not isinstance(content, dict) or not isinstance(content.get("config"), dict):
        raise ValueError(say("no settings in it"))
    return content
