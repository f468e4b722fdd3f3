"""Workflow files (what the page saves) to the form the server's queue takes."""

from __future__ import annotations

from typing import Any

NOTES = {"Note", "MarkdownNote"}
UPLOAD_BUTTON = "IMAGEUPLOAD"
AFTER_GENERATE = {"fixed", "increment", "decrement", "randomize"}


WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")

Graph = dict[str, dict[str, Any]]


def api_form(workflow: dict[str, Any], nodes: dict[str, Any]) -> Graph:
    """The queue's form of a saved graph, as the page's own `graphToPrompt` makes it.

    `nodes` is the server's /object_info: inputs that a node has gained since the graph was saved
    get their defaults. Covers what the shipped graphs use: nothing muted or bypassed, no
    subgraphs, no reroutes.
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
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return with_defaults(prompt, nodes)


def with_defaults(prompt: Graph, nodes: dict[str, Any]) -> Graph:
    """The graph with every widget that it leaves out at its default."""
    full = {}
    for key, node in prompt.items():
        declared = nodes[node["class_type"]]["input"]
        defaults = {
            name: _default(*spec)
            for kind in ("required", "optional")
            for name, spec in declared.get(kind, {}).items()
            if _is_widget(*spec)
        }
        full[key] = {**node, "inputs": defaults | node["inputs"]}
    return full


def _is_widget(kind: str | list[str], options: Any = None) -> bool:
    shown = not (options or {}).get("forceInput")
    return shown and (isinstance(kind, list) or kind in WIDGETS)


def _default(kind: str | list[str], options: Any = None) -> Any:
    options = options or {}
    choices = kind if isinstance(kind, list) else options.get("options")
    if choices:
        return options.get("default", choices[0])
    return options.get("default", "" if kind == "STRING" else 0)


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


def nodes_of(prompt: Graph, class_type: str) -> list[dict[str, Any]]:
    """The nodes of one type in an API-form graph, to read or to change."""
    return [node for node in prompt.values() if node["class_type"] == class_type]


def substitute(prompt: Graph, changes: dict[str, dict[str, Any]]) -> None:
    """Set inputs by node type: `{"KontextTrainLora": {"steps": 4}}`."""
    for class_type, inputs in changes.items():
        for node in nodes_of(prompt, class_type):
            node["inputs"].update(inputs)
