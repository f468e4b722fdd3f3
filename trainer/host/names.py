"""Names inside ComfyUI that training relies on, though ComfyUI does not promise to keep them."""

from __future__ import annotations

import ast
import importlib.util
import logging
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from comfyui_version import __version__

from ...language import say

TESTED = "0.18.2 – 0.30.0"
ROOMS = (Path(__file__).parent, Path(__file__).parents[1] / "families")


class HostError(ValueError):
    """This ComfyUI lacks something that training needs."""


def require_names() -> None:
    """Raise HostError naming what is missing, rather than let training break half-way."""
    missing = missing_names()
    if missing:
        raise HostError(
            say(
                "This ComfyUI ({version}) lacks {names}, which training needs. Training was tested "
                "with ComfyUI {tested}: use one of these, or update Kontext LoRA Trainer.",
                version=__version__,
                names=", ".join(missing),
                tested=TESTED,
            )
        )


def report_missing() -> None:
    """Log at start what is missing; everything but training works without it."""
    missing = missing_names()
    if missing:
        logging.error(
            "Kontext LoRA Trainer: training is off, because ComfyUI %s lacks %s (tested with %s).",
            __version__,
            ", ".join(missing),
            TESTED,
        )


@cache
def missing_names() -> tuple[str, ...]:
    """The names that the code of these rooms uses and ComfyUI's modules do not have."""
    files = [path for room in ROOMS for path in room.glob("*.py")]
    names = {name for path in files for name in used_names(path)}
    return tuple(sorted(f"{module}.{name}" for module, name in names if not is_there(module, name)))


def used_names(path: Path) -> Iterator[tuple[str, str]]:
    """Module and name of every `module.name` in a file, modules of ComfyUI only."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    modules = dict(imported(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and (module := modules.get(ast.unparse(node.value))):
            yield module, node.attr
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "swapped":
            owner, name = node.args[:2]  # host.swapped puts another thing under this name
            if ast.unparse(owner) in modules and isinstance(name, ast.Constant):
                yield modules[ast.unparse(owner)], str(name.value)


def imported(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """What ComfyUI's modules are called in a file, and their full names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for each in node.names:
                if each.name.partition(".")[0] == "comfy":
                    yield each.asname or each.name, each.name
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "comfy":
            for each in node.names:
                if is_module(str(node.module), each.name):
                    yield each.asname or each.name, f"{node.module}.{each.name}"


def is_there(module: str, name: str) -> bool:
    return hasattr(importlib.import_module(module), name) or is_module(module, name)


def is_module(package: str, name: str) -> bool:
    within = hasattr(importlib.import_module(package), "__path__")
    return within and importlib.util.find_spec(f"{package}.{name}") is not None
