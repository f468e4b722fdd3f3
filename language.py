"""What a user reads, in English or Chinese.

Sentences stand in the code, in English; `locales/zh/messages.json` has the Chinese for each.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any

SETTING = "Comfy.Locale"
CATALOGUES = Path(__file__).parent / "locales"
_source: Callable[[], str] = lambda: "en"  # noqa: E731
_asked = ContextVar("asked", default="")


def follow(source: Callable[[], str]) -> None:
    """Ask `source` from now on which language the user reads, such as "en" or "zh-TW"."""
    global _source
    _source = source


@contextmanager
def asked_in(tag: str) -> Iterator[None]:
    """Within, the language of whoever asks counts, if they name one."""
    token = _asked.set(tag)
    try:
        yield
    finally:
        _asked.reset(token)


def chosen(settings: Path) -> str:
    """The language chosen in ComfyUI's settings file; empty where none was, or it is half written.

    Raises OSError if there is no such file.
    """
    try:
        content = json.loads(settings.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):  # ComfyUI is writing it at this moment, or it is broken
        return ""
    asked = content.get(SETTING) if isinstance(content, dict) else None
    return asked if isinstance(asked, str) else ""


def language() -> str:
    """The user's language, as a folder of `locales/` is named; English if there is none."""
    asked = _asked.get() or _source()
    return "zh" if asked.lower().startswith("zh") else "en"


def say(sentence: str, **values: object) -> str:
    """The sentence in the user's language, with the values in its {places}."""
    return catalogue(language()).get(sentence, sentence).format(**values)


def input_names(*nodes: str) -> dict[str, str]:
    """What the interface calls the inputs of these nodes, by id, where that is not the id."""
    texts = node_texts(language())
    inputs = [item for node in nodes for item in texts.get(node, {}).get("inputs", {}).items()]
    return {id_: words["name"] for id_, words in inputs if "name" in words}


def value_names(*nodes: str) -> dict[str, dict[str, str]]:
    """What the interface calls the values of these nodes' choices, by input and value."""
    texts = node_texts(language())
    inputs = [item for node in nodes for item in texts.get(node, {}).get("inputs", {}).items()]
    return {id_: words["options"] for id_, words in inputs if "options" in words}


@cache
def node_texts(name: str) -> dict[str, Any]:
    """ComfyUI's file of the names and tooltips of the pack's nodes in another language."""
    path = CATALOGUES / name / "nodeDefs.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


@cache
def catalogue(name: str) -> dict[str, str]:
    """Each English sentence of the pack in another language. English needs none."""
    path = CATALOGUES / name / "messages.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
