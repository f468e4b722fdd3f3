"""ComfyUI's modules, and the names inside them that it does not promise to keep.

The pack opens them by `comfy_module` only. What this ComfyUI lacks does not stop the pack, only
what needs it: `require_names` says what is missing before a training begins.
"""

from __future__ import annotations

import ast
import importlib
import logging
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from ...language import say

TESTED = "0.18.2 – 0.30.0"
CLASS = re.compile(r"comfy(\.[a-z_0-9]+)+\.[A-Z]\w+")  # a class known by its name
ROOMS = (Path(__file__).parent, Path(__file__).parents[1] / "families")


class HostError(ValueError):
    """This ComfyUI lacks something."""


class AbsentError(HostError, AttributeError):
    """A module that this ComfyUI lacks was used."""


class NeverRaised(Exception):
    """In place of an exception that this ComfyUI does not have."""


class Absent:
    """In place of a module that this ComfyUI lacks."""

    def __init__(self, name: str) -> None:
        self.__name__ = name

    def __getattr__(self, name: str) -> Any:
        raise AbsentError(lacking(self.__name__))


# ---- opening modules -----------------------------------------------------------------------


def comfy_module(name: str) -> Any:
    """A module of ComfyUI, or an Absent, of which every use raises AbsentError."""
    try:
        return importlib.import_module(name)
    except (ImportError, AttributeError) as error:  # it is gone, or a name that it uses itself is
        logging.debug("%s: %s", name, error)
        return Absent(name)


def optional(owner: Any, name: str, otherwise: Any) -> Any:
    """What ComfyUI's module has under this name, for use outside of training too."""
    return getattr(owner, name, otherwise)


def as_host_error(error: Exception) -> Exception:
    """HostError in place of the error for a name that a module of ComfyUI lacks, or the same."""
    if isinstance(error, AttributeError) and isinstance(error.obj, ModuleType):
        owner = error.obj.__name__
        if owner.partition(".")[0] in ("comfy", "comfy_execution", "comfy_extras"):
            return HostError(lacking(f"{owner}.{error.name}"))
    return error


# ---- what is missing -----------------------------------------------------------------------


def require_names() -> None:
    """Raise HostError naming what is missing, rather than let training break half-way."""
    missing = missing_names()
    if missing:
        raise HostError(
            say(
                "This ComfyUI ({version}) lacks {names}, which training needs. Training was tested "
                "with ComfyUI {tested}: use one of these, or update Kontext LoRA Trainer.",
                version=version(),
                names=", ".join(missing),
                tested=TESTED,
            )
        )


def lacking(name: str) -> str:
    return say(
        "This ComfyUI ({version}) lacks {names}, which is needed here. Kontext LoRA Trainer was "
        "tested with ComfyUI {tested}: use one of these, or update it.",
        version=version(),
        names=name,
        tested=TESTED,
    )


def report_missing() -> None:
    """Log at start what is missing; everything but training works without it."""
    missing = missing_names()
    if missing:
        logging.error(
            "Kontext LoRA Trainer: training is off, because ComfyUI %s lacks %s (tested with %s).",
            version(),
            ", ".join(missing),
            TESTED,
        )


def version() -> str:
    return optional(comfy_module("comfyui_version"), "__version__", "?")


@cache
def missing_names() -> tuple[str, ...]:
    """The names that the code of these rooms uses and ComfyUI's modules do not have."""
    files = [path for room in ROOMS for path in sorted(room.glob("*.py"))]
    used = {each for path in files for each in used_names(path)}
    return tuple(sorted({name for each in used if (name := missing(*each))}))


def missing(owner: str, name: str) -> str:
    """What ComfyUI lacks of `owner.name`: the module, or the name; empty if it is there."""
    found = comfy_module(owner)
    if isinstance(found, Absent):
        return owner
    for part in name.split("."):
        owner = f"{owner}.{part}"
        if not hasattr(found, part):
            return owner
        found = getattr(found, part)
    return ""


def used_names(path: Path) -> Iterator[tuple[str, str]]:
    """Every `name` or `name.of.this` that a file uses of a module it opened, after the module; and
    the classes that it knows by their full names."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    modules = dict(opened(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            owner, _, name = ast.unparse(node).partition(".")
            if owner in modules and name.replace(".", "").isidentifier():
                yield modules[owner], name
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("swapped", "optional"):
            owner, *others = map(ast.unparse, node.args)
            if owner in modules:
                yield modules[owner], ast.literal_eval(others[0])
        elif isinstance(node, ast.Constant) and CLASS.fullmatch(str(node.value)):
            owner, _, name = str(node.value).rpartition(".")
            yield owner, name


def opened(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """What the modules that a file opens are called in it, and their full names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            opens = ast.unparse(node.value.func) in ("comfy_module", "host.comfy_module")
            if opens and isinstance(name := node.value.args[0], ast.Constant):
                yield ast.unparse(node.targets[0]), str(name.value)
