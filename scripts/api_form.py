"""Workflow files (what the page saves) to the form the server's queue takes."""

from __future__ import annotations

from typing import Any

NOTES = {"Note", "MarkdownNote"}
UPLOAD_BUTTON = "IMAGEUPLOAD"
AFTER_GENERATE = {"fixed", "increment", "decrement", "randomize"}


def api_form(workflow: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The queue's form of a saved graph, as the page's own `graphToPrompt` makes it.

    Covers what the shipped graphs use: nothing muted or bypassed, no subgraphs, no reroutes.
    """
    origins = {link[0]: (str(link[1]), link[2]) for link in workflow["links"]}
    prompt = {}
    for node in workflow["nodes"]:
        if node["type"] in NOTES:
            continue
        inputs = _widget_values(node)
        for slot in node.get("inputs", []):
            if slot.get("link") is not None:
                inputs[slot["name"]] = list(origins[slot["link"]])
        prompt[str(node["id"])] = {
            "class_type": node["type"],
            "inputs": inputs,
            "_meta": {"title": node.get("title", node["type"])},
        }
    return prompt


def _widget_values(node: dict[str, Any]) -> dict[str, Any]:
    widgets = [slot for slot in node.get("inputs", []) if "widget" in slot]
    values = list(node.get("widgets_values") or [])
    paired: dict[str, Any] = {}
    for slot in widgets:
        name, value = slot["widget"]["name"], values.pop(0)
        if slot["type"] == UPLOAD_BUTTON:
            continue
        paired[name] = value
        # A seed is followed by a choice that only the page knows.
        if "seed" in name and values and values[0] in AFTER_GENERATE:
            values.pop(0)
    return paired


def nodes_of(prompt: dict[str, dict[str, Any]], class_type: str) -> list[dict[str, Any]]:
    """The nodes of one type in an API-form graph, to read or to change."""
    return [node for node in prompt.values() if node["class_type"] == class_type]


def substitute(prompt: dict[str, dict[str, Any]], changes: dict[str, dict[str, Any]]) -> None:
    """Set inputs by node type: `{"KontextTrainLora": {"steps": 4}}`."""
    for class_type, inputs in changes.items():
        for node in nodes_of(prompt, class_type):
            node["inputs"].update(inputs)
