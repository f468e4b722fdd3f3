"""The import rule of the house: who may look into which room (docs/design/architecture.md)."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACK = ("captioning", "command", "dataset", "evaluation", "nodes", "routes", "trainer")
FILES = [path for room in PACK for path in sorted((ROOT / room).rglob("*.py"))]
FILES += [ROOT / f"{name}.py" for name in ("files", "language", "lines", "patterns", "values")]

# Each room of the trainer may import what stands before it, and itself
GROUND_FLOOR = ("setting", "setting_words", "config", "batch", "files", "parallel", "statistics")
GROUND = {f"trainer.{name}" for name in GROUND_FLOOR}
STOREYS = [GROUND, {"trainer.host", "trainer.network"}, {"trainer.families"}]
STOREYS += [{"trainer.loss", "trainer.runs"}, {"trainer.data"}, {"trainer"}]
COMFY = {"trainer/host", "captioning/core_vlm.py", "captioning/residence.py"}
# What several nodes share
COMMON = {"nodes.shared", "nodes.sockets", "nodes.setting_inputs", "nodes.captioner_inputs"}


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


NAMES = {name_of(path) for path in FILES}


def imports(path: Path, later: bool = True) -> Iterator[str]:
    """The modules a file imports, ours without the pack's name; without `later`, at its top."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    package = list(path.relative_to(ROOT).parts[:-1])
    for node in ast.walk(tree) if later else tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module or ""
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(
                [*package[: len(package) - node.level + 1], *filter(None, [node.module])]
            )
            inside = {f"{base}.{alias.name}" for alias in node.names} & NAMES
            yield from inside or {base}


def storey(module: str) -> int | None:
    """How high a module of the trainer stands; None for what is not the trainer's."""
    rooms = (
        level
        for level, names in enumerate(STOREYS)
        for name in names
        if module == name or module.startswith(f"{name}.")
    )
    return next(rooms, None)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_room_imports_only_what_stands_below_it(path):
    own = storey(name_of(path))
    for module in imports(path):
        above = storey(module)
        if own is not None and above is not None:
            assert above <= own, f"{module} is above"
            same_room = module.split(".")[:2] == name_of(path).split(".")[:2]
            assert above < own or own in (0, len(STOREYS) - 1) or same_room, (
                f"{module} is next door"
            )


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_only_the_host_rooms_import_comfyui(path):
    here = path.relative_to(ROOT).as_posix()
    if not any(here.startswith(room) for room in COMFY):
        assert [name for name in imports(path) if name.split(".")[0] == "comfy"] == []


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_nodes_stand_on_their_own(path):
    for module in imports(path):
        if module.startswith("nodes.") and module not in COMMON:
            assert path == ROOT / "nodes" / "__init__.py", module


def test_nothing_goes_in_a_circle():
    """At import; what a function imports later is its own affair."""
    graph = {name_of(path): NAMES.intersection(imports(path, later=False)) for path in FILES}
    TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("room", {path.parent for path in FILES if path.parent != ROOT})
def test_a_room_says_what_it_is(room):
    assert ast.get_docstring(ast.parse((room / "__init__.py").read_text(encoding="utf-8")))
