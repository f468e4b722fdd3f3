"""Settings and their values as ComfyUI's interface shows them, in the user's language."""

from __future__ import annotations

from ..language import input_names, say, value_names

NODES = ("KontextTrainLora", "KontextTrainingSettings")


def setting_shown(name: str) -> str:
    return input_names(*NODES).get(name, name)


def value_shown(name: str, value: object) -> object:
    """The value itself, unless it is a switch, or a choice with another name in the interface."""
    if isinstance(value, bool):
        return say("on") if value else say("off")
    return value_names(*NODES).get(name, {}).get(str(value), value)


def setting_and_id(name: str) -> str:
    """Also with its name in run.yaml, for errors that a terminal shows too."""
    return with_id(setting_shown(name), name)


def value_and_id(name: str, value: object) -> object:
    shown = value_shown(name, value)
    return shown if isinstance(value, bool) else with_id(str(shown), str(value))


def with_id(shown: str, id_: str) -> str:
    return shown if id_ in shown.lower() else f"{shown}（{id_}）"
