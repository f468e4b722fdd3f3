"""What is missing inside ComfyUI is named, and turns off training only."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import comfy.model_management
import comfy.ops
import comfy.samplers
import pytest
from kontext.nodes import NODES, showing_errors
from kontext.trainer import host
from kontext.trainer.host import names

ROOT = Path(names.__file__).parents[2]
ROOMS = ("captioning", "command", "dataset", "evaluation", "nodes", "routes", "trainer")
PACK = [ROOT / "__init__.py", *(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))]
COMFYUI = {
    "app", "comfy", "comfy_api", "comfy_api_nodes", "comfy_config", "comfy_execution",
    "comfy_extras", "comfyui_version", "cuda_malloc", "execution", "folder_paths",
    "latent_preview", "main", "node_helpers", "nodes", "protocol", "server", "utils",
}  # fmt: skip
# Without these there are no nodes and no folders; __init__.py says which ComfyUI has them
FOUNDATION = {
    ("folder_paths", ""), *(("comfy_api.latest", name) for name in ("io", "ui", "ComfyExtension")),
}  # fmt: skip
COMFYUI_PATH = Path(comfy.model_management.__file__).parents[1]


@pytest.fixture
def lacking(monkeypatch):
    """A function: take a name out of ComfyUI's module, as another version may have done."""

    def take_out(module, name):
        monkeypatch.delattr(module, name)
        names.missing_names.cache_clear()

    yield take_out
    names.missing_names.cache_clear()


def imported_at_once(path):
    """(module, name) of ComfyUI's that a file imports when it is itself imported."""
    waiting = list(ast.parse(path.read_text("utf-8")).body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            waiting += node.orelse
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            waiting += ast.iter_child_nodes(node)
        found = []
        if isinstance(node, ast.Import):
            found = [(each.name, "") for each in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found = [(node.module, each.name) for each in node.names]
        yield from (each for each in found if each[0].partition(".")[0] in COMFYUI)


@pytest.mark.parametrize("path", PACK, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_of_comfyuis_is_needed_to_import_the_pack(path):
    assert set(imported_at_once(path)) <= FOUNDATION


@pytest.mark.parametrize("path", PACK, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_what_training_uses_is_checked(path):
    """Only the rooms of the host and of families, which are looked through, name ComfyUI's parts;
    captioning names those that it needs itself."""
    used = set(names.used_names(path))
    assert not used or path.parent in names.ROOMS or path.parent.name in ("captioning", "nodes")
    assert [name for each in used if (name := names.missing(*each))] == []


def test_this_comfyui_has_all_names():
    assert names.missing_names() == ()
    host.require_names()


@pytest.mark.parametrize(
    "module, name",
    [(comfy.model_management, "in_training"), (comfy.ops, "cast_bias_weight")],
    ids=lambda each: getattr(each, "__name__", each),
)
def test_what_is_missing_is_named(lacking, module, name):
    lacking(module, name)
    with pytest.raises(host.HostError, match=f"lacks {module.__name__}.{name}, which training"):
        host.require_names()


def test_a_node_that_needs_what_is_missing_says_so(lacking, monkeypatch):
    class Sampling:
        @classmethod
        def execute(cls):
            host.sample(model(), None, (), 64, 64, 0, sigmas=())

    def model():
        lacking(comfy.samplers, "CFGGuider")
        return FakeModel()

    class FakeModel:
        model = type("", (), {"latent_format": comfy.latent_formats.Flux()})

    with pytest.raises(host.HostError, match=r"lacks comfy\.samplers\.CFGGuider, which is needed"):
        showing_errors(Sampling).execute()


MISSING = [
    ["comfy.model_management.OOM_EXCEPTION", "comfy.model_management.InterruptProcessingException"],
    ["comfy.model_management.throw_exception_if_processing_interrupted"],
    ["comfy_execution.utils.get_executing_context", "comfy.patcher_extension"],
    ["comfy.text_encoders.flux", "comfy.lora_convert", "comfy.model_patcher.ModelPatcher"],
    ["comfy.cli_args", "comfy.utils.ProgressBar"],
    ["comfy_extras.nodes_flux", "comfy_extras.nodes_qwen.TextEncodeQwenImageEdit"],
]


@pytest.mark.slow
@pytest.mark.parametrize("missing", MISSING, ids=lambda missing: missing[0])
def test_the_rest_of_the_pack_goes_on(missing):
    """Imported anew, all nodes there, pairs loaded; training says what is missing."""
    script = Path(__file__).with_name("lacking.py")
    command = [sys.executable, str(script), str(COMFYUI_PATH), *missing]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["nodes"] == sorted(node.define_schema().node_id for node in NODES)
    assert "pairs" in found["loaded"] and "held out" in found["loaded"]
    named = [name for name in missing if name != "comfy.model_patcher.ModelPatcher"]
    for name in named:  # of that class only captioning makes one
        assert name in found["stopped"]
        assert any(name in line and "training is off" in line for line in found["said"])
    assert f"tested with ComfyUI {names.TESTED}" in found["stopped"]
