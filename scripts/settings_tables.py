"""Write the tables of settings and presets into the docs and the help pages, in both languages.

    python scripts/settings_tables.py

What they say stands in `trainer/config.py`, `trainer/presets.yaml` and `locales/zh/nodeDefs.json`.
A test fails while a page lags behind.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path

from boot import ROOT, import_pack

HELP = ROOT / "web" / "docs"
TOPICS = {
    "run": ("On *Train Kontext LoRA*", "在“训练 Kontext LoRA”上"),
    "basic": ("Basic", "常用"),
    "lora": ("The LoRA", "LoRA"),
    "learning": ("Learning", "学习过程"),
    "data": ("What it sees", "训练时看到什么"),
    "memory": ("Memory and speed", "显存与速度"),
    "record": ("Records", "记录"),
}


def pages() -> dict[Path, str]:
    """Every page that has such a table, as it should be."""
    chinese = json.loads((ROOT / "locales/zh/nodeDefs.json").read_text(encoding="utf-8"))
    inputs = chinese["KontextTrainingSettings"]["inputs"]
    tables = {
        ROOT / "docs" / "guide" / "training.md": {
            "## All settings": all_settings(),
            "## Presets": presets("en"),
        },
        HELP / "KontextTrainingSettings" / "en.md": {"## All inputs": node_settings(None)},
        HELP / "KontextTrainingSettings" / "zh.md": {"## 全部输入": node_settings(inputs)},
        HELP / "KontextTrainingPreset" / "en.md": {"## Presets": presets("en")},
        HELP / "KontextTrainingPreset" / "zh.md": {"## 预设": presets("zh")},
    }
    written = {}
    for path, of_page in tables.items():
        text = path.read_text(encoding="utf-8")
        for heading, table in of_page.items():
            text = with_table(text, heading, table)
        written[path] = text
    return written


def with_table(page: str, heading: str, rows: list[list[str]]) -> str:
    """The page with the first table below a heading replaced."""
    titles, *rest = rows
    lines = [f"| {' | '.join(row)} |" for row in (titles, ["---"] * len(titles), *rest)]
    pattern = rf"(?m)(^{re.escape(heading)}\n(?:(?!\|).*\n)*)(?:\|.*\n?)+"
    table = "\n".join(lines) + "\n"
    changed, count = re.subn(pattern, lambda match: match[1] + table, page)
    if count != 1:
        raise ValueError(f"There is no table below {heading!r}.")
    return changed


def all_settings() -> list[list[str]]:
    from kontext.trainer.config import SETTINGS

    rows = [["setting", "default", "values", "meaning"]]
    for topic, (title, _) in TOPICS.items():
        rows.append([f"**{title}**", "", "", ""])
        for each in (each for each in SETTINGS.values() if each.topic == topic):
            name = f"`{each.name}`" if each.on_node else f"`{each.name}` ᶠ"
            rows.append([name, shown(each.default), values(each), cell(each.explain())])
    return rows


def node_settings(chinese: dict[str, dict[str, str]] | None) -> list[list[str]]:
    """What is on *Kontext Training Settings*, in English or in the Chinese of the node."""
    from kontext.trainer.config import SETTINGS

    rows = [["输入", "默认值", "含义"] if chinese else ["input", "default", "meaning"]]
    for topic, titles in TOPICS.items():
        inside = [each for each in SETTINGS.values() if each.on_node and each.topic == topic]
        if topic == "run" or not inside:
            continue
        rows.append([f"**{titles[bool(chinese)]}**", "", ""])
        for each in inside:
            name, default, meaning = each.name, shown(each.default), each.explain()
            if chinese:
                words = chinese[each.name]
                name, meaning = words["name"], words["tooltip"]
                default = words.get("options", {}).get(default, default)
            rows.append([name, default, cell(meaning)])
    return rows


def presets(language: str) -> list[list[str]]:
    from kontext.language import node_texts
    from kontext.trainer.config import TrainConfig
    from kontext.trainer.presets import PRESETS
    from kontext.trainer.setting_words import NODES

    titles = {
        "en": ["preset", "pairs", "rank", "steps", "resolution", "timesteps", "save every", "also"],
        "zh": ["预设", "图片对", "秩", "步数", "分辨率", "时间步分布", "每多少步保存", "另外"],
    }
    automatic = {"en": "pairs × 100", "zh": "对数 × 100"}[language]
    columns = ("rank", "steps", "resolution", "timesteps", "save_every")
    usual = asdict(TrainConfig())
    inputs = {}
    for node in NODES:
        inputs |= node_texts(language).get(node, {}).get("inputs", {})
    named = inputs["timesteps"]["options"] if inputs else {}
    rows = [titles[language]]
    for preset in PRESETS.values():
        config, title = asdict(preset.config), preset.texts[language]["title"]
        other = {k: v for k, v in config.items() if v != usual[k] and k not in columns}
        values = [config[column] or automatic for column in columns]
        figures = [named.get(value, str(value)) for value in values]
        names = {k: inputs[k]["name"] if inputs else f"`{k}`" for k in other}
        also = ", ".join(f"{names[k]} {v:g}" for k, v in other.items())
        rows.append([title, "–".join(map(str, preset.pairs)), *figures, also])
    return rows


def values(setting) -> str:
    if setting.choices:
        return ", ".join(setting.choices)
    if setting.kind is bool:
        return "true, false"
    if setting.kind is str:
        return "text"
    return f"{setting.low:,} to {setting.high:,}" if setting.name != "seed" else "whole numbers"


def shown(default: object) -> str:
    if isinstance(default, bool):
        return str(default).lower()
    return f"{default:g}" if isinstance(default, float) else str(default).replace("\n", " / ")


def cell(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*").replace("_", "\\_")


def main() -> None:
    import_pack()
    for path, text in pages().items():
        if text != path.read_text(encoding="utf-8"):
            path.write_text(text, encoding="utf-8")
            print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
