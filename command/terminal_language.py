"""Which language a terminal is in."""

from __future__ import annotations

import locale
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from .. import language

VARIABLES = ("LC_ALL", "LC_MESSAGES", "LANG")  # in the order of POSIX
UNDECIDED = ("C", "POSIX", "")


def terminal_language(environment: Mapping[str, str] = os.environ) -> str:
    """The locale of the terminal, else the language chosen in ComfyUI, else the system's.

    As a tag or a locale: "zh_CN.UTF-8", "zh-TW", "en".
    """
    named = (environment.get(name, "") for name in VARIABLES)
    given = next((value for value in named if value.partition(".")[0] not in UNDECIDED), "")
    return given or chosen_in_comfyui() or system_language()


def chosen_in_comfyui() -> str:
    """The language in ComfyUI's settings, once its folders are known; empty where none was."""
    folders = sys.modules.get("folder_paths")
    if folders is None:
        return ""
    path = Path(folders.get_user_directory()) / "default" / "comfy.settings.json"
    return language.chosen(path) if path.is_file() else ""


def system_language() -> str:
    """Windows says "Chinese (Simplified)_China", others what their variables say."""
    name = locale.getlocale()[0] or ""
    return "zh" if name.lower().startswith("chinese") else name or "en"
