"""The graphs in `workflows/`, as `draw_graphs.py` builds them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Node:
    """One node: its type, its widgets' values by name, what feeds its inputs ("key.OUTPUT")."""

    key: str
    type: str
    widgets: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)
    size: tuple[int, int] | None = None
    title: str | None = None


@dataclass(frozen=True)
class Group:
    title: str
    colour: str
    nodes: tuple[Node, ...]


BLUE, GREEN, AMBER, PURPLE = "#3f789e", "#6b9e3f", "#b58b2a", "#8a5fa8"
