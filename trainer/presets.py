"""Settings for common kinds of edit; the presets themselves are data, in presets.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from .config import TrainConfig


@dataclass(frozen=True)
class Preset:
    """Settings for one kind of edit; `steps` 0 is automatic.

    `pairs` is the usual range of their number; `texts` has a title, reasons and a hint in each
    language.
    """

    config: TrainConfig
    pairs: tuple[int, int]
    texts: Mapping[str, Mapping[str, str]]


def read_presets(path: Path) -> dict[str, Preset]:
    """The presets of a YAML file, by name. Raises ConfigError for a setting that is wrong."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {
        name: Preset(
            TrainConfig.parse(each["settings"]),
            (min(each["pairs"]), max(each["pairs"])),
            {language: each[language] for language in ("en", "zh")},
        )
        for name, each in content.items()
    }


PRESETS = read_presets(Path(__file__).with_name("presets.yaml"))


def settings_for(name: str, resolution: int = 0) -> TrainConfig:
    """A preset's settings, at its own resolution or at another one."""
    config = PRESETS[name].config
    if not resolution:
        return config
    half = min(config.reference_resolution, resolution // 2)
    return config.replace(resolution=resolution, reference_resolution=half)


def reasons(language: str) -> str:
    """Why each preset has its settings, for the tooltip of the choice."""
    colon = "：" if language == "zh" else ": "
    texts = [preset.texts[language] for preset in PRESETS.values()]
    return " · ".join(f"{text['title']}{colon}{text['why']}" for text in texts)
