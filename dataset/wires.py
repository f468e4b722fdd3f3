"""Which side of a pair a wire of ComfyUI's graph carries, by the nodes that it comes from."""

import re
from collections.abc import Mapping
from typing import Any

from ..language import say
from .finding import ERROR, Finding
from .names import CONTROL, TARGET, side_of
from .swapped import verdict

Graph = Mapping[str, Mapping[str, Any]]
"""As the server gets it: each node's `class_type`, `inputs`, of which wires are lists, `_meta`."""

LOADER = re.compile("load.*image", re.I)
"""Nodes that read pictures, ComfyUI's and other packs': `LoadImage`, `VHS_LoadImagesPath`."""


def swapped_wires(graph: Graph, node: str) -> list[Finding]:
    """Whether the wires into `control` and `target` of a node are swapped, or the same one."""
    inputs = graph.get(node, {}).get("inputs", {})
    wires = inputs.get(CONTROL), inputs.get(TARGET)
    if wires[0] and wires[0] == wires[1]:
        same = say("One wire leads into both control and target, so there is no edit.")
        remedy = say("Connect the picture before the edit to control, the one after it to target.")
        return [Finding("identical", ERROR, same, remedy)]
    control, target = (_behind(graph, wire) for wire in wires)
    evidence = []
    degraded = [_of_kind(graph, nodes, "KontextDegrade") for nodes in (control, target)]
    if degraded[0] != degraded[1]:
        worse = say("the target comes from Degrade Image")
        evidence.append((2, worse) if degraded[1] else (-2, ""))
    for side, nodes in ((CONTROL, control - target), (TARGET, target - control)):
        sides = {name: side_of(name, clearly=True) for name in _names(graph, nodes)}
        named = {other: name for name, other in sides.items() if other}
        if len(named) == 1:
            evidence += [
                (-2 if other == side else 2, _leads(side, named[other])) for other in named
            ]
    return verdict(
        evidence,
        say(
            "Exchange the two wires if this is so; otherwise rename the pictures and nodes that "
            "they come from."
        ),
    )


def _behind(graph: Graph, wire: Any) -> set[str]:
    """The nodes that a wire comes from, directly or through others."""
    found: set[str] = set()
    waiting = [wire]
    while waiting:
        wire = waiting.pop()
        if isinstance(wire, list) and str(wire[0]) in graph and str(wire[0]) not in found:
            found.add(str(wire[0]))
            waiting += graph[str(wire[0])]["inputs"].values()
    return found


def _of_kind(graph: Graph, nodes: set[str], kind: str) -> bool:
    return any(graph[node]["class_type"] == kind for node in nodes)


def _names(graph: Graph, nodes: set[str]) -> list[str]:
    """The titles of nodes that read pictures, and the files and folders that they read."""
    names = []
    for node in map(graph.__getitem__, sorted(nodes)):
        if LOADER.search(node["class_type"]):
            texts = [text for text in node["inputs"].values() if isinstance(text, str)]
            names += [node.get("_meta", {}).get("title", ""), *texts]
    return names


def _leads(side: str, name: str) -> str:
    if side == CONTROL:
        return say("“{name}” leads into control", name=name)
    return say("“{name}” leads into target", name=name)
